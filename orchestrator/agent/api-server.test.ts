import { mkdtemp, rename, rm, stat, symlink, writeFile } from "node:fs/promises";
import { connect, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { ExitCode, FtError } from "../errors/error.js";
import { limits } from "../limits.js";
import { AgentClient } from "./api-client.js";
import { callJson } from "./api-client-http.js";
import { type ApiServer, startApiServer } from "./api-server.js";
import type { AgentService, FtEvent, PairView } from "./api-types.js";

const VIEW = { id: "0123456789ab", name: "redis", state: "protected" } as PairView;

function event(seq: number): FtEvent {
  const at = "2026-01-01T00:00:00.000Z";
  return { seq, at, host: "alpha", type: "protected", level: "info", message: "m" };
}

function never(): never {
  throw new Error("not expected in this test");
}

/** A service of which a test replaces what it needs. */
function service(changes: Partial<AgentService>): AgentService {
  const base: AgentService = {
    info: never,
    check: never,
    protect: never,
    unprotect: never,
    switchover: never,
    failover: never,
    list: async () => [VIEW],
    find: never,
    inspect: never,
    events: never,
    eventsKept: () => [],
    logs: never,
    metrics: never,
  };
  return { ...base, ...changes };
}

let dir: string;
let socketPath: string;
let client: AgentClient;
const servers: ApiServer[] = [];

async function start(changes: Partial<AgentService> = {}, onError?: (error: unknown) => void) {
  const server = await startApiServer({ socketPath, service: service(changes), onError });
  servers.push(server);
  return server;
}

beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), "ftctl-api-"));
  socketPath = join(dir, "run", "agent.sock");
  client = new AgentClient(socketPath);
});
afterEach(async () => {
  for (const server of servers.splice(0)) await server.close();
  await rm(dir, { recursive: true });
});

/** Raw bytes to the socket; resolves with all that comes back. */
function raw(bytes: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = connect(socketPath);
    let answer = "";
    socket.setEncoding("utf8");
    socket.on("data", (chunk) => {
      answer += chunk;
    });
    socket.on("close", () => resolve(answer));
    socket.on("error", (error: NodeJS.ErrnoException) => {
      if (error.code !== "EPIPE" && error.code !== "ECONNRESET") reject(error);
    });
    socket.end(bytes);
  });
}

function post(path: string, body: string): Promise<string> {
  const length = Buffer.byteLength(body);
  return raw(`POST ${path} HTTP/1.1\r\nhost: a\r\ncontent-length: ${length}\r\n\r\n${body}`);
}

describe("the socket", () => {
  it("is for owner and group only", async () => {
    await start();
    expect((await stat(socketPath)).mode & 0o777).toBe(0o660);
  });

  it("is taken over from an agent that is dead", async () => {
    const dead = createServer();
    await (await start()).close();
    await new Promise<void>((resolve) => dead.listen(socketPath, resolve));
    // Closing through the handle leaves the file, as a crash does.
    const left = join(dir, "left.sock");
    await rename(socketPath, left);
    await new Promise((resolve) => dead.close(resolve));
    await rename(left, socketPath);
    await start();
    expect(await client.list()).toEqual([VIEW]);
  });

  it("is never taken away from an agent that answers", async () => {
    await start();
    await expect(start()).rejects.toMatchObject({ code: "AGENT_ALREADY_RUNNING", exitCode: 6 });
    expect(await client.list()).toEqual([VIEW]);
  });

  it.each(["file", "link"])("leaves a %s in its place alone", async (kind) => {
    const path = join(dir, "x.sock");
    if (kind === "file") await writeFile(path, "precious");
    else await symlink("/etc/hostname", path);
    await expect(startApiServer({ socketPath: path, service: service({}) })).rejects.toMatchObject({
      code: "AGENT_SOCKET_UNUSABLE",
    });
    expect((await stat(path)).size).toBeGreaterThan(0);
  });

  it("says when the path is too long", async () => {
    await expect(
      startApiServer({ socketPath: join(dir, "x".repeat(120)), service: service({}) }),
    ).rejects.toMatchObject({ code: "AGENT_SOCKET_UNUSABLE", message: /107 bytes/ });
  });

  it("is removed at the end", async () => {
    await (await start()).close();
    await expect(stat(socketPath)).rejects.toMatchObject({ code: "ENOENT" });
  });
});

