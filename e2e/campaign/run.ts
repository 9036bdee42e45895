/** What one run of a campaign is, and from what it is drawn. */
import type { FaultPoint } from "../../orchestrator/faults/faults.js";
import type { FaultAction } from "../scenarios/fault-points.js";
import type { WorkloadName } from "../workloads/workloads.js";
import type { Random } from "./random.js";

export const campaignModes = ["checkpoint", "hybrid"] as const;
export type CampaignMode = (typeof campaignModes)[number];

/** Of the policy: whether replays enforce the recorded intervals, against data races. */
export const pacings = ["off", "on-retry", "always"] as const;
export type Pacing = (typeof pacings)[number];

export type Fault =
  | { kind: "killHost"; side: "primary" | "standby" }
  | { kind: "cut"; side: "primary" | "standby"; links: ("lan" | "replication")[]; forMs: number }
  | { kind: "killAgent"; side: "primary" | "standby"; forMs: number }
  | {
      kind: "killProcess";
      side: "primary" | "standby";
      what: "ftgate" | "ftdump" | "ftstore" | "application";
    }
  | { kind: "killDockerd"; side: "primary" | "standby"; forMs: number }
  | { kind: "point"; point: FaultPoint; action: FaultAction; skip: number }
  | { kind: "switchover" };

export const faultKinds = [
  "killHost",
  "cut",
  "killAgent",
  "killProcess",
  "killDockerd",
  "point",
  "switchover",
] as const satisfies readonly Fault["kind"][];
export type FaultKind = (typeof faultKinds)[number];

export interface Run {
  number: number;
  seed: number;
  workload: WorkloadName;
  connections: number;
  pipeline: number;
  /** Load before the fault. */
  afterMs: number;
  fault: Fault;
  /** Absent: checkpoint. */
  mode?: "hybrid";
  /** Mode hybrid: the strike waits until output waits for the log. */
  covered?: boolean;
  /** Mode hybrid. Absent: as the policy has it. */
  pacing?: Pacing;
  thinkMs?: number;
}

/** From what a plan is drawn. The same choice and seed make the same plan. */
export interface Choice {
  workloads: readonly WorkloadName[];
  mode?: CampaignMode;
  /** Only these. */
  kinds?: readonly FaultKind[];
  pacing?: Pacing;
}

/** What is left of a mode's kinds of fault. */
export function among(kinds: readonly FaultKind[], choice: Choice): readonly FaultKind[] {
  const left = kinds.filter((kind) => choice.kinds?.includes(kind) ?? true);
  if (left.length === 0) {
    throw new Error(`mode ${choice.mode ?? "checkpoint"} draws no ${choice.kinds?.join(", ")}`);
  }
  return left;
}

export function planCut(random: Random, side: "primary" | "standby"): Fault {
  const links = random.pick([["lan"], ["replication"], ["lan", "replication"]] as const).slice();
  return { kind: "cut", side, links, forMs: random.between(50, 4_000) };
}
