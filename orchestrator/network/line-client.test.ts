import { PassThrough } from "node:stream";
import fc from "fast-check";
import { afterEach, describe, expect, it } from "vitest";
import { FtError } from "../errors/error.js";
import {
  decodeLineValue,
  encodeLineValue,
  formatLine,
  LineClient,
  type LineEvent,
  LineFailure,
  parseLine,
} from "./line-client.js";

const open: LineClient[] = [];
afterEach(() => {
  for (const client of open.splice(0)) client.close();
});

function connect(timeoutMs = 1_000, pendingMax = 8) {
  const fromProgram = new PassThrough();
  const toProgram = new PassThrough();
  const client = new LineClient(fromProgram, toProgram, {
    subject: "program",
    timeoutMs,
    pendingMax,
  });
  open.push(client);
  const events: LineEvent[] = [];
  client.on("event", (event) => events.push(event));
  const closed = new Promise<FtError | undefined>((resolve) => client.once("close", resolve));
  return { client, fromProgram, toProgram, events, closed };
}

const codeOf = (promise: Promise<unknown>) =>
  promise.then(
    () => "resolved",
    (error: unknown) => (error instanceof FtError ? error.code : String(error)),
  );

describe("percent coding", () => {
  it("brings every text through a line unchanged", () => {
    fc.assert(
      fc.property(fc.string({ unit: "grapheme" }), (text) => {
        const coded = encodeLineValue(text);
        expect(coded).toMatch(/^[\x21-\x7e]*$/);
        expect(decodeLineValue(coded)).toBe(text);
      }),
    );
  });

  it("refuses broken codes", () => {
    for (const bad of ["%", "%2", "%zz", "a%"]) expect(() => decodeLineValue(bad)).toThrow(FtError);
  });
});

describe("lines", () => {
  it("formats and parses back", () => {
    const line = formatLine("dump", { epoch: 7, path: "/a b", full: true, none: undefined });
    expect(line).toBe("dump epoch=7 path=/a%20b full=1\n");
    expect(parseLine(line.trimEnd())).toEqual({
      kind: "request",
      name: "dump",
      values: new Map([
        ["epoch", "7"],
        ["path", "/a%20b"],
        ["full", "1"],
      ]),
    });
  });

  it("never throws on hostile text", () => {
    fc.assert(
      fc.property(fc.string({ unit: "binary" }), (text) => {
        parseLine(text);
        parseLine(`ok ${text}`);
        parseLine(`event ${text}`);
      }),
    );
    for (const bad of ["", "ok x", "ok =1", "ok a=1 a=2", "event", "event =1"])
      expect(parseLine(bad)).toBeUndefined();
  });
});

describe("LineClient", () => {
  it("matches replies to requests in order, with events and split chunks in between", async () => {
    const { client, fromProgram, toProgram, events } = connect();
    const first = client.request("mark", { epoch: 1 });
    const second = client.request("stats");
    expect(toProgram.read()?.toString()).toBe("mark epoch=1\nstats\n");
    const stream = "event held epoch=2\nok epoch=1 held_bytes=12\nevent bound\nok mode=ho%20ld\n";
    for (const piece of stream.match(/.{1,3}/gs)!) fromProgram.write(piece);
    expect((await first).number("held_bytes")).toBe(12);
    expect((await second).text("mode")).toBe("ho ld");
    expect(events.map((event) => event.name)).toEqual(["held", "bound"]);
    expect(events[0]?.fields.number("epoch")).toBe(2);
  });

  it("turns a fail reply into an error with the program's code, and goes on", async () => {
    const { client, fromProgram } = connect();
    const failing = client.request("commit", { epoch: 3 });
    const next = client.request("hello");
    fromProgram.write("fail code=not-monotonic errno=0 detail=last%20was%205\nok\n");
    const error = await failing.catch((thrown: unknown) => thrown);
    expect(error).toBeInstanceOf(LineFailure);
    expect((error as LineFailure).slug).toBe("not-monotonic");
    expect((error as LineFailure).message).toContain("last was 5");
    await next;
  });

  it("closes after a time-out: a late reply could be taken for the next one", async () => {
    const { client, fromProgram, closed } = connect(20);
    expect(await codeOf(client.request("mark"))).toBe("CONTROL_TIMEOUT");
    expect((await closed)?.code).toBe("CONTROL_TIMEOUT");
    fromProgram.write("ok\n");
    expect(await codeOf(client.request("thaw"))).toBe("CONTROL_CLOSED");
  });

  it("fails every waiter when the program goes away", async () => {
    const { client, fromProgram, closed } = connect();
    const waiters = [client.request("a"), client.request("b")].map(codeOf);
    fromProgram.end();
    expect(await Promise.all(waiters)).toEqual(["CONTROL_CLOSED", "CONTROL_CLOSED"]);
    expect((await closed)?.code).toBe("CONTROL_CLOSED");
  });

  it("bounds the requests that wait", async () => {
    const { client } = connect(1_000, 2);
    const waiters = [client.request("a"), client.request("b")].map(codeOf);
    expect(await codeOf(client.request("c"))).toBe("CONTROL_BUSY");
    client.close();
    await Promise.all(waiters);
  });

  it.each([
    ["an endless line", "x".repeat(5_000)],
    ["a malformed line", "ok =\n"],
    ["a request", "mark epoch=1\n"],
    ["a reply nobody asked for", "ok\n"],
  ])("closes on %s", async (_what, bytes) => {
    const { fromProgram, closed } = connect();
    fromProgram.write(bytes);
    expect((await closed)?.code).toBe("CONTROL_PROTOCOL");
  });

  it("survives any bytes: it closes or goes on, and never throws", async () => {
    await fc.assert(
      fc.asyncProperty(fc.uint8Array({ maxLength: 200 }), async (bytes) => {
        const { client, fromProgram } = connect();
        const outcome = codeOf(client.request("hello"));
        fromProgram.write(bytes);
        fromProgram.end();
        expect(["resolved", "CONTROL_PROTOCOL", "CONTROL_CLOSED", "CONTROL_FAILED"]).toContain(
          await outcome,
        );
      }),
    );
  });

  it("names the field that is missing or not a number", async () => {
    const { client, fromProgram } = connect();
    const reply = client.request("stats");
    fromProgram.write("ok epoch=12x\n");
    const fields = await reply;
    expect(() => fields.number("epoch")).toThrow(/epoch/);
    expect(() => fields.text("mode")).toThrow(/mode/);
    expect(fields.numberOr("gone", 5)).toBe(5);
  });
});
