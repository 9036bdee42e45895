/**
 * The servers of e2e/workloads/src/race.c: `<n>` → `ok <n> <n> <value>`, the second n being the service's own count.
 *
 *   race-none     `+<number>` of a shared counter at some requests: each number once, none left out; `=<number>` at the others
 *   race-counter  the same without the lock: two may have the same number, and that is all that can be said of it
 *   race-flag     `<generation>:<entry>`: the entry must be that generation's, and generations never go back
 */
import type { CounterCheck } from "./dialogue.js";
import { LineDialogue, type SharedOrder } from "./lines.js";

const settingsEntries = 16;

/** As race.c computes it; exact in doubles for the first 200,000 generations, which are eight hours. */
export function settingsEntry(generation: number, n: number): number {
  return ((generation * settingsEntries + (n % settingsEntries)) * 2_654_435_761) % 1_000_003;
}

abstract class RaceDialogue extends LineDialogue {
  readonly #counter: CounterCheck = this.counterCheck();

  protected override encode(n: number): Buffer {
    return Buffer.from(`${n}\n`);
  }

  protected override judge(n: number, line: string): void {
    const fields = /^ok (\d{1,15}) (\d{1,15}) (\S+)$/.exec(line);
    const counted = fields && this.#counter.observe(n, Number(fields[2]), this.sent);
    if (counted && Number(fields[1]) === n && this.proves(n, fields[3] ?? "")) return;
    this.complain("wrongReplies", `request ${n} answered ${line}`);
  }

  /** Whether the value may be so. */
  protected abstract proves(n: number, value: string): boolean;
}

export class CounterRaceDialogue extends RaceDialogue {
  protected override proves(_n: number, value: string): boolean {
    return /^[+=]\d{1,15}$/.test(value);
  }
}

export class LockedCounterDialogue extends RaceDialogue {
  #last = 0;

  constructor(
    run: string,
    connection: number,
    readonly order: SharedOrder,
  ) {
    super(run, connection);
  }

  protected override proves(n: number, value: string): boolean {
    if (!/^[+=]\d{1,15}$/.test(value)) return false;
    const number = Number(value.slice(1));
    if (value.startsWith("+"))
      this.order.claim({ number, connection: this.connection, n, proof: value });
    if (number < this.#last) this.complain("lostWrites", `${number} after ${this.#last}`);
    this.#last = Math.max(this.#last, number);
    return true;
  }
}

export class FlagRaceDialogue extends RaceDialogue {
  #generation = 0;

  protected override proves(n: number, value: string): boolean {
    const [generation = -1, entry] = /^(\d+):(\d+)$/.exec(value)?.slice(1).map(Number) ?? [];
    if (generation < this.#generation) {
      this.complain("lostWrites", `generation ${generation} after ${this.#generation}`);
    }
    this.#generation = Math.max(this.#generation, generation);
    return entry === settingsEntry(generation, n);
  }
}
