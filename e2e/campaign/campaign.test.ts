import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { workloads } from "../clients/report.js";
import { failureRateUpperBound } from "./confidence.js";
import { planCampaign, planRun } from "./plan.js";
import { Random } from "./random.js";

describe("the campaign's plan", () => {
  it("is the same for the same seed, and another for another", () => {
    const plan = (seed: number) => JSON.stringify(planCampaign(seed, 50, workloads));
    expect(plan(7)).toBe(plan(7));
    expect(plan(7)).not.toBe(plan(8));
  });

  it("can be repeated run by run", () => {
    const run = planCampaign(3, 20, workloads)[16]!;
    expect(planRun(17, run.seed, workloads)).toEqual(run);
  });

  it("draws every kind of fault", () => {
    const kinds = new Set(planCampaign(1, 300, workloads).map(({ fault }) => fault.kind));
    expect(kinds.size).toBe(7);
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
