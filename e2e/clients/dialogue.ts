/**
 * One connection's conversation with a service: makes numbered requests, takes bytes, judges replies.
 * No socket and no clock in here, so every judgement is tested without a network.
 *
 * Invariants: 0 ≤ acknowledged ≤ sent; requests are numbered from 1; replies are judged in the order in
 * which the requests went out.
 */
import { invariant } from "../../orchestrator/errors/error.js";
import { type Findings, noFindings } from "./findings.js";
import { payloadFor } from "./payload.js";

export abstract class Dialogue {
  readonly findings: Findings = noFindings();
  /** The first few complaints in words, for the report. */
  readonly complaints: string[] = [];
  readonly #counterChecks: CounterCheck[] = [];
  #sent = 0;
  #acknowledged = 0;

  /**
   * `run` keeps the keys of one run apart from those of all others; `connection` those of one connection.
   * `valueBytes`: of the payload, where requests carry one.
   */
  constructor(
    readonly run: string,
    readonly connection: number,
    readonly valueBytes = 0,
  ) {}

  get sent(): number {
    return this.#sent;
  }
  get acknowledged(): number {
    return this.#acknowledged;
  }
  get outstanding(): number {
    return this.#sent - this.#acknowledged;
  }

  /** Bytes of the next numbered request. */
  next(): Buffer {
    this.#sent += 1;
    return this.encode(this.#sent);
  }

  /** Takes what came in; returns how many requests it completed. */
  feed(chunk: Buffer): number {
    const before = this.#acknowledged;
    this.consume(chunk);
    invariant(this.#acknowledged <= this.#sent, "a reply was counted without a request");
    return this.#acknowledged - before;
  }

  /** Nothing more will come: judge what was kept open. */
  settle(): void {
    for (const check of this.#counterChecks) check.settle();
  }

  protected abstract encode(n: number): Buffer;
  /** Splits bytes into replies; calls `acknowledge` for each completed request, `stray` for the unasked. */
  protected abstract consume(chunk: Buffer): void;

  protected acknowledge(): void {
    this.#acknowledged += 1;
  }

  protected stray(what: string): void {
    this.complain("strayReplies", `unasked reply ${what}`);
  }

  /** A counter check whose verdicts become findings of this connection. */
  protected counterCheck(): CounterCheck {
    const check = new CounterCheck(({ lost, duplicated, outOfOrder }) => {
      const about = `around request ${this.acknowledged + 1}`;
      if (lost > 0) this.complain("lostWrites", about, lost);
      if (duplicated > 0) this.complain("duplicatedWrites", about, duplicated);
      if (outOfOrder > 0) this.complain("outOfOrder", about, outOfOrder);
    });
    this.#counterChecks.push(check);
    return check;
  }

  /** What request n carries. */
  protected payload(n: number): string {
    return payloadFor(this.run, this.connection, n, this.valueBytes);
  }

  protected complain(kind: keyof Findings, message: string, count = 1): void {
    this.findings[kind] += count;
    if (this.complaints.length < 10) {
      this.complaints.push(`connection ${this.connection}: ${kind}: ${message.slice(0, 300)}`);
    }
  }
}

export interface CounterVerdict {
  lost: number;
  duplicated: number;
  outOfOrder: number;
}

/**
 * Follows a counter that a service raises by one per request and answers with its value. A reply that
 * deviates becomes the new base, so one lost write is one lost write, not one per reply that follows.
 *
 * With several requests outstanding a swap of two replies looks at first like a doubled write; so
 * deviations are gathered until every request that was outstanding at the first of them is answered: what
 * then cancels out was out of order, what remains was lost (below) or doubled (above).
 */
export class CounterCheck {
  #offset = 0;
  #burst: { untilRequest: number; sum: number; ups: number; downs: number } | undefined;
  readonly #judge: (verdict: CounterVerdict) => void;

  constructor(judge: (verdict: CounterVerdict) => void) {
    this.#judge = judge;
  }

  /** Request `n` was answered `got` while requests up to `sent` were out. False if that is wrong. */
  observe(n: number, got: number, sent: number): boolean {
    const deviation = got - (n + this.#offset);
    if (deviation !== 0) {
      this.#offset += deviation;
      this.#burst ??= { untilRequest: sent, sum: 0, ups: 0, downs: 0 };
      this.#burst.sum += deviation;
      if (deviation > 0) this.#burst.ups += 1;
      else this.#burst.downs += 1;
    }
    if (this.#burst && n >= this.#burst.untilRequest) this.settle();
    return deviation === 0;
  }

  /** Judges what has been gathered; also to be called at the end. */
  settle(): void {
    const burst = this.#burst;
    if (!burst) return;
    this.#burst = undefined;
    this.#judge({
      lost: Math.max(0, -burst.sum),
      duplicated: Math.max(0, burst.sum),
      outOfOrder: Math.min(burst.ups, burst.downs),
    });
  }
}
