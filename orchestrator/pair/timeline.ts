/** When each step of a takeover began and how long it took. Steps may run beside each other, and within one another. */
import type { Clock } from "../clock.js";

export interface TimelineStep {
  name: string;
  /** From the beginning of the takeover, which is when nobody has answered. */
  atMs: number;
  ms: number;
}

export class Timeline {
  readonly steps: TimelineStep[] = [];

  constructor(
    private readonly clock: Clock,
    private readonly startMs: number,
  ) {}

  /** Also of a step that fails. */
  async measure<T>(name: string, run: () => Promise<T>): Promise<T> {
    const fromMs = this.clock.nowMs();
    const step: TimelineStep = { name, atMs: tenths(fromMs - this.startMs), ms: 0 };
    this.steps.push(step);
    try {
      return await run();
    } finally {
      step.ms = tenths(this.clock.nowMs() - fromMs);
    }
  }

  /** A part of the step that ends now, as the program that did it says. */
  note(name: string, ms: number): void {
    this.steps.push({ name, atMs: tenths(this.clock.nowMs() - this.startMs - ms), ms: tenths(ms) });
  }

  /** For an event: `fence@0+6.1 restore@20.4+80.3`. */
  toString(): string {
    return this.steps.map(({ name, atMs, ms }) => `${name}@${atMs}+${ms}`).join(" ");
  }
}

const tenths = (ms: number) => Math.round(ms * 10) / 10;
