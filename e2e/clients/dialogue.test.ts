import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { CounterCheck, type CounterVerdict } from "./dialogue.js";
import { HttpDecoder, HttpDialogue } from "./http.js";
import { outageMsAround } from "./latency.js";
import { MemcachedDialogue } from "./memcached.js";
import { RespDecoder } from "./resp.js";

function counted(replies: number[], pipeline: number): CounterVerdict {
  const sum = { lost: 0, duplicated: 0, outOfOrder: 0 };
  const check = new CounterCheck((verdict) => {
    sum.lost += verdict.lost;
    sum.duplicated += verdict.duplicated;
    sum.outOfOrder += verdict.outOfOrder;
  });
  replies.forEach((got, i) => {
    check.observe(i + 1, got, Math.min(replies.length, i + pipeline));
  });
  check.settle();
  return sum;
}

describe("CounterCheck", () => {
  it.each([
    ["nothing", [1, 2, 3, 4], 1, { lost: 0, duplicated: 0, outOfOrder: 0 }],
    ["a lost write", [1, 2, 2, 3], 1, { lost: 1, duplicated: 0, outOfOrder: 0 }],
    ["a doubled write", [1, 3, 4, 5], 1, { lost: 0, duplicated: 1, outOfOrder: 0 }],
    ["a doubled write in a pipeline", [1, 3, 4, 5], 4, { lost: 0, duplicated: 1, outOfOrder: 0 }],
    ["a swap", [1, 3, 2, 4], 3, { lost: 0, duplicated: 0, outOfOrder: 2 }],
    ["three writes rolled back", [1, 2, 3, 4, 2, 3], 1, { lost: 3, duplicated: 0, outOfOrder: 0 }],
    ["one lost, later one doubled", [1, 1, 2, 4], 1, { lost: 1, duplicated: 1, outOfOrder: 0 }],
  ])("tells %s", (_, replies, pipeline, expected) => {
    const verdict = counted(replies, pipeline);
    expect({ ...verdict, outOfOrder: Math.sign(verdict.outOfOrder) }).toEqual({
      ...expected,
      outOfOrder: Math.sign(expected.outOfOrder),
    });
  });
});

describe("MemcachedDialogue", () => {
  const dialogue = () => {
    const made = new MemcachedDialogue("r", 0, 16);
    made.next();
    expect(made.feed(Buffer.from("STORED\r\nSTORED\r\n1\r\n"))).toBe(1);
    made.next();
    return made;
  };

  it("accepts what memcached answers, split anywhere", () => {
    const made = dialogue();
    for (const byte of "STORED\r\n2\r\n") made.feed(Buffer.from(byte));
    expect(made.acknowledged).toBe(2);
    expect(made.complaints).toEqual([]);
  });

  it.each([
    ["a lost increment", "STORED\r\n1\r\n", "lostWrites"],
    ["a doubled increment", "STORED\r\n3\r\n", "duplicatedWrites"],
    ["a missing counter", "STORED\r\nNOT_FOUND\r\n", "wrongReplies"],
    ["a refusal", "SERVER_ERROR out of memory\r\n2\r\n", "wrongReplies"],
    ["a reply too many", "STORED\r\n2\r\n2\r\n", "strayReplies"],
  ] as const)("notices %s", (_, bytes, finding) => {
    const made = dialogue();
    made.feed(Buffer.from(bytes));
    made.settle();
    expect(made.findings[finding]).toBe(1);
  });
});

describe("HttpDialogue", () => {
  const fileContent = (index: number, bytes: number) =>
    Buffer.from(`file ${index} line 1\nfile ${index} line 2\n`.repeat(9).slice(0, bytes));
  const site = {
    paths: ["/0", "/1", "/2"],
    bodies: [0, 1, 2].map((index) => fileContent(index, 100)),
  };
  const response = (index: number, change = (body: string) => body) => {
    const body = change(fileContent(index, 100).toString());
    return Buffer.from(`HTTP/1.1 200 OK\r\nContent-Length: ${body.length}\r\n\r\n${body}`);
  };

  it("accepts exact files", () => {
    const made = new HttpDialogue("r", 0, site);
    made.next();
    made.feed(response(1));
    expect([made.acknowledged, made.complaints.length]).toEqual([1, 0]);
  });

  it("notices one changed byte", () => {
    const made = new HttpDialogue("r", 0, site);
    made.next();
    made.feed(response(1, (body) => body.replace("line 2", "line 3")));
    expect(made.findings.wrongReplies).toBe(1);
  });

  it("notices another request's reply", () => {
    const made = new HttpDialogue("r", 0, site);
    made.next();
    made.next();
    made.feed(response(2));
    expect(made.findings.outOfOrder).toBe(1);
  });
});

describe("decoders", () => {
  it("read RESP alike however it is split", () => {
    const bytes = Buffer.from("*2\r\n$3\r\nabc\r\n:7\r\n+OK\r\n$-1\r\n-ERR no\r\n");
    const whole = new RespDecoder().push(bytes);
    expect(whole).toHaveLength(4);
    for (let cut = 0; cut <= bytes.length; cut += 1) {
      const decoder = new RespDecoder();
      const values = [
        ...decoder.push(bytes.subarray(0, cut)),
        ...decoder.push(bytes.subarray(cut)),
      ];
      expect(values).toEqual(whole);
    }
  });

  it("never hang or crash on hostile bytes, only refuse", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
        for (const decoder of [new RespDecoder(), new HttpDecoder()]) {
          try {
            decoder.push(Buffer.from(bytes));
          } catch (error) {
            expect(error).toBeInstanceOf(Error);
          }
        }
      }),
    );
  });
});

describe("outageMsAround", () => {
  const gap = (fromMs: number, toMs: number) => ({
    connection: 0,
    fromUs: fromMs * 1000,
    toUs: toMs * 1000,
  });
  it("takes the longest silence that touches the kill, and no other", () => {
    const gaps = [gap(0, 900), gap(990, 1_400), gap(1_010, 1_600), gap(9_000, 12_000)];
    expect(outageMsAround(gaps, 1_000_000)).toBe(590);
    expect(outageMsAround([], 1_000_000)).toBe(0);
  });
});
