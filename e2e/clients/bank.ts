/**
 * The bank of e2e/workloads: orders of each connection, numbered from 1; seven moves and then an audit.
 *
 *   move <client> <n> <from> <to> <amount>  → ok <n> <changes of from> <balance of from> <changes of to> <balance of to>
 *   audit <client> <n>                      → ok <n> <sum> <moves>
 *
 * The sum is the invariant. Each change of an account has a number: what all connections were told of an account must be one history,
 * in which each balance follows from the one before it and the move that made the change.
 */
import { type Findings, noFindings } from "./findings.js";
import { LineDialogue, SharedOrder } from "./lines.js";

export const bankAccounts = 32;
export const bankSum = bankAccounts * 1_000;
const auditEvery = 8;

/** As the bank knows a connection. */
export const bankClient = (run: string, connection: number): string => `${run}/${connection}`;

export interface Move {
  from: number;
  to: number;
  amount: number;
}

/** What order n of a connection moves; undefined: it is an audit. */
export function bankMove(connection: number, n: number): Move | undefined {
  if (n % auditEvery === 0) return undefined;
  let hash = Math.imul(n, 0x9e3779b1) ^ Math.imul(connection + 1, 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 15), 0x2c1b3c6d);
  hash = (hash ^ (hash >>> 13)) >>> 0;
  const from = hash % bankAccounts;
  const to = (from + 1 + ((hash >>> 8) % (bankAccounts - 1))) % bankAccounts;
  return { from, to, amount: 1 + ((hash >>> 16) % 100) };
}

/** What all connections together were told of each account. */
export class BankBooks {
  readonly #accounts = Array.from({ length: bankAccounts }, () => new SharedOrder());

  changed(account: number, change: number, balance: number, connection: number, n: number): void {
    this.#accounts[account]?.claim({ number: change, connection, n, proof: String(balance) });
  }

  conclude(unanswered: number): { findings: Findings; complaints: string[] } {
    const findings = noFindings();
    const complaints: string[] = [];
    for (const [account, order] of this.#accounts.entries()) {
      order.conclude(unanswered);
      checkBalances(account, order);
      findings.lostWrites += order.findings.lostWrites;
      findings.duplicatedWrites += order.findings.duplicatedWrites;
      findings.wrongReplies += order.findings.wrongReplies;
      complaints.push(...order.complaints.map((text) => `account ${account}: ${text}`));
    }
    return { findings, complaints: complaints.slice(0, 10) };
  }
}

function checkBalances(account: number, order: SharedOrder): void {
  let before: { number: number; balance: number } | undefined;
  for (const { number, connection, n, proof } of order.sorted()) {
    const balance = Number(proof);
    const move = bankMove(connection, n);
    const change = move?.from === account ? -move.amount : (move?.amount ?? Number.NaN);
    if (before?.number === number - 1 && before.balance + change !== balance) {
      order.wrong(`change ${number}: ${balance} after ${before.balance}, moved ${change}`);
    }
    before = { number, balance };
  }
}

export class BankDialogue extends LineDialogue {
  /** Moves of the whole bank, as the last audit told them. */
  #moves = 0;

  constructor(
    run: string,
    connection: number,
    readonly books: BankBooks,
  ) {
    super(run, connection);
  }

  protected override encode(n: number): Buffer {
    const client = bankClient(this.run, this.connection);
    const move = bankMove(this.connection, n);
    if (!move) return Buffer.from(`audit ${client} ${n}\n`);
    return Buffer.from(`move ${client} ${n} ${move.from} ${move.to} ${move.amount}\n`);
  }

  protected override judge(n: number, line: string): void {
    const move = bankMove(this.connection, n);
    const right = move ? this.#judgeMove(n, line, move) : this.#judgeAudit(n, line);
    if (right) return;
    this.complain("wrongReplies", `request ${n} answered ${line}`);
    const last = /^bad order=\d+ last=(\d+)$/.exec(line)?.[1];
    if (last === undefined) return;
    // The bank says itself which order it had last.
    if (Number(last) < n - 1) this.complain("lostWrites", line);
    else this.complain("duplicatedWrites", line);
  }

  #judgeMove(n: number, line: string, { from, to }: Move): boolean {
    const fields = /^ok (\d+) (\d+) (-?\d+) (\d+) (-?\d+)$/.exec(line)?.slice(1).map(Number);
    if (!fields || fields[0] !== n) return false;
    const [, fromChange = 0, fromBalance = 0, toChange = 0, toBalance = 0] = fields;
    this.books.changed(from, fromChange, fromBalance, this.connection, n);
    this.books.changed(to, toChange, toBalance, this.connection, n);
    return true;
  }

  #judgeAudit(n: number, line: string): boolean {
    const fields = /^ok (\d+) (-?\d+) (\d+)$/.exec(line)?.slice(1).map(Number);
    if (!fields || fields[0] !== n) return false;
    const [, sum, moves = 0] = fields;
    if (moves < this.#moves)
      this.complain("lostWrites", `${moves} moves, there were ${this.#moves}`);
    this.#moves = Math.max(this.#moves, moves);
    return sum === bankSum;
  }
}
