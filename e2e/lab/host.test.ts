import { describe, expect, it } from "vitest";
import { lives } from "./host.js";

const status = (state: string, threads: number) =>
  `Name:\tnode\nUmask:\t0022\nState:\t${state}\nTgid:\t7\nThreads:\t${threads}\n`;

describe("whether a daemon lives", () => {
  it.each([
    ["sleeping", status("S (sleeping)", 11), true],
    ["stopped", status("T (stopped)", 1), true],
    ["ended, threads still going", status("Z (zombie)", 4), true],
    ["ended, not reaped", status("Z (zombie)", 1), false],
    ["reaped while it was looked at", undefined, false],
    ["going", status("X (dead)", 0), false],
    ["cut off", "Name:\tno", false],
  ])("%s: %s", (_, text, expected) => {
    expect(lives(text)).toBe(expected);
  });
});
