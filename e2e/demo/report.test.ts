import { stripVTControlCharacters } from "node:util";
import { describe, expect, it } from "vitest";
import { renderReport } from "./report.js";
import { type DemoResult, replyMsBefore } from "./result.js";
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
  replyMs: 26.5,
};
const hybrid: DemoResult = {
  ...result,
  mode: "hybrid",
  acknowledgedWrites: 98_765,
  replyMs: 0.5,
  replay: { events: 40_000, outputs: 4_000, ms: 31.4, attempts: 1 },
};
const act = (of: DemoResult, broken: string[]) => ({
  ...{ result: of, broken },
  timeline: [{ atUs: 1_000_000, replies: 3, latencyUsMax: 20_000 }],
  killedUs: 1_500_000,
});
const report = (broken: string[], results = [result, hybrid], colorful = false) =>
  renderReport({
    acts: results.map((each) => act(each, broken)),
    colorful,
    statusText: "NAME redis",
    file: "e2e/out/demo.json",
  });
const boxOf = (text: string) => text.split("\n").filter((line) => /^[╭│╰]/.test(line));

describe("the demo's report", () => {
  it("is plain text when there is no terminal, and every line of the box is as wide", () => {
    const text = report([]);
    expect(text).not.toContain("\x1b");
    expect(new Set(boxOf(text).map((line) => [...line].length)).size).toBe(1);
    expect(text).toContain("12,345");
  });

  it("has a column for each mode, and says what the log saves", () => {
    const text = report([]);
    const writes = boxOf(text).find((line) => line.includes("acknowledged writes "));
    expect(writes).toMatch(/12,345 +98,765/);
    expect(text).toContain("40,000 events, 31.4 ms");
    expect(text).toContain("A reply took 26.5 ms in mode checkpoint, 0.5 ms in mode hybrid.");
    expect(report([], [result])).not.toContain("A reply took");
  });

  it("keeps its width in colours", () => {
    const plain = boxOf(stripVTControlCharacters(report([], [result, hybrid], true)));
    expect(new Set(plain.map((line) => [...line].length)).size).toBe(1);
  });

  it("says which promise was broken", () => {
    expect(report(["mode hybrid: 2 connections reset"])).toContain(
      "✗ mode hybrid: 2 connections reset",
    );
    expect(report([])).not.toContain("✗");
  });
});

describe("how long a reply took", () => {
  it("follows from what was answered in the two seconds before the loss, and from nothing else", () => {
    const slice = (atUs: number, replies: number) => ({ atUs, replies, latencyUsMax: 1 });
    const slices = [
      slice(900_000, 500),
      slice(1_000_000, 100),
      slice(2_000_000, 60),
      slice(3_000_000, 999),
    ];
    expect(replyMsBefore(slices, 3_000_000, 8)).toBe(100);
    expect(() => replyMsBefore(slices, 900_000, 8)).toThrow("nothing was answered");
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
