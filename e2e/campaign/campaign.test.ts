import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { workloads } from "../clients/report.js";
import { failureRateUpperBound } from "./confidence.js";
import { recordable } from "./hybrid-plan.js";
import { checkpointWorkloads, planCampaign, planRun } from "./plan.js";
import { Random } from "./random.js";
import { replaysIn } from "./replays.js";

/** The first two runs that mode checkpoint has always drawn from 20261122. */
const PLANNED = {
  first: {
    ...{ number: 1, seed: 124263093, workload: "nginx", connections: 8, pipeline: 16 },
    afterMs: 1224,
    fault: { kind: "cut", side: "standby", links: ["lan", "replication"], forMs: 302 },
  },
  second: {
    ...{ number: 2, seed: 1113720568, workload: "memcached", connections: 16, pipeline: 16 },
    afterMs: 2134,
    fault: { kind: "cut", side: "primary", links: ["lan", "replication"], forMs: 1635 },
  },
};

describe("the campaign's plan", () => {
  it("is the same for the same seed, and another for another", () => {
    const plan = (seed: number) => JSON.stringify(planCampaign(seed, 50, { workloads }));
    expect(plan(7)).toBe(plan(7));
    expect(plan(7)).not.toBe(plan(8));
  });

  it("can be repeated run by run", () => {
    const run = planCampaign(3, 20, { workloads })[16]!;
    expect(planRun(17, run.seed, { workloads })).toEqual(run);
  });

  it("draws every kind of fault", () => {
    const kinds = new Set(planCampaign(1, 300, { workloads }).map(({ fault }) => fault.kind));
    expect(kinds.size).toBe(7);
  });

  it("draws only the kinds it is told to", () => {
    const plan = planCampaign(1, 50, { workloads, kinds: ["killHost", "switchover"] });
    const kinds = new Set(plan.map(({ fault }) => fault.kind));
    expect(kinds).toEqual(new Set(["killHost", "switchover"]));
  });

  // A seed that somebody has noted must go on meaning what it meant.
  it("is what it was for the seeds of mode checkpoint", () => {
    const [first, second] = planCampaign(20261122, 2, { workloads: checkpointWorkloads });
    expect({ first, second }).toEqual(PLANNED);
  });
});

describe("the plan of mode hybrid", () => {
  const plan = planCampaign(5, 300, { workloads: recordable, mode: "hybrid" });

  it("can be repeated run by run", () => {
    const run = plan[16]!;
    expect(planRun(17, run.seed, { workloads: recordable, mode: "hybrid" })).toEqual(run);
  });

  it("draws the loss of the primary most often, covered by the log and not", () => {
    const lost = plan.filter(({ fault }) => fault.kind === "killHost" && fault.side === "primary");
    const faults = new Set(plan.map(({ fault }) => fault.kind));
    expect(lost.length).toBeGreaterThan(100);
    expect([...faults].sort()).toEqual(
      ["cut", "killAgent", "killHost", "killProcess", "point", "switchover"].sort(),
    );
    const covered = plan.filter(({ covered }) => covered).length;
    expect(covered).toBeGreaterThan(200);
    expect(covered).toBeLessThan(290);
  });

  it("strikes at each phase that replays, and loads no other than what can be recorded", () => {
    const points = new Set(plan.map(({ fault }) => (fault.kind === "point" ? fault.point : "")));
    for (const point of ["takeover.arm", "takeover.replay", "takeover.connections"] as const) {
      expect(points).toContain(point);
    }
    expect(new Set(plan.map(({ workload }) => workload))).toEqual(new Set(recordable));
  });

  it("refuses kinds of fault that it never draws", () => {
    const choice = { workloads: recordable, mode: "hybrid", kinds: ["killDockerd"] } as const;
    expect(() => planCampaign(1, 1, choice)).toThrow("draws no killDockerd");
  });
});

describe("what takeovers had to replay", () => {
  it("is counted from the agents' lines, whatever else and however torn they are", () => {
    const lines = [
      '{"level":30,"pair":"p","type":"takeover-done","replayMs":3.5,"replayed":1000,"outputs":90,"attempts":2,"msg":"took over"}',
      '{"level":50,"type":"replay-failed","attempt":1,"outcome":"diverged","msg":"attempt 1: diverged: what=output"}',
      '{"level":30,"type":"takeover-done","epoch":4,"msg":"took over without a log"}',
      'Warning: {"type":"replay-failed","outcome":"stalled","msg":"attempt 1: stalled"}',
      '{"level":30,"type":"takeover-done","replayMs":1,"repl',
      '{"level":30,"type":"log-not-replayed","msg":"output waited for checkpoints: epoch 4 is the end"}',
      "",
    ];
    expect(replaysIn(lines.join("\n"))).toEqual({
      ...{ replayed: 1, atOnce: 0, events: 1000, outputs: 90, ms: 3.5, uncovered: 1, attempts: 3 },
      ...{ diverged: 1, stalled: 1, otherwise: 0 },
      why: ["attempt 1: diverged: what=output", "attempt 1: stalled"],
    });
  });
});

describe("Random", () => {
  it("stays within its bounds and reaches both", () => {
    fc.assert(
      fc.property(fc.integer(), fc.integer({ min: 0, max: 9 }), (seed, max) => {
        const random = new Random(seed);
        const drawn = Array.from({ length: 200 }, () => random.between(0, max));
        expect(Math.min(...drawn)).toBe(0);
        expect(Math.max(...drawn)).toBe(max);
      }),
      { numRuns: 50 },
    );
  });
});

describe("the bound on the rate of failure", () => {
  // Reference values of the Clopper-Pearson interval (one-sided, 95 %).
  it.each([
    [100, 0, 0.02951],
    [10, 0, 0.25887],
    [100, 1, 0.04656],
    [20, 3, 0.34366],
    [5, 5, 1],
    [0, 0, 1],
  ])("for %i runs with %i failures is %f", (n, failures, expected) => {
    expect(failureRateUpperBound(n, failures)).toBeCloseTo(expected, 4);
  });
});
