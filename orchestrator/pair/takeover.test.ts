/** What a takeover does when the event log cannot be replayed: each way out that a policy can name. */
import { describe, expect, it } from "vitest";
import { FtError } from "../errors/error.js";
import { limits } from "../limits.js";
import type { Pair } from "./pair.js";
import type { ReplayOutcome } from "./ports.js";
import { forgetPreparation, prepareTakeover } from "./prepare.js";
import { takeOver } from "./takeover.js";

const REPORTS: Record<string, ReplayOutcome> = {
  replayed: { outcome: "replayed", fields: { events: "7" }, text: "outcome=replayed\n" },
  unreached: {
    outcome: "replayed",
    fields: { events: "7", "unreached-bytes": "48" },
    text: "outcome=replayed\nunreached-bytes=48\n",
  },
  diverged: { outcome: "diverged", fields: {}, text: "outcome=diverged\nwhat=output\n" },
  corrupt: { outcome: "corrupt", fields: {}, text: "outcome=corrupt\nwhat=cut off\n" },
};

/** A standby in mode hybrid whose replays end as told, the last word for all that follow. */
function standby(policy: { pacing?: string; onDivergence: string }, ...words: string[]) {
  const calls: string[] = [];
  const events: string[] = [];
  const unreached: number[] = [];
  let attempts = 0;
  let nowMs = 0;
  let dead = false;
  const note =
    <T>(what: string, result?: T) =>
    async () => {
      calls.push(what);
      return result as T;
    };
  const failed: string[] = [];
  const gate = {
    announce: note("announce"),
    mode: async (mode: string, _generation: number): Promise<void> => {
      calls.push(`gate ${mode}`);
    },
    release: () => calls.push("release gate"),
  };
  const fake = {
    record: { name: "bank", generation: 1, lastEpoch: 4 },
    peerStatus: { generation: 1 },
    policy: { mode: "hybrid", detection: { heartbeatMs: 30, missLimit: 3 }, ...policy },
    app: { initPid: 1, pid: 0 },
    store: {
      prepare: note("prepare images"),
      unprepare: note("forget images"),
      materialize: note("materialize", { epoch: 5, imagesDir: "images" }),
      discard: note("discard"),
      stop: note("stop"),
    },
    acceptance: { stop: note("stop-accepting") },
    save: note("save"),
    tick: note("tick"),
    enter: (state: string) => calls.push(`enter ${state}`),
    event: (kind: string) => events.push(kind),
    setApplication: () => {},
    watchExit: () => {},
    gate,
    requireGate: () => gate,
    stepFailed: (_error: unknown, doing: string) => failed.push(doing),
    host: {
      clock: {
        nowMs: () => nowMs,
        wallMs: () => 0,
        sleep: async (ms: number) => {
          nowMs += ms;
        },
      },
      faults: { pass: async () => {} },
      metrics: {
        takeover: () => {},
        replayUnreached: (_pair: string, bytes: number) => unreached.push(bytes),
      },
      parts: {
        container: {
          lives: async () => {
            dead = words[attempts] === "crashed";
            return !dead;
          },
          adopt: async (app: object, pid: number) => ({ ...app, pid }),
          configureInterface: note("interface"),
        },
        prepareRestore: () => calls.push("prepare restore"),
        unprepareRestore: () => calls.push("end restore"),
        restore: async (_record: unknown, _app: unknown, _dir: string, only?: string) => {
          calls.push(`restore ${only ?? "to run"}`);
          return { pid: 7, restoreMs: 1, lazyBytes: 0, criuMs: 0 };
        },
        log: {
          prepare: note("prepare log"),
          unprepare: () => calls.push("end log"),
          arm: async (_record: unknown, _app: unknown, _epoch: number, paced: boolean) => {
            calls.push(paced ? "arm paced" : "arm");
            if (words[0]?.startsWith("LOG_") || words[0]?.startsWith("RECORDER_")) {
              throw new FtError({ code: words[0], subject: "bank", message: "lane 0: corrupt" });
            }
            return true;
          },
          outcome: async () => {
            const word = words[Math.min(attempts, words.length - 1)]!;
            if (word !== "crashed" || dead) attempts += 1;
            return REPORTS[word];
          },
          connections: note("connections", { claims: 0, rebuilt: 0, failed: 0, waiting: 0 }),
          disarm: () => calls.push("disarm"),
          giveUp: note("give up"),
          settled: async () => {},
        },
      },
    },
    log: { warn: () => {}, info: () => {} },
  };
  const run = () => takeOver(fake as unknown as Pair, "host-lost");
  const armed = () => calls.filter((call) => call.startsWith("arm"));
  return { fake, gate, run, calls, events, armed, unreached, failed };
}

