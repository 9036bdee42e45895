import { describe, expect, it } from "vitest";
import type { Dialogue } from "./dialogue.js";
import { SharedOrder } from "./lines.js";
import {
  CounterRaceDialogue,
  FlagRaceDialogue,
  LockedCounterDialogue,
  settingsEntry,
} from "./race.js";

function tell<D extends Dialogue>(dialogue: D, ...values: string[]): D {
  for (const [i, value] of values.entries()) {
    dialogue.next();
    dialogue.feed(Buffer.from(`ok ${i + 1} ${i + 1} ${value}\n`));
  }
  dialogue.settle();
  return dialogue;
}

describe("LockedCounterDialogue", () => {
  const locked = (connection: number, order: SharedOrder) =>
    new LockedCounterDialogue("r", connection, order);

  it("accepts each number once", () => {
    const order = new SharedOrder();
    tell(locked(0, order), "+0", "=0", "+2");
    tell(locked(1, order), "=0", "+1");
    order.conclude(0);
    expect(order.findings).toMatchObject({ lostWrites: 0, duplicatedWrites: 0 });
  });

  it("notices a number that two were given, and one that goes back", () => {
    const order = new SharedOrder();
    const first = tell(locked(0, order), "+4", "=3");
    tell(locked(1, order), "+4");
    expect(order.findings.lostWrites).toBe(1);
    expect(first.findings.lostWrites).toBe(1);
  });
});

describe("CounterRaceDialogue", () => {
  it("bears with two of the same number, not with a request that is counted twice", () => {
    expect(tell(new CounterRaceDialogue("r", 0), "+4", "=4", "+3").complaints).toEqual([]);
    const dialogue = new CounterRaceDialogue("r", 0);
    dialogue.next();
    dialogue.feed(Buffer.from("ok 1 2 =0\n"));
    dialogue.settle();
    expect(dialogue.findings.duplicatedWrites).toBe(1);
  });
});

describe("FlagRaceDialogue", () => {
  const entry = (generation: number, n: number) => `${generation}:${settingsEntry(generation, n)}`;

  // Reference values from a running ft-race.
  it("computes what race.c does", () => {
    expect([1, 2, 3].map((n) => entry(3, n))).toEqual(["3:962091", "3:389887", "3:817686"]);
  });

  it("accepts settings that are renewed, and notices old and mixed ones", () => {
    const told = (...values: string[]) => tell(new FlagRaceDialogue("r", 0), ...values).findings;
    expect(told(entry(7, 1), entry(7, 2), entry(8, 3))).toMatchObject({
      ...{ wrongReplies: 0, lostWrites: 0 },
    });
    expect(told(entry(7, 1), entry(6, 2)).lostWrites).toBe(1);
    expect(told(entry(7, 1), `8:${settingsEntry(7, 2)}`).wrongReplies).toBe(1);
  });
});
