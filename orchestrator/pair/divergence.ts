/** What follows when a replay fails: first the same checkpoint again with other timing, then what the policy says. Pure. */
import type { PolicySpec } from "../../policies/schema.js";
import { limits } from "../limits.js";
import type { ReplayOutcome } from "./ports.js";

type DivergencePolicy = Pick<PolicySpec, "pacing" | "onDivergence">;

/** Whether the attempt (the first is 1) enforces the recorded intervals between calls. */
export function isPaced({ pacing }: DivergencePolicy, attempt: number): boolean {
  return pacing === "always" || (pacing !== "off" && attempt > 1);
}

/** A log that is corrupt stays so: only what depends on timing is tried again. */
export function afterFailedReplay(
  { onDivergence }: DivergencePolicy,
  attempt: number,
  outcome: ReplayOutcome["outcome"] | "no report",
): "again" | "checkpoint" | "stop" {
  if (outcome !== "corrupt") {
    const attemptsMax =
      onDivergence === "retry" ? limits.replayAttemptsOnRetryMax : limits.replayAttemptsMax;
    if (attempt < attemptsMax) return "again";
  }
  return onDivergence === "checkpoint" ? "checkpoint" : "stop";
}
