import { describe, expect, it } from "vitest";
import { renderReport } from "./report.js";
import type { DemoResult } from "./result.js";
import { sparkline } from "./sparkline.js";

const result: DemoResult = {
  mode: "checkpoint",
  workload: "redis",
  connections: 8,
  resets: 0,
  acknowledgedWrites: 12_345,
  lostWrites: 0,
  duplicatedWrites: 0,
  wrongReplies: 0,
  epochsCommitted: 120,
  detectionMs: 92,
  restoreMs: 61,
  outageMs: 311.5,
  pauseMs: { p50: 6.1, p99: 9.9 },
  outputDelayMs: { avg: 24, p50: 22, p99: 40 },
};
const report = (broken: string[], colorful = false) =>
  renderReport({
    ...{ result, broken, colorful },
    timeline: [{ atUs: 1_000_000, replies: 3, latencyUsMax: 20_000 }],
    killedUs: 1_500_000,
    statusText: "NAME redis",
    file: "e2e/out/demo.json",
  });

describe("the demo's report", () => {
  it("is plain text when there is no terminal, and every line of the box is as wide", () => {
    const text = report([]);
    expect(text).not.toContain("\x1b");
    const box = text.split("\n").filter((line) => /^[╭│╰]/.test(line));
    expect(new Set(box.map((line) => [...line].length)).size).toBe(1);
    expect(text).toContain("12,345");
  });

  it("says which promise was broken", () => {
    expect(report(["2 connections reset"])).toContain("✗ 2 connections reset");
    expect(report([])).not.toContain("✗");
  });
});

describe("sparkline", () => {
  it("shows silence, ordinary replies and the slow one", () => {
    const slices = [
      { atUs: 0, replies: 1, latencyUsMax: 900 },
      { atUs: 50_000, replies: 1, latencyUsMax: 30_000 },
      { atUs: 150_000, replies: 1, latencyUsMax: 900_000 },
    ];
    expect(sparkline(slices, 0, 50_000, 5)).toBe("▁▄·█·");
  });
});
