/**
 * The read-back: after the load, everything acknowledged must be there exactly once, in order. Of each
 * connection, requests that were sent but not acknowledged may or may not have been applied.
 */
import { type Findings, noFindings } from "../clients/findings.js";
import type { ConnectionLedger, VerifyReport } from "../clients/report.js";

export class ReadBack {
  readonly findings: Findings = noFindings();
  readonly complaints: string[] = [];
  #recordsChecked = 0;

  complain(kind: keyof Findings, message: string, count = 1): void {
    this.findings[kind] += count;
    if (this.complaints.length < 20) this.complaints.push(`${kind}: ${message.slice(0, 300)}`);
  }

  checked(records: number): void {
    this.#recordsChecked += records;
  }

  /** A counter that rose by one per applied request. */
  counter(ledger: ConnectionLedger, value: number): void {
    const { connection, acknowledged, sent } = ledger;
    this.checked(1);
    const what = `connection ${connection}: counter ${value}, ${acknowledged} acknowledged, ${sent} sent`;
    if (value < acknowledged) this.complain("lostWrites", what, acknowledged - value);
    if (value > sent) this.complain("duplicatedWrites", what, value - sent);
  }

  /** What request n wrote, and wrote alone. */
  value(ledger: ConnectionLedger, n: number, value: string | undefined, written: string): void {
    this.checked(1);
    const what = `connection ${ledger.connection}: value ${n}`;
    if (value === undefined) {
      if (n <= ledger.acknowledged) this.complain("lostWrites", `${what} is gone`);
    } else if (value !== written) {
      this.complain("wrongReplies", `${what} is ${JSON.stringify(value)}`);
    }
  }

  /** A sequence to which each applied request appended its own number. */
  sequence(ledger: ConnectionLedger, numbers: number[]): void {
    const { connection, acknowledged, sent } = ledger;
    this.checked(numbers.length);
    const seen = new Set<number>();
    let highest = 0;
    for (const n of numbers) {
      const what = `connection ${connection}: record ${n}`;
      if (seen.has(n)) this.complain("duplicatedWrites", what);
      else if (!Number.isInteger(n) || n < 1 || n > sent) this.complain("wrongReplies", what);
      else if (n < highest) this.complain("outOfOrder", `${what} after ${highest}`);
      seen.add(n);
      highest = Math.max(highest, n);
    }
    // Later requests than a missing one were applied: it was skipped, acknowledged or not.
    const expected = Math.max(acknowledged, Math.min(highest, sent));
    for (let n = 1; n <= expected; n += 1) {
      if (!seen.has(n))
        this.complain("lostWrites", `connection ${connection}: record ${n} is gone`);
    }
  }

  report(): VerifyReport {
    const { findings, complaints } = this;
    return { findings, complaints, recordsChecked: this.#recordsChecked };
  }
}
