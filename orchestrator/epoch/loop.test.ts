import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { Clock } from "../clock.js";
import { faultsFrom } from "../faults/faults.js";
import { EpochLoop } from "./loop.js";
import { type EpochPolicy, initialEpochState, nextStartMs, planSteps, reduce } from "./plan.js";
import type { EpochReport } from "./ports.js";

const policy: EpochPolicy = { intervalMs: 25, idleIntervalMs: 1000, failuresMax: 4 };

/** Time that only moves when somebody sleeps. */
function steppedClock(): Clock {
  let now = 0;
  return {
    nowMs: () => now,
    wallMs: () => now,
    sleep: async (ms, signal) => {
      await new Promise((resolve) => setImmediate(resolve));
      if (!signal?.aborted) now += ms;
    },
  };
}

interface Script {
  failDump?: (epoch: number) => boolean;
  failShip?: (epoch: number) => boolean;
}

/** A standby that checks what it is sent, and a gate that checks what it is told to release. */
function rig(script: Script, stopAfter: number) {
  const log: string[] = [];
  const standby = { held: 0, committed: [] as number[] };
  const released: number[] = [];
  const reports: EpochReport[] = [];
  const skipped: string[] = [];
  let ended: (value: string) => void = () => {};
  const end = new Promise<string>((resolve) => {
    ended = resolve;
  });
  const loop = new EpochLoop(
    {
      clock: steppedClock(),
      faults: faultsFrom(undefined),
      spool: { pathOf: (epoch) => `epoch-${epoch}`, remove: async () => {} },
      dumper: {
        dump: async ({ epoch, base }) => {
          log.push(`dump ${epoch} on ${base}`);
          if (script.failDump?.(epoch)) throw new Error("no dump");
          return { pauseMs: 1, wallMs: 2, bytes: 100 + base, full: base === 0 };
        },
        acked: async () => {},
      },
      shipper: {
        ship: async ({ epoch, base }) => {
          if (script.failShip?.(epoch)) throw new Error("no link");
          expect(base === 0 || base === standby.held).toBe(true);
          standby.held = epoch;
          standby.committed.push(epoch);
          return { commitMs: 1 };
        },
      },
      releaser: {
        release: async (epoch) => {
          expect(standby.committed).toContain(epoch);
          released.push(epoch);
          return { frames: 1, bytes: 10, stillHeld: false };
        },
      },
      observer: {
        committed: (report) => {
          reports.push(report);
          if (reports.length >= stopAfter) void loop.stop("enough").then(() => ended("stopped"));
        },
        skipped: (epoch, stage) => skipped.push(`${stage} ${epoch}`),
        lost: (failures) => ended(`lost after ${failures}`),
      },
    },
    policy,
    3,
    0,
  );
  return { loop, end, log, standby, released, reports, skipped };
}