describe("a replay that fails", () => {
  it("is tried again from the same checkpoint, paced, and the service goes on", async () => {
    const { run, armed, events, fake } = standby({ onDivergence: "stop" }, "diverged", "replayed");
    await run();
    expect(armed()).toEqual(["arm", "arm paced"]);
    expect(events).toEqual(["replay-failed", "takeover-done"]);
    expect(fake.app.pid).toBe(7);
  });

  it("is tried again at once if the process crashed, and nothing that it said is heard", async () => {
    const { run, calls, armed, events, fake } = standby(
      { onDivergence: "stop" },
      "crashed",
      "replayed",
    );
    await run();
    expect(armed()).toEqual(["arm", "arm paced"]);
    expect(events).toEqual(["replay-failed", "takeover-done"]);
    expect(fake.host.clock.nowMs()).toBeLessThan(2 * limits.replayLivesMs);
    const cleared = calls.indexOf("restore clear");
    expect(calls[cleared + 1]).toBe("gate takeover");
    expect(fake.app.pid).toBe(7);
  });

  it.each([
    ["off", ["arm", "arm"]],
    ["on-retry", ["arm", "arm paced"]],
    ["always", ["arm paced", "arm paced"]],
  ])("is timed as `pacing: %s` says", async (pacing, attempts) => {
    const { run, armed } = standby({ pacing, onDivergence: "retry" }, "diverged", "replayed");
    await run();
    expect(armed()).toEqual(attempts);
  });

  it("stops the takeover by name with `onDivergence: stop`, and nothing was let out", async () => {
    const { run, armed, calls, fake } = standby({ onDivergence: "stop" }, "diverged");
    await expect(run()).rejects.toMatchObject({ code: "REPLAY_FAILED" } satisfies Partial<FtError>);
    expect(armed()).toHaveLength(limits.replayAttemptsMax);
    expect(calls.slice(-4)).toEqual(["disarm", "enter failed", "end restore", "end log"]);
    expect(calls).not.toContain("restore to run");
    expect(fake.app.pid).toBe(0);
  });

  it("is tried longer with `onDivergence: retry`, but not for ever", async () => {
    const { run, armed } = standby({ onDivergence: "retry" }, "diverged");
    await expect(run()).rejects.toMatchObject({ code: "REPLAY_FAILED" });
    expect(armed()).toHaveLength(limits.replayAttemptsOnRetryMax);
  });

  it("gives way to the checkpoint with `onDivergence: checkpoint`, and an event says what that means", async () => {
    const { run, armed, calls, events, fake } = standby({ onDivergence: "checkpoint" }, "diverged");
    await run();
    expect(armed()).toHaveLength(limits.replayAttemptsMax);
    const last = calls.slice(calls.lastIndexOf("restore clear"));
    expect(last.slice(0, 4)).toEqual(["restore clear", "gate takeover", "give up", "materialize"]);
    expect(calls).not.toContain("connections");
    expect(events.slice(-2)).toEqual(["resumed-from-checkpoint", "takeover-done"]);
    expect(fake.app.pid).toBe(7);
  });

  it.each(["LOG_DAMAGED", "LOG_VERSION", "RECORDER_DIFFERS"])(
    "is not begun with a log that is no good (%s): nothing is restored, and the takeover says why",
    async (code) => {
      const { run, armed, calls, fake } = standby({ onDivergence: "retry" }, code);
      await expect(run()).rejects.toMatchObject({ code });
      expect(fake).toMatchObject({ lastError: { code } });
      expect(armed()).toHaveLength(1);
      expect(calls).not.toContain("restore to run");
      expect(calls).not.toContain("restore keep");
    },
  );

  it("gives way to the checkpoint at once if the log is damaged and the policy says so", async () => {
    const { run, calls, events } = standby({ onDivergence: "checkpoint" }, "LOG_DAMAGED");
    await run();
    expect(calls).toContain("give up");
    expect(calls).toContain("restore to run");
    expect(calls).not.toContain("connections");
    expect(events.slice(-3)).toEqual(["replay-failed", "resumed-from-checkpoint", "takeover-done"]);
  });

  it("has no way round another build: its memory is of no use either", async () => {
    const { run } = standby({ onDivergence: "checkpoint" }, "RECORDER_DIFFERS");
    await expect(run()).rejects.toMatchObject({ code: "RECORDER_DIFFERS" });
  });

  it("that leaves a part of the log says so", async () => {
    const { run, events, unreached, fake } = standby({ onDivergence: "stop" }, "unreached");
    await run();
    expect(events).toEqual(["replay-unreached", "takeover-done"]);
    expect(unreached).toEqual([48]);
    expect(fake).toMatchObject({ takeover: { replay: { unreachedBytes: 48 } } });
    const whole = standby({ onDivergence: "stop" }, "replayed");
    await whole.run();
    expect(whole.events).toEqual(["takeover-done"]);
    expect(whole.unreached).toEqual([]);
  });

  it("is not tried again if the log is corrupt", async () => {
    const { run, armed } = standby({ onDivergence: "retry" }, "corrupt");
    await expect(run()).rejects.toMatchObject({ code: "REPLAY_FAILED" });
    expect(armed()).toHaveLength(1);
  });
});

