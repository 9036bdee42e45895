/**
 * The services of e2e/workloads, which speak in lines: `echo`, `disk` and `tree`.
 *
 *   echo: `<n> <payload>`   → `ok <n> <n> <payload>`         the second n is the service's own count
 *   disk: `append <text>`   → `ok <number> <offset>`         number: over all connections, gapless
 *   tree: `step <value>`    → `ok <count> <sum>`             sum: fold of all values up to here
 */
import { type CounterCheck, Dialogue } from "./dialogue.js";
import { type Findings, noFindings } from "./findings.js";
import { TextLines } from "./text-lines.js";

const lineBytesMax = 16 << 10;
export const diskRecordBytes = 128;

export abstract class LineDialogue extends Dialogue {
  readonly #lines = new TextLines("\n", lineBytesMax);

  protected override consume(chunk: Buffer): void {
    for (const line of this.#lines.push(chunk)) {
      if (this.outstanding === 0) {
        this.stray(line);
        continue;
      }
      this.judge(this.acknowledged + 1, line);
      this.acknowledge();
    }
  }

  protected abstract judge(n: number, line: string): void;
}

export class EchoDialogue extends LineDialogue {
  readonly #counter: CounterCheck = this.counterCheck();

  protected override encode(n: number): Buffer {
    return Buffer.from(`${n} ${this.payload(n)}\n`);
  }

  protected override judge(n: number, line: string): void {
    const fields = /^ok (\d{1,15}) (\d{1,15}) (.*)$/.exec(line);
    if (!fields) {
      this.complain("wrongReplies", `request ${n} answered ${line}`);
      return;
    }
    const [, sequence, counter, payload] = fields;
    const counted = this.#counter.observe(n, Number(counter), this.sent);
    const exact = payload === this.payload(n);
    if (Number(sequence) === n && counted && exact) return;
    this.complain("wrongReplies", `request ${n} answered ${line}`);
    if (Number(sequence) > n && Number(sequence) <= this.sent) {
      this.complain("outOfOrder", `request ${n} answered ${line}`);
    }
  }
}

/** A place in the one order that all connections share, as the service said it. */
export interface Place {
  number: number;
  connection: number;
  n: number;
  proof: string;
}

/**
 * The order over all connections. A place given twice means that what was acknowledged first is gone; more
 * places without an owner than there were unanswered requests means that something was applied twice.
 */
export class SharedOrder {
  readonly #places = new Map<number, Place>();
  readonly findings: Findings = noFindings();
  readonly complaints: string[] = [];

  claim(place: Place): void {
    const before = this.#places.get(place.number);
    if (before) {
      this.findings.lostWrites += 1;
      this.#say(`place ${place.number} was given to ${show(before)} and to ${show(place)}`);
    }
    this.#places.set(place.number, place);
  }

  sorted(): Place[] {
    return [...this.#places.values()].sort((a, b) => a.number - b.number);
  }

  conclude(unanswered: number): void {
    const places = this.sorted();
    const [first, last] = [places.at(0), places.at(-1)];
    if (!first || !last) return;
    const orphans = last.number - first.number + 1 - places.length;
    if (orphans > unanswered) {
      this.findings.duplicatedWrites += orphans - unanswered;
      this.#say(`${orphans} places nobody asked for, ${unanswered} requests unanswered`);
    }
  }

  wrong(what: string): void {
    this.findings.wrongReplies += 1;
    this.#say(what);
  }

  #say(what: string): void {
    if (this.complaints.length < 10) this.complaints.push(what);
  }
}

const show = (place: Place): string => `request ${place.n} of connection ${place.connection}`;

abstract class OrderedDialogue extends LineDialogue {
  #last = 0;

  constructor(
    run: string,
    connection: number,
    readonly order: SharedOrder,
  ) {
    super(run, connection);
  }

  protected override judge(n: number, line: string): void {
    const fields = /^ok (\d{1,15}) (\S+)$/.exec(line);
    if (!fields) {
      this.complain("wrongReplies", `request ${n} answered ${line}`);
      return;
    }
    const number = Number(fields[1]);
    const proof = fields[2]!;
    if (number <= this.#last) this.complain("outOfOrder", `place ${number} after ${this.#last}`);
    this.#last = Math.max(this.#last, number);
    this.order.claim({ number, connection: this.connection, n, proof });
    if (!this.proves(number, proof)) {
      this.complain("wrongReplies", `request ${n} answered ${line}`);
    }
  }

  protected abstract proves(number: number, proof: string): boolean;
}

/** What request n of a connection appends. */
export const diskText = (run: string, connection: number, n: number): string =>
  `${run}/${connection}/${n}`;

export class DiskDialogue extends OrderedDialogue {
  protected override encode(n: number): Buffer {
    return Buffer.from(`append ${diskText(this.run, this.connection, n)}\n`);
  }

  protected override proves(number: number, proof: string): boolean {
    return Number(proof) === (number - 1) * diskRecordBytes;
  }
}

const treeValue = (connection: number, n: number): bigint =>
  BigInt(connection) * 1_000_000_007n + BigInt(n);

export class TreeDialogue extends OrderedDialogue {
  protected override encode(n: number): Buffer {
    return Buffer.from(`step ${treeValue(this.connection, n)}\n`);
  }

  protected override proves(_number: number, proof: string): boolean {
    return /^[0-9a-f]{16}$/.test(proof);
  }
}

/** FNV-1a over the eight bytes of a value, as e2e/workloads/src/tree.c folds it. */
export function foldTree(before: bigint, value: bigint): bigint {
  let sum = before;
  for (let i = 0n; i < 8n; i += 1n) {
    sum = BigInt.asUintN(64, (sum ^ ((value >> (8n * i)) & 0xffn)) * 1_099_511_628_211n);
  }
  return sum;
}

/** Each sum must follow from the one before it and the value of its own request. */
export function checkTreeSums(order: SharedOrder): void {
  let before: Place | undefined;
  for (const place of order.sorted()) {
    if (before && before.number + 1 === place.number) {
      const sum = foldTree(BigInt(`0x${before.proof}`), treeValue(place.connection, place.n));
      if (sum !== BigInt(`0x${place.proof}`)) {
        order.wrong(`place ${place.number}: sum ${place.proof} does not follow from its past`);
      }
    }
    before = place;
  }
}
