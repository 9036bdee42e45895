/** Runs ftlog, and says by name what is wrong with a log (docs/log-format.md). */
import { execFile } from "node:child_process";
import { join } from "node:path";
import { promisify } from "node:util";
import { FtError } from "../errors/error.js";
import { limits } from "../limits.js";

const run = promisify(execFile);

export const SAME_BUILD =
  "Upgrade ftctl on both hosts to the same build, then protect the container again.";

/** How ftlog ends when it is the log that is wrong (native/log/ftlog.c). */
const ENDS: Record<number, { code: string; hint: string }> = {
  3: {
    code: "LOG_DAMAGED",
    hint: "What this host holds of the log has changed since it was stored: look at its memory. Later output than the last checkpoint was released, so the service cannot go on from it unless the policy says `onDivergence: checkpoint`.",
  },
  4: { code: "LOG_VERSION", hint: SAME_BUILD },
  5: {
    code: "LOG_DAMAGED",
    hint: "The file is no event log, or its header is damaged. Protecting the container again makes a new one.",
  },
  6: { code: "RECORDER_DIFFERS", hint: SAME_BUILD },
};

/** @throws `LOG_VERSION`, `LOG_DAMAGED`, `RECORDER_DIFFERS`; `LOG_FAILED` for all else */
export function ftlogOf(nativeDir: string): (...args: (string | number)[]) => Promise<void> {
  return async (...args) => {
    const options = { timeout: limits.logCommandTimeoutMs };
    await run(join(nativeDir, "bin/ftlog"), args.map(String), options).catch((cause) => {
      const said = cause as { stderr?: string; stdout?: string; code?: number };
      const text = said.stderr?.trim() || said.stdout?.trim().split("\n")[0] || String(cause);
      throw logFailure(String(args[0]), String(args[1]), said.code, text, cause);
    });
  };
}

export function logFailure(
  verb: string,
  log: string,
  exitCode: number | undefined,
  text: string,
  cause?: unknown,
): FtError {
  const known = ENDS[exitCode ?? 0];
  return new FtError({
    code: known?.code ?? "LOG_FAILED",
    subject: log,
    message: `ftlog ${verb}: ${text}`,
    ...(known === undefined ? {} : { hint: known.hint }),
    cause,
  });
}
