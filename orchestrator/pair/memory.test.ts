import { describe, expect, it } from "vitest";
import type { EpochReport } from "../epoch/ports.js";
import { memoryKey, memoryNews } from "./memory.js";

const report = (over: Partial<EpochReport>): EpochReport => ({
  ...{ epoch: 3, pauseMs: 98, wallMs: 150, bytes: 1000, full: true, shipMs: 1, commitMs: 1 },
  ...{ releasedFrames: 0, totalMs: 160, ...over },
});

describe("what is told of memory", () => {
  it("is nothing while only written pages are copied, or nobody knows", () => {
    expect(memoryNews(report({}), undefined)).toBeUndefined();
    expect(memoryNews(report({ tracking: "wp-async" }), undefined)).toBeUndefined();
  });

  it("is why all of it is copied and what that costs here, once", () => {
    const whole = report({
      tracking: "full",
      wholeWhy: "no such thing",
      memoryBytes: 200 * 2 ** 20,
    });
    const news = memoryNews(whole, undefined);
    expect(news).toMatchObject({ type: "memory-untracked", level: "warning" });
    expect(news?.message).toContain("(no such thing)");
    expect(news?.message).toContain("98.0 ms for 200 MiB, 49 ms per 100 MiB");
    expect(memoryNews(whole, memoryKey(whole))).toBeUndefined();
  });

  it("makes no rate of a small memory", () => {
    const small = report({ tracking: "full", memoryBytes: 4 * 2 ** 20 });
    expect(memoryNews(small, undefined)?.message).toMatch(/98.0 ms for 4 MiB$/);
  });

  it("names a process that is left out, and says when all is well again", () => {
    const partly = report({ tracking: "wp-async", wholeWhy: "process 7: no userfaultfd" });
    expect(memoryNews(partly, undefined)?.message).toContain("process 7");
    const well = report({ tracking: "wp-async" });
    expect(memoryNews(well, memoryKey(partly))).toMatchObject({ type: "memory-tracked" });
  });
});