describe("answers", () => {
  it("carry values and names", async () => {
    const find = vi.fn(async () => VIEW);
    const logs = vi.fn(async () => ["a", "b"]);
    await start({ find, logs, metrics: async () => "ftctl_up 1\n" });
    expect(await client.find("redis")).toEqual(VIEW);
    expect(find).toHaveBeenCalledWith("redis");
    expect(await client.logs("redis", 7)).toEqual(["a", "b"]);
    expect(logs).toHaveBeenCalledWith("redis", 7);
    expect(await client.metrics()).toBe("ftctl_up 1\n");
  });

  it("carry an error whole", async () => {
    const error = new FtError({
      code: "NOT_FOUND",
      subject: "pair web",
      message: "no such pair",
      hint: "ftctl ls",
      log: "/var/log/x",
      quoted: ["Error (criu/x.c:1): y"],
      exitCode: ExitCode.notFound,
    });
    await start({ find: () => Promise.reject(error) });
    const thrown = await client.find("web").catch((e: unknown) => e);
    expect(thrown).toBeInstanceOf(FtError);
    expect((thrown as FtError).toJSON()).toEqual(error.toJSON());
  });

  it.each([
    [ExitCode.usage, 400],
    [ExitCode.notFound, 404],
    [ExitCode.preflightFailed, 422],
    [ExitCode.refused, 409],
    [ExitCode.peerUnreachable, 502],
    [ExitCode.timeOut, 504],
    [ExitCode.error, 500],
  ])("of exit code %i have status %i", async (exitCode, status) => {
    const error = new FtError({ code: "X", subject: "s", message: "m", exitCode });
    await start({ list: () => Promise.reject(error) });
    const text = await raw("GET /v1/pairs HTTP/1.1\r\nhost: a\r\n\r\n");
    expect(text).toMatch(new RegExp(`^HTTP/1.1 ${status} `));
  });

  it("tell a bug as INTERNAL and report it", async () => {
    const onError = vi.fn();
    const bug = new TypeError("oops");
    await start({ list: () => Promise.reject(bug) }, onError);
    await expect(client.list()).rejects.toMatchObject({ code: "INTERNAL", message: "oops" });
    expect(onError).toHaveBeenCalledWith(bug);
  });
});

describe("operations", () => {
  it("stream progress, then the result", async () => {
    await start({
      protect: async (request, progress) => {
        progress({ step: "check", message: request.container });
        progress({ step: "image", message: "sent", done: 5, total: 9 });
        return VIEW;
      },
    });
    const seen: string[] = [];
    const onProgress = ({ step, message }: { step: string; message: string }) =>
      seen.push(`${step} ${message}`);
    expect(await client.protect({ container: "redis" }, { onProgress })).toEqual(VIEW);
    expect(seen).toEqual(["check redis", "image sent"]);
  });

  it("stream progress, then the error", async () => {
    const error = new FtError({
      code: "PREFLIGHT_FAILED",
      subject: "container redis",
      message: "m",
      exitCode: ExitCode.preflightFailed,
    });
    await start({ switchover: () => Promise.reject(error) });
    await expect(client.switchover({ pair: "redis" })).rejects.toMatchObject(error.toJSON());
  });

  it("go on when the client leaves", async () => {
    let finish = () => {};
    const finished = vi.fn();
    const started = vi.fn();
    await start({
      unprotect: async () => {
        started();
        await new Promise<void>((resolve) => {
          finish = resolve;
        });
        finished();
        return { name: "redis" };
      },
    });
    const leave = new AbortController();
    const call = client.unprotect({ pair: "redis" }, { signal: leave.signal });
    await vi.waitFor(() => expect(started).toHaveBeenCalled());
    leave.abort(new Error("left"));
    await expect(call).rejects.toThrow("left");
    finish();
    await vi.waitFor(() => expect(finished).toHaveBeenCalled());
    expect(await client.list()).toEqual([VIEW]);
  });

  it("say so when the agent dies before the result", async () => {
    const server = await start({
      failover: (_request, progress) => {
        progress({ step: "claim", message: "m" });
        return new Promise(() => {});
      },
    });
    const call = client.failover({ pair: "redis" }, { onProgress: () => void server.close() });
    await expect(call).rejects.toMatchObject({ code: "AGENT_LOST" });
  });

  it("refuse a malformed policy before anything starts", async () => {
    const protect = vi.fn();
    await start({ protect });
    await expect(
      client.protect({ container: "redis", policy: { kind: "Pod" } }),
    ).rejects.toMatchObject({ code: "POLICY_INVALID", exitCode: 2 });
    expect(protect).not.toHaveBeenCalled();
  });
});

describe("events", () => {
  it("that are kept, after a number", async () => {
    await start({ eventsKept: () => [event(1), event(2), event(3)] });
    const seen = [];
    for await (const { seq } of client.events({ follow: false, after: 1 })) seen.push(seq);
    expect(seen).toEqual([2, 3]);
  });

  it("are followed until the client leaves, which ends the source", async () => {
    let signal: AbortSignal | undefined;
    await start({
      events: async function* (after, _pair, given) {
        signal = given;
        for (let seq = after + 1; !given.aborted; seq++) {
          yield event(seq);
          await new Promise((resolve) => setTimeout(resolve, 5));
        }
      },
    });
    const leave = new AbortController();
    const seen: number[] = [];
    const follow = async () => {
      for await (const { seq } of client.events({ follow: true, after: 4, signal: leave.signal })) {
        seen.push(seq);
        if (seen.length === 3) leave.abort(new Error("enough"));
      }
    };
    await expect(follow()).rejects.toThrow("enough");
    expect(seen).toEqual([5, 6, 7]);
    await vi.waitFor(() => expect(signal?.aborted).toBe(true));
  });

  it("refused at once have their error told", async () => {
    const error = new FtError({ code: "TOO_MANY_SUBSCRIBERS", subject: "events", message: "m" });
    await start({
      // biome-ignore lint/correctness/useYield: refuses before the first event
      events: async function* () {
        throw error;
      },
    });
    await expect(client.events({ follow: true }).next()).rejects.toMatchObject({
      code: "TOO_MANY_SUBSCRIBERS",
    });
  });

  it("start to be followed before there is any", async () => {
    await start({
      events: async function* (_after, _pair, signal) {
        await new Promise((resolve) => signal.addEventListener("abort", resolve));
        yield event(1);
      },
    });
    const text = raw("GET /v1/events?follow=1 HTTP/1.1\r\nhost: a\r\n\r\n");
    await vi.waitFor(() => expect(servers).toHaveLength(1));
    await servers.splice(0)[0]?.close();
    expect(await text).not.toContain("500");
  });
});

