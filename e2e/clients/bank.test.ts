import { describe, expect, it } from "vitest";
import { BankBooks, BankDialogue, bankAccounts, bankMove, bankSum } from "./bank.js";

/** A bank in a few lines; `lose` forgets the orders from there on, as a host that took them back would. */
class Bank {
  readonly accounts = Array.from({ length: bankAccounts }, () => ({ balance: 1_000, changes: 0 }));
  moves = 0;

  answer(request: string): string {
    const [kind, , n, from, to, amount] = request.trim().split(" ");
    if (kind === "audit") return `ok ${n} ${bankSum} ${this.moves}`;
    const [source, target] = [this.accounts[Number(from)]!, this.accounts[Number(to)]!];
    source.balance -= Number(amount);
    target.balance += Number(amount);
    source.changes += 1;
    target.changes += 1;
    this.moves += 1;
    return `ok ${n} ${source.changes} ${source.balance} ${target.changes} ${target.balance}`;
  }

  copy(): Bank {
    const copy = new Bank();
    for (const [i, account] of this.accounts.entries()) copy.accounts[i] = { ...account };
    copy.moves = this.moves;
    return copy;
  }
}

/** Two connections take turns; `change` sees each reply before the client does. */
function told(orders: number, change: (reply: string, bank: Bank, i: number) => string | Bank) {
  const books = new BankBooks();
  const dialogues = [0, 1].map((connection) => new BankDialogue("r", connection, books));
  let bank = new Bank();
  for (let i = 0; i < orders; i += 1) {
    const dialogue = dialogues[i % 2]!;
    const request = dialogue.next().toString();
    const changed = change(bank.answer(request), bank, i);
    if (changed instanceof Bank) bank = changed;
    dialogue.feed(Buffer.from(`${changed instanceof Bank ? bank.answer(request) : changed}\n`));
  }
  const together = books.conclude(0).findings;
  const [first, second] = dialogues.map(({ findings }) => findings);
  const sum = (kind: keyof typeof together) => together[kind] + first![kind] + second![kind];
  return {
    wrong: sum("wrongReplies"),
    lost: sum("lostWrites"),
    doubled: sum("duplicatedWrites"),
  };
}

describe("BankDialogue", () => {
  it("accepts a bank that keeps its books", () => {
    expect(told(200, (reply) => reply)).toEqual({ wrong: 0, lost: 0, doubled: 0 });
  });

  it("notices moves that were told and taken back", () => {
    let before: Bank | undefined;
    const found = told(200, (reply, bank, i) => {
      if (i === 100) before = bank.copy();
      return i === 110 && before ? before : reply;
    });
    expect(found.lost).toBeGreaterThan(0);
  });

  it("notices a move that was made twice", () => {
    const found = told(200, (reply, bank, i) => {
      if (i === 101) bank.answer("move x 1 3 4 10");
      return reply;
    });
    expect(found.doubled).toBeGreaterThan(0);
  });

  it("notices a balance that does not follow", () => {
    const found = told(200, (reply, bank, i) => {
      if (i === 101) bank.accounts[5]!.balance += 1;
      return reply;
    });
    expect(found.wrong).toBeGreaterThan(0);
  });

  it("notices a wrong sum, and an order that the bank refuses", () => {
    expect(told(16, (reply) => reply.replace(`${bankSum}`, `${bankSum - 1}`)).wrong).toBe(2);
    expect(told(3, (reply, _, i) => (i === 2 ? "bad order=2 last=2" : reply)).doubled).toBe(1);
    expect(told(3, (reply, _, i) => (i === 2 ? "bad order=2 last=0" : reply)).lost).toBe(1);
  });
});

describe("bankMove", () => {
  it("uses every account, and never one alone", () => {
    const seen = new Set<number>();
    for (let n = 1; n < 2_000; n += 1) {
      const move = bankMove(3, n);
      if (!move) continue;
      expect(move.from).not.toBe(move.to);
      seen.add(move.from).add(move.to);
    }
    expect(seen.size).toBe(bankAccounts);
  });
});
