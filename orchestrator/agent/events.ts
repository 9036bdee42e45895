/** The agent's events: kept up to a bound, numbered, followed by any number of bounded readers. */
import type { Clock } from "../clock.js";
import { FtError } from "../errors/error.js";
import { limits } from "../limits.js";
import type { FtEvent } from "./api-types.js";

export type EventInput = Omit<FtEvent, "seq" | "at" | "host">;

export class EventLog {
  private kept: FtEvent[] = [];
  private seq = 0;
  private wakers = new Set<() => void>();

  constructor(
    private readonly host: string,
    private readonly clock: Clock,
  ) {}

  emit(input: EventInput): FtEvent {
    this.seq += 1;
    const at = new Date(this.clock.wallMs()).toISOString();
    const event: FtEvent = { seq: this.seq, at, host: this.host, ...input };
    this.kept.push(event);
    if (this.kept.length > limits.eventsKeptMax) this.kept.shift();
    for (const wake of this.wakers) wake();
    return event;
  }

  list(pair: string | undefined): FtEvent[] {
    return this.kept.filter((event) => pair === undefined || event.pair === pair);
  }

  /** Events after `after`, then those to come, until aborted. A reader that lags more than the bound misses the oldest. */
  async *follow(
    after: number,
    pair: string | undefined,
    signal: AbortSignal,
  ): AsyncIterable<FtEvent> {
    if (this.wakers.size >= limits.eventSubscribersMax) {
      throw new FtError({
        code: "TOO_MANY_SUBSCRIBERS",
        subject: "events",
        message: `already ${limits.eventSubscribersMax} readers follow the events`,
        hint: "End one of them (`ftctl events -f`).",
      });
    }
    let last = after;
    while (!signal.aborted) {
      const due = this.kept.filter((event) => event.seq > last);
      for (const event of due) {
        last = event.seq;
        if (pair === undefined || event.pair === pair) yield event;
      }
      if (due.length === 0) await this.nextEvent(signal);
    }
  }

  private nextEvent(signal: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      const done = () => {
        this.wakers.delete(done);
        signal.removeEventListener("abort", done);
        resolve();
      };
      this.wakers.add(done);
      signal.addEventListener("abort", done, { once: true });
    });
  }
}
