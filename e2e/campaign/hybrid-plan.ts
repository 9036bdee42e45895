/** The plan of a campaign in mode hybrid: faults at what the mode is made of, the host's loss most often. */
import type { FaultPoint } from "../../orchestrator/faults/faults.js";
import type { WorkloadName } from "../workloads/workloads.js";
import { Random } from "./random.js";
import { among, type Choice, type Fault, type FaultKind, planCut, type Run } from "./run.js";

/** All but those whose processes talk by files or by memory that they share. */
export const recordable: readonly WorkloadName[] = [
  "redis",
  "redis-always",
  "redis-saving",
  "memcached",
  "lighttpd",
  "nginx",
  "nginx-1",
  "echo",
  "bank",
  "race-none",
  "race-counter",
  "race-flag",
];
/** Drawn unless others are asked for. */
export const hybridWorkloads: readonly WorkloadName[] = ["redis", "memcached", "echo"];

/** Points that only a takeover with a log passes count more than once. */
const points: readonly FaultPoint[] = [
  "takeover.arm",
  "takeover.arm",
  "takeover.replay",
  "takeover.replay",
  "takeover.connections",
  "takeover.connections",
  "takeover.restore",
  "takeover.live",
  "takeover.fence",
  "takeover.materialize",
  "epoch.ship.middle",
  "epoch.release.before",
  "epoch.commit.after",
  "dump.frozen",
  "store.commit",
  "gate.mark",
  "gate.release",
];

const kinds: readonly FaultKind[] = [
  "killHost",
  "killHost",
  "killHost",
  "killHost",
  "killHost",
  "killHost",
  "cut",
  "killAgent",
  "killProcess",
  "point",
  "point",
  "switchover",
];

export function planHybridRun(number: number, seed: number, choice: Choice): Run {
  const random = new Random(seed);
  return {
    number,
    seed,
    mode: "hybrid",
    workload: random.pick(choice.workloads),
    connections: random.pick([1, 4, 8, 8, 16]),
    pipeline: random.pick([1, 1, 1, 4, 16]),
    // Over more than an epoch (1 s), so that the strike falls anywhere between two checkpoints.
    afterMs: random.between(200, 1_800),
    // Three in four leave the processors time: what is under test is the fault, not how full the machine is.
    thinkMs: random.pick([0, 1, 2, 4]),
    // In the others the strike may fall before the log covers output: then nothing is replayed.
    covered: random.between(1, 6) > 1,
    ...(choice.pacing ? { pacing: choice.pacing } : {}),
    fault: planFault(random, among(kinds, choice)),
  };
}

function planFault(random: Random, kinds: readonly FaultKind[]): Fault {
  const kind = random.pick(kinds);
  const side = random.pick(["primary", "primary", "primary", "standby"] as const);
  switch (kind) {
    case "killHost":
      // The standby's loss is the duller of the two, and there is nothing to replay after it.
      return {
        kind,
        side: random.pick(["primary", "primary", "primary", "primary", side] as const),
      };
    case "killAgent":
      return { kind, side, forMs: random.between(0, 5_000) };
    case "cut":
      return planCut(random, side);
    case "point":
      return {
        kind,
        point: random.pick(points),
        action: random.pick(["crash", "crash", "error", "delay=300"] as const),
        // Checkpoints are rare in this mode.
        skip: random.between(0, 3),
      };
    case "killProcess": {
      const what = random.pick(["ftgate", "ftgate", "ftgate", "ftdump", "ftstore"] as const);
      if (what === "ftgate") return { kind, side, what };
      return { kind, side: what === "ftstore" ? "standby" : "primary", what };
    }
    default:
      return { kind: "switchover" };
  }
}
