import { afterEach, describe, expect, it } from "vitest";
import { brokenPromises, type Verdict, verdictOf } from "../checkers/verdict.js";
import { verify } from "../checkers/verify.js";
import { conversationFor } from "./dialogues.js";
import { outageMsAround } from "./latency.js";
import { Load } from "./load.js";
import { clientOptions, type GivenOptions } from "./options.js";
import type { ClientReport } from "./report.js";
import { type Lies, LyingRedis } from "./testing/lying-redis.js";

let server: LyingRedis | undefined;
afterEach(async () => {
  await server?.stop();
  server = undefined;
});

async function judge(
  lies: Lies,
  given: Partial<GivenOptions> = {},
): Promise<{ verdict: Verdict; report: ClientReport }> {
  server = await LyingRedis.start(lies);
  const options = clientOptions({
    workload: "redis",
    host: "127.0.0.1",
    port: server.port,
    connections: 1,
    requestsMax: 20,
    stallMsMax: 300,
    run: "t",
    ...given,
  });
  const load = new Load(options, conversationFor("redis", options));
  await load.open();
  const report = await load.run();
  const target = { ...options, timeoutMs: 1_000, ledgers: load.ledgers() };
  return { verdict: verdictOf(report, await verify("redis", target)), report };
}

describe("the redis client against a server that", () => {
  it("keeps its promises: finds nothing", async () => {
    const { verdict } = await judge({}, { connections: 4, pipeline: 5 });
    expect(brokenPromises(verdict)).toEqual([]);
    expect(verdict.acknowledgedWrites).toBe(80);
  });

  it("answers a write and loses it", async () => {
    const { verdict } = await judge({ loseIncrement: 7 });
    expect(verdict.lostWrites).toBe(1);
    expect(verdict.duplicatedWrites).toBe(0);
  });

  it("loses the last write, which only the read-back can see", async () => {
    const { verdict, report } = await judge({ loseIncrement: 20 });
    expect(report.findings.lostWrites).toBe(0);
    expect(verdict.lostWrites).toBe(1);
  });

  it("forgets one value", async () => {
    const { verdict } = await judge({ forgetKeysEnding: ":13" });
    expect(verdict.lostWrites).toBe(1);
  });

  it("applies a write twice", async () => {
    const { verdict } = await judge({ doubleIncrement: 7 });
    expect(verdict.duplicatedWrites).toBe(1);
    expect(verdict.lostWrites).toBe(0);
  });

  it("appends a record twice at the very end", async () => {
    const { verdict } = await judge({ doublePush: 20 });
    expect(verdict.duplicatedWrites).toBe(1);
  });

  it("exchanges two replies", async () => {
    const { verdict } = await judge({ swapIncrement: 6 }, { pipeline: 4 });
    expect(verdict.outOfOrder).toBe(1);
    expect(verdict.lostWrites).toBe(0);
    expect(verdict.duplicatedWrites).toBe(0);
  });

  it("sends a reply twice", async () => {
    const { verdict } = await judge({ repeatReply: 9 });
    expect(verdict.wrongReplies).toBeGreaterThan(0);
  });

  it("answers something else", async () => {
    const { verdict } = await judge({ wrongReply: 3 });
    expect(verdict.wrongReplies).toBe(1);
  });

  it("resets one connection", async () => {
    const { verdict } = await judge({ resetAt: 5 }, { connections: 3 });
    expect(verdict.resets).toBe(1);
    expect(brokenPromises(verdict)).toContain("1 connections reset");
  });

  it("closes one connection politely", async () => {
    const { verdict } = await judge({ closeAt: 5 }, { connections: 2 });
    expect(verdict.resets).toBe(1);
  });

  it("falls silent", async () => {
    const { verdict, report } = await judge({ silentFrom: 10 });
    expect(verdict.stalled).toBe(1);
    expect(outageMsAround(report.gaps, report.startedUs)).toBeGreaterThanOrEqual(250);
  });

  it("does not listen", async () => {
    const { verdict } = await judge({}, { requestsMax: 1 });
    expect(verdict.refused).toBe(0);
    const port = server!.port;
    await server!.stop();
    server = undefined;
    const options = clientOptions({ workload: "redis", host: "127.0.0.1", port, connections: 2 });
    const load = new Load(options, conversationFor("redis", options));
    await load.open();
    const report = await load.run();
    expect(report.refused).toBe(2);
    expect(brokenPromises(verdictOf(report))).toContain("nothing was acknowledged at all");
  });
});
