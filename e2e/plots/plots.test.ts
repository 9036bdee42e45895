import { describe, expect, it } from "vitest";
import type { BenchRow } from "../bench/rows.js";
import { median } from "../bench/rows.js";
import { benchPlots } from "./bench-plots.js";
import { barChart, escapeXml, label, niceStep } from "./svg.js";

const row = (over: Partial<BenchRow>): BenchRow => ({
  configuration: "stock",
  workload: "redis",
  connections: 1,
  throughputRps: 10_000,
  latencyUs: { avg: 90, p50: 80, p99: 200 },
  ...over,
});

/** Every opened element is closed, in order. */
function balanced(svg: string): boolean {
  const open: string[] = [];
  for (const [, end, name, self] of svg.matchAll(/<(\/?)([a-z]+)[^>]*?(\/?)>/g)) {
    if (end) {
      if (open.pop() !== name) return false;
    } else if (!self) open.push(name!);
  }
  return open.length === 0;
}

describe("the charts", () => {
  it("are one well-formed file for each question that has rows", () => {
    const plots = benchPlots([
      row({}),
      row({ connections: 50, throughputRps: 90_000 }),
      row({
        configuration: "checkpoint",
        epochMs: 25,
        pauseMs: { p50: 6, p99: 11 },
        outageMs: { p50: 320, max: 410 },
      }),
      row({ configuration: "docker-checkpoint-loop", throughputRps: 0, note: "not measured" }),
    ]);
    expect(Object.keys(plots).toSorted()).toEqual([
      "latency-redis.svg",
      "outage.svg",
      "pause.svg",
      "throughput-redis.svg",
    ]);
    for (const svg of Object.values(plots)) expect(balanced(svg)).toBe(true);
    expect(plots["throughput-redis.svg"]).not.toContain("docker");
  });

  it("draw a higher value higher, on both scales", () => {
    for (const logarithmic of [false, true]) {
      const svg = barChart({
        ...{ title: "t", unit: "u", categories: ["a", "b"], logarithmic },
        series: [{ name: "s", values: [10, 100] }],
      });
      const heights = [...svg.matchAll(/<rect [^>]*height="([\d.]+)" fill/g)].map((m) =>
        Number(m[1]),
      );
      expect(heights[1]!).toBeGreaterThan(heights[0]!);
      expect(Math.max(...heights)).toBeLessThan(300);
    }
  });

  it("do not let a name break the file", () => {
    expect(escapeXml('<a & "b">')).toBe("&lt;a &amp; &quot;b&quot;&gt;");
  });

  it("label and step like a person", () => {
    expect([12_345, 0.5, 0, 2_000_000].map(label)).toEqual(["12.3k", "0.5", "0", "2M"]);
    expect([0.3, 7, 22].map(niceStep)).toEqual([0.5, 10, 50]);
  });
});

describe("median", () => {
  it("is the middle", () => {
    expect([median([3, 1, 2]), median([1, 2, 3, 4])]).toEqual([2, 2.5]);
  });
});
