import { describe, expect, it } from "vitest";
import {
  checkTreeSums,
  DiskDialogue,
  EchoDialogue,
  foldTree,
  SharedOrder,
  TreeDialogue,
} from "./lines.js";

function echo(...replies: string[]) {
  const dialogue = new EchoDialogue("r", 0, 1);
  for (const reply of replies) {
    dialogue.next();
    dialogue.feed(Buffer.from(`${reply}\n`));
  }
  dialogue.settle();
  return dialogue.findings;
}

describe("EchoDialogue", () => {
  it("accepts exact echoes", () => {
    expect(echo("ok 1 1 r/0/1;", "ok 2 2 r/0/2;").wrongReplies).toBe(0);
  });
  it("notices a counter that went back: a lost request", () => {
    expect(echo("ok 1 1 r/0/1;", "ok 2 1 r/0/2;").lostWrites).toBe(1);
  });
  it("notices a counter that went ahead: a repeated request", () => {
    expect(echo("ok 1 2 r/0/1;").duplicatedWrites).toBe(1);
  });
  it("notices another payload and a complaint of the service", () => {
    expect(echo("ok 1 1 r/0/2;").wrongReplies).toBe(1);
    expect(echo("bad sequence=1 expected=2").wrongReplies).toBe(1);
  });
});

function disk(order: SharedOrder, connection: number, ...replies: string[]) {
  const dialogue = new DiskDialogue("r", connection, order);
  for (const reply of replies) {
    dialogue.next();
    dialogue.feed(Buffer.from(`${reply}\n`));
  }
  return dialogue.findings;
}

describe("DiskDialogue", () => {
  it("accepts the records of two connections, interleaved", () => {
    const order = new SharedOrder();
    expect(disk(order, 0, "ok 1 0", "ok 3 256")).toMatchObject({ wrongReplies: 0, outOfOrder: 0 });
    expect(disk(order, 1, "ok 2 128")).toMatchObject({ wrongReplies: 0 });
    order.conclude(0);
    expect(order.complaints).toEqual([]);
  });
  it("notices a place that was given twice: the first owner's record is gone", () => {
    const order = new SharedOrder();
    disk(order, 0, "ok 1 0", "ok 2 128");
    disk(order, 1, "ok 2 128");
    expect(order.findings.lostWrites).toBe(1);
  });
  it("notices a record nobody asked for, but not one that was in flight", () => {
    for (const [unanswered, duplicated] of [
      [0, 1],
      [1, 0],
    ] as const) {
      const order = new SharedOrder();
      disk(order, 0, "ok 1 0", "ok 3 256");
      order.conclude(unanswered);
      expect(order.findings.duplicatedWrites).toBe(duplicated);
    }
  });
  it("notices a wrong offset, an order that goes back, and a failure", () => {
    expect(disk(new SharedOrder(), 0, "ok 2 0").wrongReplies).toBe(1);
    expect(disk(new SharedOrder(), 0, "ok 5 512", "ok 4 384").outOfOrder).toBe(1);
    expect(disk(new SharedOrder(), 0, "fail memory-and-file-disagree").wrongReplies).toBe(1);
  });
});

describe("TreeDialogue", () => {
  const sums = (...values: bigint[]) => {
    let sum = 0n;
    return values.map((value) => {
      sum = foldTree(sum, value);
      return sum.toString(16).padStart(16, "0");
    });
  };
  function tree(...replies: string[]) {
    const order = new SharedOrder();
    const dialogue = new TreeDialogue("r", 0, order);
    for (const reply of replies) {
      dialogue.next();
      dialogue.feed(Buffer.from(`${reply}\n`));
    }
    checkTreeSums(order);
    return order.findings;
  }

  it("accepts sums that follow from each other", () => {
    const [a, b, c] = sums(1n, 2n, 3n);
    expect(tree(`ok 1 ${a}`, `ok 2 ${b}`, `ok 3 ${c}`).wrongReplies).toBe(0);
  });
  it("notices a state in which an earlier step is missing", () => {
    const [a] = sums(1n);
    const [without] = sums(2n);
    expect(tree(`ok 1 ${a}`, `ok 2 ${without}`).wrongReplies).toBe(1);
  });
});
