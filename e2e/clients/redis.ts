/**
 * Redis under numbered writes. Request n of a connection is three commands in one segment:
 *
 *   SET   k:<run>:<connection>:<n> <value>   → OK
 *   INCR  c:<run>:<connection>               → n exactly: a lost or a doubled write shows here
 *   RPUSH l:<run>:<connection> <n>           → n exactly: and here, with its place in the order
 *
 * A request counts as acknowledged when all three replies are in.
 */
import { CounterCheck, Dialogue } from "./dialogue.js";
import { encodeCommand, RespDecoder, type RespValue, showValue } from "./resp.js";

export const redisKeys = {
  value: (run: string, connection: number, n: number) => `k:${run}:${connection}:${n}`,
  counter: (run: string, connection: number) => `c:${run}:${connection}`,
  list: (run: string, connection: number) => `l:${run}:${connection}`,
};

const commandsPerRequest = 3;

export class RedisDialogue extends Dialogue {
  readonly #decoder = new RespDecoder();
  /** Judges losses; RPUSH repeats its story, so its replies are only right or wrong. */
  readonly #increments = this.counterCheck();
  readonly #pushes = new CounterCheck(() => {});
  #repliesOfCurrent = 0;

  protected override encode(n: number): Buffer {
    const { run, connection } = this;
    return Buffer.from(
      encodeCommand("SET", redisKeys.value(run, connection, n), this.payload(n)) +
        encodeCommand("INCR", redisKeys.counter(run, connection)) +
        encodeCommand("RPUSH", redisKeys.list(run, connection), n),
    );
  }

  protected override consume(chunk: Buffer): void {
    for (const reply of this.#decoder.push(chunk)) {
      if (this.outstanding === 0) {
        this.stray(showValue(reply));
        continue;
      }
      this.#judge(this.acknowledged + 1, this.#repliesOfCurrent, reply);
      this.#repliesOfCurrent += 1;
      if (this.#repliesOfCurrent === commandsPerRequest) {
        this.#repliesOfCurrent = 0;
        this.acknowledge();
      }
    }
  }

  #judge(n: number, command: number, reply: RespValue): void {
    if (command === 0) {
      if (reply !== "OK") this.complain("wrongReplies", `SET ${n} answered ${showValue(reply)}`);
      return;
    }
    const name = command === 1 ? "INCR" : "RPUSH";
    if (typeof reply !== "number") {
      this.complain("wrongReplies", `${name} ${n} answered ${showValue(reply)}`);
      return;
    }
    const check = command === 1 ? this.#increments : this.#pushes;
    if (!check.observe(n, reply, this.sent)) {
      this.complain("wrongReplies", `${name} ${n} answered ${reply}`);
    }
  }
}
