/** A restarted agent takes its pairs up again, also while something of them is just dying. */
import { describe, expect, it } from "vitest";
import { limits } from "../limits.js";
import { adopt } from "./adopt.js";
import type { Pair } from "./pair.js";

/** A takeover that an agent died in, with a gate that closes the connection so many times. */
function interrupted(failures: number) {
  let opened = 0;
  const slept: number[] = [];
  const fake = {
    record: { containerId: "c", role: "primary", phase: "takingOver" },
    state: "starting",
    reason: "",
    app: undefined,
    gate: undefined as string | undefined,
    log: { warn: () => {} },
    host: {
      clock: { sleep: async (ms: number) => void slept.push(ms) },
      parts: {
        container: { running: async () => ({ initPid: 1, pid: 2 }) },
        openGate: async () => {
          opened += 1;
          if (opened <= failures) throw new Error("the connection is closed");
          return "gate";
        },
      },
    },
  };
  return { fake, slept, adopted: () => adopt(fake as unknown as Pair), opened: () => opened };
}

describe("taking a pair up again", () => {
  it("survives a gate that dies meanwhile", async () => {
    const { fake, slept, adopted } = interrupted(1);
    await adopted();
    expect(fake.state).toBe("takingOver");
    expect(fake.gate).toBe("gate");
    expect(slept).toEqual([limits.adoptAgainMs]);
  });

  it("gives up in the end, with the reason", async () => {
    const { adopted, opened } = interrupted(100);
    await expect(adopted()).rejects.toThrow("the connection is closed");
    expect(opened()).toBe(limits.adoptAttemptsMax);
  });
});