describe("hostile requests", () => {
  it.each([
    ["no JSON", "/v1/check", "nonsense", 400],
    ["no UTF-8", "/v1/check", '{"container":"\ud800"}', 400],
    ["a wrong type", "/v1/check", '{"container":7}', 400],
    ["an unknown field", "/v1/check", '{"container":"a","extra":1}', 400],
    ["a traversal", "/v1/check", '{"container":"../../etc"}', 400],
    ["a prototype", "/v1/unprotect", '{"pair":"a","__proto__":{"force":true},"x":1}', 400],
    ["null", "/v1/protect", "null", 400],
    ["depth", "/v1/check", "[".repeat(50_000), 400],
    ["an unknown path", "/v2/check", "{}", 404],
    ["a wrong method", "/v1/pairs", "{}", 405],
  ])("%s gets an error and changes nothing", async (_name, path, body, status) => {
    await start();
    const text = await post(path, body);
    expect(text).toMatch(new RegExp(`^HTTP/1.1 ${status} `));
    expect(JSON.parse(text.slice(text.indexOf("\r\n\r\n")))).toMatchObject({
      code: expect.stringMatching(/^[A-Z_]+$/),
    });
    expect(await client.list()).toEqual([VIEW]);
  });

  it.each([
    "/v1/pairs/%2e%2e%2fetc",
    "/v1/pairs/a%00b",
    "/v1/pairs/%ff",
    "/v1/pairs/redis/logs?lines=1e9",
    "/v1/pairs/redis/logs?lines=-1",
    "/v1/events?after=x",
    "/v1/events?pair=a%20b",
    "//",
    "/v1/pairs/redis/secrets",
  ])("GET %s gets an error", async (path) => {
    await start();
    const text = await raw(`GET ${path} HTTP/1.1\r\nhost: a\r\n\r\n`);
    expect(text).toMatch(/^HTTP\/1.1 40[04] /);
  });

  it("a body over the bound is cut off", async () => {
    await start();
    const text = await post("/v1/check", " ".repeat(limits.localRequestBytesMax + 1));
    expect(text).toMatch(/^HTTP\/1.1 413 /);
    expect(await client.list()).toEqual([VIEW]);
  });

  it("bytes that are no HTTP end in 400 or nothing", async () => {
    await start();
    for (const bytes of ["\u0000\u0001\u0002", "GET", `GET / HTTP/1.1\r\n${"x".repeat(40_000)}`]) {
      expect(await raw(bytes)).toMatch(/^(HTTP\/1.1 4|$)/);
    }
    expect(await client.list()).toEqual([VIEW]);
  });

  it("connections over the bound are closed, those within go on", async () => {
    await start();
    const idle = Array.from({ length: limits.localConnectionsMax + 10 }, () => connect(socketPath));
    const closed = idle.map(
      (socket) =>
        new Promise<void>((resolve) => {
          socket.on("error", () => {});
          socket.on("close", () => resolve());
        }),
    );
    await Promise.race(closed);
    for (const socket of idle) socket.destroy();
    await vi.waitFor(async () => expect(await client.list()).toEqual([VIEW]), { timeout: 5000 });
  });
});

describe("the client", () => {
  it("says what to do when there is no agent", async () => {
    await expect(client.list()).rejects.toMatchObject({
      code: "AGENT_UNREACHABLE",
      hint: expect.stringContaining("systemctl start"),
    });
  });

  it.each([
    ["another program", "220 smtp ready\r\n"],
    ["HTML", "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\n<p>\n"],
    ["a status only", "HTTP/1.1 418 Teapot\r\ncontent-length: 0\r\n\r\n"],
  ])("does not trust %s behind the socket", async (_name, bytes) => {
    const path = join(dir, "other.sock");
    const other = createServer((socket) => socket.resume().end(bytes));
    await new Promise<void>((resolve) => other.listen(path, resolve));
    const call = callJson(path, { method: "GET", path: "/v1/pairs" });
    await expect(call).rejects.toMatchObject({ code: "AGENT_ANSWER_INVALID" });
    await new Promise((resolve) => other.close(resolve));
  });
});
