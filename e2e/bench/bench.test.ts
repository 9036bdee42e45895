import { describe, expect, it } from "vitest";
import { averageSince } from "./measure.js";
import { withOverheads } from "./overhead.js";
import type { BenchRow } from "./rows.js";

const row = (configuration: string, avg: number, more: Partial<BenchRow> = {}): BenchRow => ({
  ...{ configuration, workload: "redis", connections: 1, throughputRps: 5_000, seconds: 2 },
  latencyUs: { avg, p50: avg, p99: avg },
  ...more,
});
const hybrid = row("hybrid", 200, {
  outputDelayMs: { avg: 0.08, p50: 0.07, p99: 0.2 },
  shipDelayMs: { avg: 0.06, p50: 0.05, p99: 0.1 },
  pauses: 2,
  pauseMs: { p50: 10, p99: 12 },
});

describe("the split of mode hybrid's overhead", () => {
  it("adds up to what a request takes longer than on stock", () => {
    const rows = [row("stock", 70), row("gate-only", 95), row("recorded", 75), hybrid];
    const { total, ...parts } = withOverheads(rows).at(-1)!.overheadUs!;
    expect(total).toBe(130);
    // Two pauses of 10 ms among 10,000 requests.
    expect(parts).toEqual({
      ...{ recording: 5, gate: 25, shipping: 60, holding: 20, pause: 2, unexplained: 18 },
    });
  });

  it("is left out where there is nothing to compare with", () => {
    const other = { ...row("recorded", 75), connections: 50 };
    const rows = withOverheads([row("stock", 70), row("gate-only", 95), other, hybrid]);
    expect(rows.at(-1)!.overheadUs).toBeUndefined();
  });
});

describe("the average of what came since", () => {
  it("leaves out what was before", () => {
    const of = (avg: number, count: number) => ({ avg, count, p50: 0, p99: 0, max: 0 });
    expect(averageSince(of(10, 100), of(4, 400))).toBe(2);
    expect(averageSince(undefined, of(4, 400))).toBe(4);
    expect(averageSince(of(4, 400), of(4, 400))).toBe(4);
  });
});
