/**
 * `mode: auto`: hybrid if everything that can be seen beforehand speaks for it, else checkpoint, which needs nothing of the
 * application. What shows only later (a child that serves clients though its parent has threads) costs no protection either:
 * output then waits for checkpoints, with the event `log-broken`.
 */
import type { CheckResult } from "../agent/api-types.js";
import { results, some } from "./findings.js";
import { recorderFindings } from "./host-checks.js";
import type { HostFacts } from "./host-facts.js";
import { recordingFindings } from "./workload-checks.js";
import type { WorkloadFacts } from "./workload-facts.js";

export interface ChosenMode {
  mode: "checkpoint" | "hybrid";
  reason: string;
}

type Recorder = Pick<HostFacts, "host" | "recorderBuild">;

/** @param workload  absent: it does not run, so nothing is known of it */
export function chooseMode(
  workload: WorkloadFacts | undefined,
  primary: Recorder,
  standby: Recorder | undefined,
): ChosenMode {
  if (workload === undefined) return { mode: "checkpoint", reason: "the container does not run" };
  if (standby === undefined) {
    return { mode: "checkpoint", reason: "the standby cannot be asked what it replays" };
  }
  const found = [...recordingFindings(workload), ...recorderFindings(primary, standby)];
  if (found.length === 0) return { mode: "hybrid", reason: "all its processes can be recorded" };
  return { mode: "checkpoint", reason: some(found.map((finding) => finding.reason)) };
}

/** Nothing fails for want of recording; what stands in its way is said. */
export function modeChecks(recorded: boolean, reason: string, host: string): CheckResult[] {
  return results("mode", host, [], `auto: ${recorded ? "hybrid" : "checkpoint"} (${reason})`);
}
