import { randomBytes } from "node:crypto";
import { connect, createServer, type Server, type Socket } from "node:net";
import { Readable } from "node:stream";
import { buffer } from "node:stream/consumers";
import { connect as tlsConnect } from "node:tls";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { z } from "zod";
import { FtError } from "../errors/error.js";
import { ControlClient, type PeerConnection } from "./control-client.js";
import { ControlServer } from "./control-server.js";
import { tlsOptionsOf } from "./identity.js";
import { defineMethods, defineUploads } from "./methods.js";
import {
  bookOf,
  Folders,
  makeAuthority,
  makeHost,
  peerOf,
  quiet,
  type TestHost,
  until,
} from "./test-cluster.js";

const methods = defineMethods({
  double: {
    request: z.strictObject({ value: z.int() }),
    reply: z.strictObject({ value: z.int(), peer: z.string() }),
    timeoutMs: 2_000,
  },
  fail: { request: z.strictObject({}), reply: z.strictObject({}), timeoutMs: 2_000 },
  wait: { request: z.strictObject({}), reply: z.strictObject({}), timeoutMs: 200 },
});
const uploads = defineUploads({
  image: {
    header: z.strictObject({ name: z.string() }),
    reply: z.strictObject({ bytes: z.int() }),
    timeoutMs: 10_000,
    bytesMax: 8 << 20,
  },
});

const failure = new FtError({
  code: "PREFLIGHT_FAILED",
  subject: "container redis",
  message: "io_uring is in use",
  hint: "Turn it off.",
  log: "/var/lib/ftctl/x.log",
  quoted: ["Error (criu/io_uring.c): no"],
  exitCode: 4,
});

const folders = new Folders();
const cleanups: (() => Promise<void> | void)[] = [];
let alpha: TestHost;
let beta: TestHost;
let waited: AbortSignal | undefined;
let uploadBegun = false;
let uploadFailure: Error | undefined;

beforeAll(async () => {
  alpha = await makeAuthority(folders, "alpha");
  beta = await makeHost(folders, alpha, "beta");
});
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});
afterAll(() => folders.remove());

async function serve(options: { host?: TestHost; knows?: string[]; protocol?: number } = {}) {
  const host = options.host ?? beta;
  const server = await ControlServer.start({
    identity: host.identity,
    peers: bookOf(
      host,
      (options.knows ?? ["alpha"]).map((name) => peerOf(name)),
    ),
    self: peerOf(host.identity.host),
    address: "127.0.0.1",
    port: 0,
    version: "2.0.0",
    ...(options.protocol === undefined ? {} : { protocol: options.protocol }),
    methods,
    handlers: {
      double: async ({ value }, { peer }) => ({ value: value * 2, peer }),
      fail: async () => {
        throw failure;
      },
      wait: async (_request, { signal }) => {
        waited = signal;
        return new Promise((resolve) => signal.addEventListener("abort", () => resolve({})));
      },
    },
    uploads,
    uploadHandlers: {
      image: async ({ name }, body) => {
        if (name === "refused") throw failure;
        uploadBegun = true;
        try {
          return { bytes: (await buffer(body)).length };
        } catch (error) {
          uploadFailure = error as Error;
          throw error;
        }
      },
    },
    log: quiet,
  });
  cleanups.push(() => server.stop());
  return server;
}

function client(port: number, from: TestHost = alpha, host = "beta") {
  const states: PeerConnection[] = [];
  const made = new ControlClient({
    identity: from.identity,
    peer: peerOf(host, { controlPort: port }),
    version: "1.0.0",
    methods,
    uploads,
    log: quiet,
    onState: (state) => states.push(state),
  });
  cleanups.push(() => made.close());
  return Object.assign(made, { states });
}

async function rejection(promise: Promise<unknown>): Promise<FtError> {
  const error = await promise.then(
    () => new Error("did not fail"),
    (thrown) => thrown,
  );
  expect(error).toBeInstanceOf(FtError);
  return error as FtError;
}

