/** Turns a failure of ftdump or ftrestore into an `FtError` that quotes CRIU's own lines. */
import { FtError } from "../orchestrator/errors/error.js";
import { LineFailure } from "../orchestrator/network/line-client.js";

export interface EngineFailureNames {
  code: "CHECKPOINT_FAILED" | "RESTORE_FAILED";
  subject: string;
}

const HINTS: Record<string, string> = {
  gone: "The application or its container has ended; `ftctl status` shows what became of it.",
  barrier: "The gate did not answer; the agent restarts it.",
  files: "The message names the file; `ftctl check` tells what cannot be captured.",
  timeout:
    "A process did not stop in time, mostly one that waits for a disk; the next epoch tries again.",
  busy: "The container has an application already; it is not restored a second time.",
  corrupt: "The images are damaged; the epoch has to be materialized again.",
  init: "The container's first process is not ftinit, or has ended.",
};

/** CRIU's lines follow the first line of `detail`. */
export function splitDetail(detail: string): { what: string; quoted: string[] } {
  const [what = "", ...quoted] = detail.split("\n").map((line) => line.trim());
  return { what, quoted: quoted.filter((line) => line !== "") };
}

export function engineFailure(names: EngineFailureNames, thrown: unknown): unknown {
  if (!(thrown instanceof LineFailure)) return thrown;
  const { what, quoted } = splitDetail(thrown.fields.textOr("detail", ""));
  const stage = thrown.fields.textOr("stage", "");
  return new FtError({
    ...names,
    message: `${stage === "" ? "" : `at stage ${stage}: `}${what === "" ? thrown.slug : what}`,
    hint: HINTS[thrown.slug] ?? "CRIU says why below; `ftctl check` looks for what it cannot dump.",
    log: thrown.log,
    quoted,
    cause: thrown,
  });
}
