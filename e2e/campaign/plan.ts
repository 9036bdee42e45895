/** What a campaign will do: drawn from the seed before anything is done, so that it can be printed and repeated. */
import { FAULT_POINTS } from "../../orchestrator/faults/faults.js";
import type { WorkloadName } from "../workloads/workloads.js";
import { planHybridRun } from "./hybrid-plan.js";
import { Random } from "./random.js";
import { among, type Choice, type Fault, type FaultKind, planCut, type Run } from "./run.js";

/** Drawn unless others are asked for; a longer list would give every seed another plan. */
export const checkpointWorkloads: readonly WorkloadName[] = [
  "redis",
  "memcached",
  "nginx",
  "echo",
  "disk",
  "tree",
];

const sides = ["primary", "standby"] as const;

/** Host loss is what the product is for, so it is drawn more often. */
const kinds: readonly FaultKind[] = [
  "killHost",
  "killHost",
  "killHost",
  "cut",
  "cut",
  "killAgent",
  "killProcess",
  "killProcess",
  "killDockerd",
  "point",
  "point",
  "point",
  "switchover",
];

export function planCampaign(seed: number, runs: number, choice: Choice): Run[] {
  const random = new Random(seed);
  return Array.from({ length: runs }, (_, i) => planRun(i + 1, random.fork(), choice));
}

export function planRun(number: number, seed: number, choice: Choice): Run {
  if (choice.mode === "hybrid") return planHybridRun(number, seed, choice);
  const random = new Random(seed);
  return {
    number,
    seed,
    workload: random.pick(choice.workloads),
    connections: random.pick([1, 4, 8, 8, 16]),
    pipeline: random.pick([1, 1, 1, 4, 16]),
    afterMs: random.between(200, 2_500),
    fault: planFault(random, among(kinds, choice)),
  };
}

function planFault(random: Random, kinds: readonly FaultKind[]): Fault {
  const kind = random.pick(kinds);
  switch (kind) {
    case "killHost":
      // The standby's loss is the duller of the two.
      return { kind, side: random.pick(["primary", "primary", "primary", "standby"] as const) };
    case "cut":
      return planCut(random, random.pick(sides));
    case "killAgent":
      return { kind, side: random.pick(sides), forMs: random.between(0, 5_000) };
    case "killProcess":
      return planProcess(random);
    case "killDockerd":
      return { kind, side: random.pick(sides), forMs: random.between(0, 2_000) };
    case "point":
      return {
        kind,
        point: random.pick(FAULT_POINTS),
        action: random.pick(["crash", "crash", "error", "delay=300"] as const),
        skip: random.between(0, 40),
      };
    case "switchover":
      return { kind };
  }
}

function planProcess(random: Random): Fault {
  const what = random.pick(["ftgate", "ftgate", "ftdump", "ftstore", "application"] as const);
  const side = what === "ftstore" ? "standby" : what === "ftgate" ? random.pick(sides) : "primary";
  return { kind: "killProcess", side, what };
}

export function describeFault(fault: Fault): string {
  switch (fault.kind) {
    case "killHost":
      return `power loss of the ${fault.side}`;
    case "cut":
      return `${fault.links.join(" and ")} of the ${fault.side} cut for ${fault.forMs} ms`;
    case "killAgent":
      return `agent of the ${fault.side} killed, back after ${fault.forMs} ms`;
    case "killProcess":
      return `${fault.what} of the ${fault.side} killed`;
    case "killDockerd":
      return `dockerd of the ${fault.side} killed, back after ${fault.forMs} ms`;
    case "point":
      return `${fault.point}:${fault.action}:${fault.skip}`;
    case "switchover":
      return "switchover";
  }
}
