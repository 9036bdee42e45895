/** What the agent reads and writes of a log's file by itself. */
import { describe, expect, it } from "vitest";
import { asReached, recordingOf } from "./wiring-log.js";

/** A lane's entry (docs/log-format.md); each byte of its accounts is 7. */
function lane(head: bigint, reached = 0n): Buffer {
  const entry = Buffer.alloc(128);
  entry.fill(7, 16, 48).fill(7, 80, 112);
  entry.writeBigUInt64LE(head, 0);
  entry.writeBigUInt64LE(reached, 48);
  return entry;
}

describe("the lanes of a replay that is made again", () => {
  it("end where the primary's did, though more was recorded", () => {
    const shipped = Buffer.concat([lane(640n), lane(0n)]);
    const now = Buffer.concat([lane(9000n, 641n), lane(64n, 1n)]);
    expect(asReached(shipped, now)).toEqual(shipped);
  });

  it("end where the first replay ended, if that was before: what it had not reached was written over", () => {
    const shipped = Buffer.concat([lane(640n), lane(800n)]);
    const again = asReached(shipped, Buffer.concat([lane(9000n, 601n), lane(700n, 1n)]));
    expect(again.readBigUInt64LE(0)).toBe(600n);
    expect(again.readBigUInt64LE(128)).toBe(0n);
    // Else the check would miss bytes that were stored.
    expect(again.subarray(16, 48).every((byte) => byte === 0)).toBe(true);
    expect(again.subarray(80, 112).every((byte) => byte === 0)).toBe(true);
  });

  it("are as shipped if no replay has come to an end", () => {
    const shipped = Buffer.concat([lane(640n), lane(800n)]);
    expect(asReached(shipped, shipped)).toEqual(shipped);
  });
});

describe("whether an application is recorded", () => {
  it.each([
    ["underWay", 1, 0, 7],
    ["none", 1, 0, 0],
    ["none", 3, 0, 7],
    ["none", 1, 5, 7],
    ["beginning", 5, 0, 0],
  ])("is %s in mode %i, lost %i, owner %i", (is, mode, lost, owner) => {
    const recording = recordingOf(mode, lost, owner);
    expect(recording.is).toBe(is);
    expect(recording.why === "").toBe(is === "underWay");
  });

  it("says by name why a recording is lost", () => {
    expect(recordingOf(3, 5, 7).why).toContain("fork");
  });
});
