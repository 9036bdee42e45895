/**
 * Memcached under numbered writes, text protocol. Request n of a connection is
 *
 *   set  k:<run>:<connection>:<n> …   → STORED
 *   incr c:<run>:<connection> 1       → n exactly: a lost or a doubled write shows here
 *
 * The counter is made by an `add` in front of request 1.
 */
import { Dialogue } from "./dialogue.js";
import { redisKeys } from "./redis.js";
import { TextLines } from "./text-lines.js";

const lineBytesMax = 2_048;

export class MemcachedDialogue extends Dialogue {
  readonly #increments = this.counterCheck();
  readonly #lines = new TextLines("\r\n", lineBytesMax);
  #repliesOfCurrent = 0;

  protected override encode(n: number): Buffer {
    const { run, connection } = this;
    const value = this.payload(n);
    const counter = redisKeys.counter(run, connection);
    return Buffer.from(
      (n === 1 ? `add ${counter} 0 0 1\r\n0\r\n` : "") +
        `set ${redisKeys.value(run, connection, n)} 0 0 ${value.length}\r\n${value}\r\n` +
        `incr ${counter} 1\r\n`,
    );
  }

  protected override consume(chunk: Buffer): void {
    for (const line of this.#lines.push(chunk)) this.#line(line);
  }

  #line(line: string): void {
    if (this.outstanding === 0) {
      this.stray(line);
      return;
    }
    const n = this.acknowledged + 1;
    const stored = n === 1 ? 2 : 1;
    if (this.#repliesOfCurrent < stored) {
      this.#repliesOfCurrent += 1;
      if (line !== "STORED") this.complain("wrongReplies", `set ${n} answered ${line}`);
      return;
    }
    this.#judgeIncrement(n, line);
    this.#repliesOfCurrent = 0;
    this.acknowledge();
  }

  #judgeIncrement(n: number, line: string): void {
    if (!/^\d{1,15}$/.test(line)) {
      this.complain("wrongReplies", `incr ${n} answered ${line}`);
      return;
    }
    if (!this.#increments.observe(n, Number(line), this.sent)) {
      this.complain("wrongReplies", `incr ${n} answered ${line}`);
    }
  }
}
