/** Docker's answers as errors of ours: what happened, to what, and what to do. */
import { ExitCode, FtError } from "../errors/error.js";

const UNREACHABLE = new Set([
  "ENOENT",
  "ECONNREFUSED",
  "EACCES",
  "ECONNRESET",
  "EPIPE",
  "ENOTSOCK",
]);

interface DockerFailure {
  statusCode?: number;
  code?: string;
  reason?: string;
  message?: string;
  json?: { message?: string };
}

/** `what` reads as in "could not …": `start the container`. */
export function dockerError(thrown: unknown, subject: string, what: string): FtError {
  if (thrown instanceof FtError) return thrown;
  const failure = thrown as DockerFailure;
  if (failure.code !== undefined && UNREACHABLE.has(failure.code)) {
    return unreachableDocker(failure, subject, what, thrown);
  }
  const said = (failure.json?.message ?? failure.message ?? String(thrown)).trim();
  const fields = { subject, message: `could not ${what}: ${said}`, cause: thrown };
  if (/no space left on device/i.test(said)) {
    return new FtError({
      ...fields,
      code: "DISK_FULL",
      message: `could not ${what}: the disk that holds Docker's data is full`,
      hint: "Make room (docker system df, docker system prune) and try again.",
      quoted: [said],
    });
  }
  if (/no such image|image not found|not found: manifest/i.test(said)) {
    return new FtError({ ...fields, code: "IMAGE_NOT_FOUND", exitCode: ExitCode.notFound });
  }
  if (/multiple ids found|ambiguous/i.test(said)) {
    return new FtError({
      ...fields,
      code: "CONTAINER_AMBIGUOUS",
      hint: "Give more digits of the id, or the whole name.",
      exitCode: ExitCode.usage,
    });
  }
  if (failure.statusCode === 404 && /container/i.test(said)) {
    return new FtError({
      ...fields,
      code: "CONTAINER_NOT_FOUND",
      message: "there is no such container",
      hint: "docker ps -a lists those there are.",
      exitCode: ExitCode.notFound,
    });
  }
  if (failure.statusCode === 404) {
    return new FtError({ ...fields, code: "DOCKER_NOT_FOUND", exitCode: ExitCode.notFound });
  }
  if (failure.statusCode === 409) return new FtError({ ...fields, code: "DOCKER_CONFLICT" });
  return new FtError({ ...fields, code: "DOCKER_FAILED" });
}

function unreachableDocker(
  failure: DockerFailure,
  subject: string,
  what: string,
  cause: unknown,
): FtError {
  const denied = failure.code === "EACCES";
  return new FtError({
    code: "DOCKER_UNREACHABLE",
    subject,
    message: `could not ${what}: ${denied ? "Docker's socket may not be opened" : "Docker does not answer"} (${failure.code})`,
    hint: denied
      ? "The agent runs as root; see who owns Docker's socket."
      : "Is dockerd running (systemctl status docker), and is the socket in the agent's configuration its own?",
    cause,
  });
}

export function dockerTimeout(subject: string, what: string, timeoutMs: number): FtError {
  return new FtError({
    code: "DOCKER_TIMEOUT",
    subject,
    message: `could not ${what}: no answer from Docker within ${timeoutMs} ms`,
    hint: "dockerd is overloaded or hangs: its own log says more (journalctl -u docker).",
    exitCode: ExitCode.timeOut,
  });
}