describe("epoch loop", () => {
  it("makes the first epoch full and the next ones against what the standby holds", async () => {
    const r = rig({}, 3);
    r.loop.start();
    expect(await r.end).toBe("stopped");
    expect(r.log).toEqual(["dump 1 on 0", "dump 2 on 1", "dump 3 on 2"]);
    expect(r.released).toEqual([1, 2, 3]);
  });

  it("skips a failed dump and starts over with a full epoch", async () => {
    const r = rig({ failDump: (epoch) => epoch === 2 }, 3);
    r.loop.start();
    await r.end;
    expect(r.log).toEqual(["dump 1 on 0", "dump 2 on 1", "dump 3 on 0", "dump 4 on 3"]);
    expect(r.skipped).toEqual(["dump 2"]);
    expect(r.released).toEqual([1, 3, 4]);
  });

  it("gives up by name after the bound, and releases nothing on the way", async () => {
    const r = rig({ failShip: () => true }, 3);
    r.loop.start();
    expect(await r.end).toBe(`lost after ${policy.failuresMax}`);
    expect(r.released).toEqual([]);
  });

  it("answers checkpointNow only after an epoch that began later has committed", async () => {
    const r = rig({ failDump: (epoch) => epoch === 2 }, 4);
    r.loop.start();
    expect(await r.loop.checkpointNow()).toBeGreaterThanOrEqual(1);
    await r.end;
  });

  it("tells those who wait for a checkpoint at once when it cannot be had", async () => {
    const r = rig({ failDump: () => true }, 1000);
    r.loop.start();
    const wanted = r.loop.checkpointNow();
    r.loop.rejectWaiters(new Error("the gate is gone"));
    await expect(wanted).rejects.toThrow("the gate is gone");
    await r.loop.stop(new Error("done"));
  });

  it("never releases what is not committed, whatever fails (property)", async () => {
    const outcomes = fc.array(fc.constantFrom("ok", "dump", "ship"), {
      minLength: 1,
      maxLength: 30,
    });
    await fc.assert(
      fc.asyncProperty(outcomes, async (script) => {
        const at = (epoch: number) => script[epoch % script.length];
        const r = rig({ failDump: (e) => at(e) === "dump", failShip: (e) => at(e) === "ship" }, 10);
        r.loop.start();
        await r.end;
        expect(r.released.every((epoch) => r.standby.committed.includes(epoch))).toBe(true);
      }),
      { numRuns: 50 },
    );
  });
});

describe("planSteps", () => {
  it("waits for the idle interval when nothing waits, and hurries when output does", () => {
    let state = initialEpochState(0);
    state = reduce(state, { kind: "dumpStarted", epoch: 1, base: 0, atMs: 100 });
    state = reduce(state, { kind: "dumped", epoch: 1, bytes: 5 });
    state = reduce(state, { kind: "committed", epoch: 1 });
    state = reduce(state, { kind: "released", epoch: 1, stillHeld: false });
    expect(planSteps(state, policy, 111)).toEqual([{ kind: "wait", untilMs: 1100 }]);
    state = reduce(state, { kind: "outputHeld", epoch: 2 });
    expect(planSteps(state, policy, 112)).toEqual([{ kind: "wait", untilMs: 125 }]);
    expect(planSteps(state, policy, 125)).toEqual([{ kind: "dump", epoch: 2, base: 1 }]);
  });

  it("does not forget output that was held while the release was under way", () => {
    let state = initialEpochState(0);
    state = reduce(state, { kind: "dumpStarted", epoch: 1, base: 0, atMs: 100 });
    state = reduce(state, { kind: "dumped", epoch: 1, bytes: 5 });
    state = reduce(state, { kind: "committed", epoch: 1 });
    // The client answered the release at once; the news overtakes the end of the release.
    state = reduce(state, { kind: "outputHeld", epoch: 2 });
    state = reduce(state, { kind: "released", epoch: 1, stillHeld: false });
    expect(planSteps(state, policy, 111)).toEqual([{ kind: "wait", untilMs: 125 }]);
  });

  it("refuses to release what was only dumped", () => {
    let state = initialEpochState(0);
    state = reduce(state, { kind: "dumpStarted", epoch: 1, base: 0, atMs: 0 });
    state = reduce(state, { kind: "dumped", epoch: 1, bytes: 5 });
    expect(() => reduce(state, { kind: "released", epoch: 1, stillHeld: false })).toThrow(
      /is dumped, not committed/,
    );
  });

  it("refuses a delta against anything but what the standby holds", () => {
    const state = initialEpochState(7);
    expect(() => reduce(state, { kind: "dumpStarted", epoch: 8, base: 6, atMs: 0 })).toThrow(/I4/);
  });

  it("backs off after failures", () => {
    let state = initialEpochState(0);
    state = reduce(state, { kind: "dumpStarted", epoch: 1, base: 0, atMs: 0 });
    state = reduce(state, { kind: "failed", epoch: 1, atMs: 10, retryInMs: 500 });
    expect(nextStartMs(state, policy)).toBe(510);
    expect(planSteps(state, policy, 510)).toEqual([{ kind: "dump", epoch: 2, base: 0 }]);
  });
});
