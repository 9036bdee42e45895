import { describe, expect, it } from "vitest";
import { memoryCases } from "../bench/memory-cases.js";
import type { BenchRow, MemoryRow } from "../bench/rows.js";
import { median, replaceMemoryRows } from "../bench/rows.js";
import { benchPlots } from "./bench-plots.js";
import { memoryPlots } from "./memory-plots.js";
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

describe("the memory section", () => {
  const memory = (over: Partial<MemoryRow>): MemoryRow => ({
    ...{ configuration: "written", workload: "redis", memoryMiB: 100, threads: 1, connections: 1 },
    ...{ dirtyFraction: 0.001, pauseMs: { p50: 4, p99: 6 }, ...over },
  });

  it("is drawn against memory, dirty rate, threads and connections, and the outage too", () => {
    const plots = memoryPlots([
      memory({}),
      memory({ memoryMiB: 1024, configuration: "full", pauseMs: { p50: 900, p99: 950 } }),
      memory({ dirtyFraction: 0.1 }),
      memory({ connections: 1000 }),
      memory({ workload: "memcached", threads: 4 }),
      memory({ configuration: "without smaps" }),
      {
        ...memory({ configuration: "failover", outageMs: { p50: 300, max: 400 } }),
        pauseMs: undefined as never,
      },
    ]);
    expect(Object.keys(plots).toSorted()).toEqual([
      "memory-outage-connections.svg",
      "memory-outage-size.svg",
      "memory-pause-connections.svg",
      "memory-pause-dirty.svg",
      "memory-pause-size.svg",
      "memory-pause-threads.svg",
    ]);
    for (const svg of Object.values(plots)) expect(balanced(svg)).toBe(true);
    expect(plots["memory-pause-size.svg"]).toContain("plain full dump");
    expect(plots["memory-pause-size.svg"]).not.toContain("smaps");
    expect(memoryPlots([])).toEqual({});
  });

  it("may be measured in parts: a row takes the place of its like alone", () => {
    const old = [memory({ epochs: 1 }), memory({ memoryMiB: 10, epochs: 1 })];
    const kept = replaceMemoryRows(old, [memory({ epochs: 2 })]);
    expect(kept.map(({ memoryMiB, epochs }) => [memoryMiB, epochs])).toEqual([
      [10, 1],
      [100, 2],
    ]);
  });

  it("has each way at every size, and compares the rest at one", () => {
    const settings = {
      sizes: [10, 100],
      fractions: [0.001, 0.01, 0.1],
      connections: [1, 1000],
      threads: [4],
    };
    const cases = memoryCases(settings);
    const ways = (mib: number) =>
      cases.filter((each) => each.memoryMiB === mib)[0]!.ways.map(({ name }) => name);
    expect(ways(10)).toEqual(ways(100));
    expect(ways(10)).toContain("full");
    expect(cases.filter(({ workload }) => workload === "memcached")).toHaveLength(1);
    expect(cases.some(({ connections }) => connections === 1000)).toBe(true);
    expect(memoryCases({ ...settings, sizes: [10] })).toHaveLength(1);
  });
});
