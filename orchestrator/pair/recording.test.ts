/** What output waits for while the application's recording comes and goes. */
import { describe, expect, it } from "vitest";
import type { Pair } from "./pair.js";
import type { Recording } from "./ports.js";
import { afterCommit, ship } from "./recording.js";

const UNDER_WAY: Recording = { is: "underWay", why: "" };
const BEGINNING: Recording = { is: "beginning", why: "not begun anew yet" };
const NONE: Recording = { is: "none", why: "not recorded" };

/** A primary of mode hybrid; `told` collects what its gate and its operator hear. */
function primary(is: Recording) {
  const told: string[] = [];
  const gate = {
    ship: async (role: string) => void told.push(`ship ${role}`),
    trim: async (epoch: number) => void told.push(`trim ${epoch}`),
    mode: async (mode: string) => void told.push(`mode ${mode}`),
  };
  const fake = {
    record: { generation: 2 },
    policy: { mode: "hybrid" },
    covered: false,
    shipping: false,
    uncoveredWhy: "",
    requireGate: () => gate,
    event: (type: string, _level: string, message: string) => told.push(`${type}: ${message}`),
    host: { parts: { log: { recording: async () => fake.is } } },
    is,
  };
  return { fake, pair: fake as unknown as Pair, told };
}

describe("an application that was restored without its log", () => {
  it("waits for checkpoints, by name, until its recorder has begun anew; no stream begins before", async () => {
    const { fake, pair, told } = primary(BEGINNING);
    await ship(pair, "source");
    await afterCommit(pair, 5);
    await afterCommit(pair, 6);
    expect(told).toEqual(["log-does-not-cover: output waits for checkpoints: not begun anew yet"]);
    expect(fake.uncoveredWhy).toBe("not begun anew yet");
  });

  it("is covered from the first checkpoint that is taken after its recording began", async () => {
    const { fake, pair, told } = primary(BEGINNING);
    await ship(pair, "source");
    await afterCommit(pair, 5);
    told.length = 0;
    fake.is = UNDER_WAY;
    // It was frozen before the recorder began, or may have been: nothing may wait for a log that leads from it.
    await afterCommit(pair, 6);
    expect(told).toContain("ship source");
    expect(told).not.toContain("mode log");
    await afterCommit(pair, 7);
    expect(told.slice(-3)).toEqual([
      "trim 7",
      "mode log",
      "log-covers: output waits for the event log, from epoch 7 on",
    ]);
    expect(fake.covered).toBe(true);
    expect(fake.uncoveredWhy).toBe("");
  });
});

describe("an application that is not recorded", () => {
  it("keeps its stream trimmed, or the standby's file would fill up and input would stop", async () => {
    const { pair, told } = primary(NONE);
    await ship(pair, "source");
    await afterCommit(pair, 5);
    await afterCommit(pair, 6);
    expect(told).toEqual([
      "ship source",
      "trim 5",
      "log-does-not-cover: output waits for checkpoints: not recorded",
      "trim 6",
    ]);
  });
});