describe("what a takeover needs", () => {
  it("is made ready once, though the peer was asked and the takeover came after it", async () => {
    const { run, calls, fake } = standby({ onDivergence: "stop" }, "replayed");
    await prepareTakeover(fake as unknown as Pair);
    await run();
    expect(calls.filter((call) => call.startsWith("prepare"))).toEqual([
      "prepare images",
      "prepare restore",
      "prepare log",
    ]);
    expect(calls.indexOf("prepare log")).toBeLessThan(calls.indexOf("save"));
    expect(calls).not.toContain("forget images");
    expect((fake as unknown as Pair).preparing).toBeUndefined();
  });

  it("is thrown away if the peer answers", async () => {
    const { fake, calls } = standby({ onDivergence: "stop" });
    await prepareTakeover(fake as unknown as Pair);
    await forgetPreparation(fake as unknown as Pair);
    expect(calls.slice(-3)).toEqual(["end restore", "end log", "forget images"]);
    expect((fake as unknown as Pair).preparing).toBeUndefined();
  });

  it("is had without, if it cannot be made ready", async () => {
    const { fake, run, events } = standby({ onDivergence: "stop" }, "replayed");
    fake.store.prepare = async () => {
      throw new Error("an epoch is being applied");
    };
    await run();
    expect(events).toEqual(["takeover-done"]);
  });

  it("is a container in which nothing is left: cleared if an earlier takeover was here", async () => {
    const first = standby({ onDivergence: "stop" }, "replayed");
    await first.run();
    expect(first.calls).not.toContain("restore clear");
    const resumed = standby({ onDivergence: "stop" }, "replayed");
    Object.assign(resumed.fake.record, { phase: "takingOver" });
    await resumed.run();
    expect(resumed.calls).toContain("restore clear");
  });
});

describe("what comes after the gate was opened", () => {
  type Standby = ReturnType<typeof standby>;
  const broken = () => Promise.reject(new Error("broken"));

  it.each<[string, (it: Standby) => void]>([
    ["announce", ({ gate }) => Object.assign(gate, { announce: broken })],
    ["save", ({ fake }) => Object.assign(fake, { save: broken })],
    ["settle the log", ({ fake }) => Object.assign(fake.host.parts.log, { settled: broken })],
    ["end the store", ({ fake }) => Object.assign(fake.store, { discard: broken })],
    [
      "make the interface narrow",
      ({ fake }) => Object.assign(fake.host.parts.container, { configureInterface: broken }),
    ],
  ])("does not fail the takeover: %s", async (what, breakIt) => {
    const one = standby({ onDivergence: "stop" }, "replayed");
    const { mode } = one.gate;
    one.gate.mode = async (to, generation) => {
      await mode(to, generation);
      if (to === "open") breakIt(one);
    };
    await one.run();
    expect(one.failed).toEqual([`takeover, ${what}`]);
    expect(one.events).toContain("takeover-done");
    expect(one.calls.filter((call) => call.startsWith("enter")).at(-1)).toBe("enter unprotected");
  });

  it("is gone on with if the gate does not say whether it opened: the planner takes it up again", async () => {
    const one = standby({ onDivergence: "stop" }, "replayed");
    refuseOpening(one, "CONTROL_TIMEOUT");
    await one.run();
    expect(one.fake.gate).toBeUndefined();
    expect(one.events).toEqual(["gate-lost", "takeover-done"]);
    expect(one.calls).toContain("enter unprotected");
  });

  it("does not come if the gate refuses to open", async () => {
    const one = standby({ onDivergence: "stop" }, "replayed");
    refuseOpening(one, "CONTROL_FAILED");
    await expect(one.run()).rejects.toMatchObject({ code: "CONTROL_FAILED" });
    expect(one.calls).toContain("enter failed");
  });

  function refuseOpening({ gate }: Standby, code: string): void {
    gate.mode = async (to) => {
      if (to === "open") throw new FtError({ code, subject: "gate", message: "no" });
    };
  }
});
