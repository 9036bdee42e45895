/** The agent's end of `ftrestore`: brings the last checkpoint to life in the waiting container. */
import { execa } from "execa";
import { FtError } from "../orchestrator/errors/error.js";
import { LineFields, parseLine } from "../orchestrator/network/line-client.js";

export interface RestoreOptions {
  program: string;
  /** Of the standby's ftinit, on the host. */
  initPid: number;
  toolkit: string;
  hook: string;
  /** Folder with the images. */
  images: string;
  log: string;
  subject: string;
  timeoutMs: number;
}

export interface Restored {
  /** Inside of the container. */
  pid: number;
  restoreMs: number;
}

export async function restore(options: RestoreOptions): Promise<Restored> {
  const { program, initPid, toolkit, hook, images, log, timeoutMs, subject } = options;
  const result = await execa(
    program,
    [
      ...["--init-pid", String(initPid), "--toolkit", toolkit, "--hook", hook],
      ...["--images", images, "--log", log, "--timeout-ms", String(timeoutMs)],
    ],
    // Its own bound comes first: it ends CRIU properly.
    { reject: false, stdin: "ignore", timeout: timeoutMs + 5_000 },
  );
  const line = parseLine(result.stdout.split("\n")[0] ?? "");
  const fields = new LineFields(subject, line?.values ?? new Map());
  if (line?.kind === "ok") {
    return { pid: fields.number("pid"), restoreMs: fields.number("restore_us") / 1000 };
  }
  const detail = line?.kind === "fail" ? fields.textOr("detail", "") : result.stderr;
  const [first = "no reply", ...quoted] = detail.split("\n").filter(Boolean);
  throw new FtError({
    code: "RESTORE_FAILED",
    subject,
    message: first,
    hint: "The checkpoint is kept. CRIU's log has the whole story.",
    log,
    quoted,
  });
}