describe("calls", () => {
  it("are typed, and know who asks", async () => {
    const { port } = await serve();
    const reply = await client(port).call("double", { value: 21 });
    expect(reply).toEqual({ value: 42, peer: "alpha" });
  });

  it("carry an FtError whole", async () => {
    const { port } = await serve();
    const error = await rejection(client(port).call("fail", {}));
    expect(error.toJSON()).toEqual(failure.toJSON());
  });

  it("end at their deadline, and the handler is told", async () => {
    const { port } = await serve();
    const error = await rejection(client(port).call("wait", {}));
    expect(error.code).toBe("PEER_TIME_OUT");
    expect(error.exitCode).toBe(124);
    await until(() => waited?.aborted);
  });

  it("refuse a request that does not fit its schema", async () => {
    const { port } = await serve();
    const error = await rejection(client(port).call("double", { value: 1.5 }));
    expect(error.code).toBe("BAD_MESSAGE");
    expect(error.message).toContain("value");
  });

  it("name both versions when the protocols differ", async () => {
    const { port } = await serve({ protocol: 9 });
    const error = await rejection(client(port).call("double", { value: 1 }));
    expect(error.code).toBe("VERSION_MISMATCH");
    expect(error.message).toContain("2.0.0");
    expect(error.message).toContain("protocol 9");
    expect(error.message).toContain("1.0.0");
  });

  it("fail soon when nobody listens", async () => {
    const { port, stop } = await serve().then((s) => ({ port: s.port, stop: () => s.stop() }));
    await stop();
    const error = await rejection(client(port).call("double", { value: 1 }));
    expect(error.code).toBe("PEER_UNREACHABLE");
    expect(error.exitCode).toBe(7);
  });
});

describe("uploads", () => {
  it("arrive whole", async () => {
    const { port } = await serve();
    const body = Readable.from([Buffer.alloc(3 << 20, 1), Buffer.alloc(1_000, 2)]);
    const reply = await client(port).upload("image", { name: "x" }, body);
    expect(reply.bytes).toBe((3 << 20) + 1_000);
  });

  it("are refused above their bound", async () => {
    const { port } = await serve();
    const body = Readable.from(Array.from({ length: 10 }, () => Buffer.alloc(1 << 20)));
    const error = await rejection(client(port).upload("image", { name: "x" }, body));
    expect(error.code).toBe("MESSAGE_TOO_LARGE");
  });

  it("can be refused by the handler before they have ended", async () => {
    const { port } = await serve();
    const endless = new Readable({
      read() {
        setImmediate(() => this.push(Buffer.alloc(64 << 10)));
      },
    });
    const error = await rejection(client(port).upload("image", { name: "refused" }, endless));
    expect(error.code).toBe("PREFLIGHT_FAILED");
    expect(endless.destroyed).toBe(true);
  });

  it("that break off never look finished", async () => {
    const { port } = await serve();
    uploadBegun = false;
    uploadFailure = undefined;
    const breaking = Readable.from(
      (async function* () {
        yield Buffer.alloc(1 << 20);
        await until(() => uploadBegun);
        throw new Error("docker save failed");
      })(),
    );
    await expect(client(port).upload("image", { name: "x" }, breaking)).rejects.toThrow(
      "docker save failed",
    );
    await until(() => uploadFailure !== undefined);
  });
});

describe("who may connect", () => {
  it("not a host of another authority", async () => {
    const { port } = await serve();
    const foreign = await makeAuthority(folders, "alpha");
    const error = await rejection(client(port, foreign).call("double", { value: 1 }));
    expect(error.code).toBe("PEER_FOREIGN");
    expect(await client(port).call("double", { value: 2 })).toMatchObject({ value: 4 });
  });

  it("not a host that is not in the list", async () => {
    const { port } = await serve({ knows: ["gamma"] });
    const error = await rejection(client(port).call("double", { value: 1 }));
    expect(error.code).toBe("PEER_UNREACHABLE");
  });

  it("not without a certificate", async () => {
    const { port } = await serve();
    const { ca, minVersion } = tlsOptionsOf(alpha.identity);
    const socket = tlsConnect({ port, host: "127.0.0.1", ca, minVersion, servername: "beta" });
    const error = await new Promise<Error>((resolve) => socket.once("error", resolve));
    expect(error.message).toMatch(/certificate required/);
  });

  it("and the answering host must be the one that was meant", async () => {
    const { port } = await serve();
    const error = await rejection(client(port, alpha, "gamma").call("double", { value: 1 }));
    expect(error.code).toBe("PEER_FOREIGN");
    expect(error.message).toContain("is beta, not gamma");
  });

  it("not below TLS 1.3", async () => {
    const { port } = await serve();
    const options = { ...tlsOptionsOf(alpha.identity), ciphers: "DEFAULT" };
    const socket = tlsConnect({
      ...options,
      minVersion: "TLSv1.2",
      maxVersion: "TLSv1.2",
      port,
      host: "127.0.0.1",
    });
    const error = await new Promise<Error>((resolve) => socket.once("error", resolve));
    expect(error.message).toMatch(/protocol version/);
  });
});

describe("the connection", () => {
  it("is reported, with the peer's version", async () => {
    const { port } = await serve();
    const { states } = client(port);
    await until(() => states.length > 0);
    expect(states[0]).toEqual({ state: "connected", version: "2.0.0", protocol: 1 });
  });

  it("is lost within about a second when the peer falls silent, and comes back", async () => {
    const { port } = await serve();
    const relay = await startRelay(port);
    const { states } = client(relay.port);
    await until(() => states.at(-1)?.state === "connected");
    const startMs = performance.now();
    relay.silent = true;
    await until(() => states.at(-1)?.state === "unreachable", 4_000);
    const noticedMs = performance.now() - startMs;
    expect(noticedMs).toBeLessThan(2_500);
    // A connection attempt made into the silence must not delay the next one by TCP's back-off.
    relay.silent = false;
    await until(() => states.at(-1)?.state === "connected", 5_000);
  });

  it("survives hostile bytes of others", async () => {
    const { port } = await serve();
    const good = client(port);
    await good.call("double", { value: 1 });
    const garbage = Array.from({ length: 20 }, (_, n) => randomBytes(1 + n * 97));
    garbage.push(
      Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
      Buffer.from([0x16, 3, 1, 0xff, 0xff]),
    );
    await Promise.all(garbage.map((bytes) => throwAt(port, bytes)));
    expect(await good.call("double", { value: 4 })).toMatchObject({ value: 8 });
    expect(await client(port).call("double", { value: 5 })).toMatchObject({ value: 10 });
  });

  it("survives garbage inside TLS from a known host", async () => {
    const { port } = await serve();
    const socket = tlsConnect({
      ...tlsOptionsOf(alpha.identity),
      port,
      host: "127.0.0.1",
      servername: "beta",
      ALPNProtocols: ["h2"],
    });
    const closed = new Promise((resolve) => socket.once("close", resolve));
    socket.on("error", () => {});
    socket.once("secureConnect", () => socket.write(randomBytes(70_000)));
    socket.resume();
    await closed;
    expect(await client(port).call("double", { value: 5 })).toMatchObject({ value: 10 });
  });
});

/** Sends bytes and waits until the other side has hung up. */
function throwAt(port: number, bytes: Buffer): Promise<void> {
  return new Promise((resolve) => {
    const socket = connect(port, "127.0.0.1", () => socket.end(bytes));
    socket.resume();
    socket.on("error", () => {});
    socket.on("close", () => resolve());
  });
}

/** A TCP relay that can fall silent without closing anything, as a cut link does. */
async function startRelay(port: number) {
  const sockets = new Set<Socket>();
  const relay = { silent: false, port: 0, drop };
  function drop() {
    for (const socket of sockets) socket.destroy();
  }
  const server: Server = createServer((inner) => {
    if (relay.silent) return void sockets.add(inner);
    const outer = connect(port, "127.0.0.1");
    for (const [from, to] of [
      [inner, outer],
      [outer, inner],
    ] as const) {
      sockets.add(from);
      from.on("data", (bytes) => void (relay.silent || to.write(bytes)));
      from.on("error", () => to.destroy());
      from.on("close", () => to.destroy());
    }
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  relay.port = (server.address() as { port: number }).port;
  cleanups.push(() => {
    relay.drop();
    server.close();
  });
  return relay;
}
