import { randomBytes } from "node:crypto";
import { closeSync, openSync, readdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { connect, createServer } from "node:net";
import { join } from "node:path";
import { type TLSSocket, connect as tlsConnect } from "node:tls";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { systemClock } from "../clock.js";
import { FtError } from "../errors/error.js";
import { faultsFrom } from "../faults/faults.js";
import { type EpochReply, encodeFrameHeader, FrameType } from "./frame.js";
import { tlsOptionsOf } from "./identity.js";
import { writeChunks } from "./spool-file.js";
import {
  type ReceivedEpoch,
  StreamReceiver,
  type StreamReceiverOptions,
} from "./stream-receiver.js";
import { type EpochShipment, StreamSender, type StreamSenderOptions } from "./stream-sender.js";
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

const PAIR = "0123456789ab";
const folders = new Folders();
const cleanups: (() => Promise<void> | void)[] = [];
let alpha: TestHost;
let beta: TestHost;

beforeAll(async () => {
  alpha = await makeAuthority(folders, "alpha");
  beta = await makeHost(folders, alpha, "beta");
});
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});
afterAll(() => folders.remove());

/** A standby that commits whatever arrives whole. */
async function receive(overrides: Partial<StreamReceiverOptions> = {}) {
  const spool = folders.make();
  const committed: (ReceivedEpoch & { content: Buffer })[] = [];
  const receiver = await StreamReceiver.start({
    identity: beta.identity,
    peers: bookOf(beta, [peerOf("alpha")]),
    address: "127.0.0.1",
    port: 0,
    spoolOf: (pair, peer) => (pair === PAIR && peer === "alpha" ? spool : undefined),
    onEpoch: async (epoch) => {
      committed.push({ ...epoch, content: readFileSync(epoch.path) });
      return { outcome: "committed", commitMs: 1.5 };
    },
    faults: faultsFrom(undefined),
    log: quiet,
    ...overrides,
  });
  cleanups.push(() => receiver.stop());
  return { receiver, port: receiver.port, spool, committed };
}

function send(port: number, overrides: Partial<StreamSenderOptions> = {}) {
  const sender = new StreamSender({
    identity: alpha.identity,
    peer: peerOf("beta", { streamPort: port }),
    pair: PAIR,
    clock: systemClock,
    faults: faultsFrom(undefined),
    log: quiet,
    ...overrides,
  });
  cleanups.push(() => sender.close());
  return sender;
}

function blob(bytes: number, epoch = 1): EpochShipment & { content: Buffer } {
  const path = join(folders.make(), "blob");
  const content = randomBytes(bytes);
  writeFileSync(path, content);
  return { generation: 3, epoch, base: epoch - 1, path, bytes, content };
}

async function rejection(promise: Promise<unknown>): Promise<FtError> {
  const error = await promise.then(
    (value) => new Error(`did not fail: ${JSON.stringify(value)}`),
    (thrown) => thrown,
  );
  expect(error).toBeInstanceOf(FtError);
  return error as FtError;
}

async function speakTls(port: number, from: TestHost = alpha): Promise<TLSSocket> {
  const socket = tlsConnect({
    ...tlsOptionsOf(from.identity),
    port,
    host: "127.0.0.1",
    servername: "beta",
  });
  socket.on("error", () => {});
  cleanups.push(() => void socket.destroy());
  await new Promise((resolve) => socket.once("secureConnect", resolve));
  return socket;
}

const closed = (socket: TLSSocket) =>
  new Promise<void>((resolve) => {
    socket.resume();
    if (socket.closed) resolve();
    socket.once("close", () => resolve());
  });

describe("epochs", () => {
  it.each([1, 63, 64, 65_535, 500_000, 9 << 20])("of %i bytes arrive whole", async (bytes) => {
    const { port, committed, spool } = await receive();
    const shipment = blob(bytes, 7);
    expect(await send(port).sendEpoch(shipment)).toEqual({ outcome: "committed", commitMs: 1.5 });
    const [got] = committed;
    expect(got).toMatchObject({
      pair: PAIR,
      generation: 3,
      epoch: 7,
      base: 6,
      peer: "alpha",
      bytes,
    });
    expect(got?.content.equals(shipment.content)).toBe(true);
    await until(() => readdirSync(spool).length === 0);
  });

  it("go one after the other, in order, on one connection", async () => {
    const { port, committed } = await receive();
    const sender = send(port);
    const epochs = [1, 2, 3, 4].map((n) => blob(100_000 + n, n));
    const replies = await Promise.all(epochs.map((epoch) => sender.sendEpoch(epoch)));
    expect(replies.map((reply) => reply.outcome)).toEqual(Array(4).fill("committed"));
    expect(committed.map((c) => c.epoch)).toEqual([1, 2, 3, 4]);
    expect(committed.every((c, n) => c.content.equals(epochs[n]!.content))).toBe(true);
  });

  it("beyond the bound of those under way are not taken", async () => {
    let release = (): void => {};
    const held = new Promise<void>((resolve) => {
      release = resolve;
    });
    const onEpoch = async (): Promise<EpochReply> => {
      await held;
      return { outcome: "committed", commitMs: 0 };
    };
    const { port } = await receive({ onEpoch });
    const sender = send(port);
    await sender.connect();
    const taken = [1, 2, 3, 4].map((n) => sender.sendEpoch(blob(10, n)));
    await new Promise((resolve) => setTimeout(resolve, 20));
    const error = await rejection(sender.sendEpoch(blob(10, 5)));
    expect(error.code).toBe("STREAM_BUSY");
    release();
    await Promise.all(taken);
  });

  it("are not hindered by what a killed agent left in the spool", async () => {
    const { port, spool } = await receive();
    writeFileSync(join(spool, "epoch-1.1.part"), "half");
    writeFileSync(join(spool, "epoch-9.4.part"), "half");
    writeFileSync(join(spool, "other"), "not ours");
    expect((await send(port).sendEpoch(blob(1_000))).outcome).toBe("committed");
    await until(() => readdirSync(spool).length === 1);
    expect(readdirSync(spool)).toEqual(["other"]);
  });

  it("keep a file that the store has taken", async () => {
    const kept = join(folders.make(), "kept");
    const onEpoch = async (epoch: ReceivedEpoch): Promise<EpochReply> => {
      renameSync(epoch.path, kept);
      return { outcome: "committed", commitMs: 0 };
    };
    const { port } = await receive({ onEpoch });
    const shipment = blob(1_000);
    await send(port).sendEpoch(shipment);
    expect(readFileSync(kept).equals(shipment.content)).toBe(true);
  });
});

describe("refusals", () => {
  it("of the store reach the sender, and the next epoch passes", async () => {
    let first = true;
    const onEpoch = async (): Promise<EpochReply> => {
      if (!first) return { outcome: "committed", commitMs: 0 };
      first = false;
      throw new FtError({ code: "STORE_CORRUPT", subject: "epoch", message: "checksum is wrong" });
    };
    const { port, spool } = await receive({ onEpoch });
    const sender = send(port);
    expect(await sender.sendEpoch(blob(5_000))).toEqual({
      outcome: "refused",
      code: "STORE_CORRUPT",
      errno: 0,
      detail: "checksum is wrong",
    });
    expect((await sender.sendEpoch(blob(5_000, 2))).outcome).toBe("committed");
    await until(() => readdirSync(spool).length === 0);
  });

  it("of an unknown pair come before the body, which is thrown away", async () => {
    const { port, committed } = await receive();
    const other = send(port, { pair: "ffffffffffff" });
    const small = await other.sendEpoch(blob(100));
    expect(small).toMatchObject({ outcome: "refused", code: "unknown-pair" });
    const large = await other.sendEpoch(blob(30 << 20));
    expect(large).toMatchObject({ outcome: "refused", code: "unknown-pair" });
    expect(committed).toEqual([]);
  });

  it("of one that is too large", async () => {
    const { port, spool } = await receive({ bytesMax: 1_000 });
    const reply = await send(port).sendEpoch(blob(1_001));
    expect(reply).toMatchObject({ outcome: "refused", code: "too-large" });
    expect(readdirSync(spool)).toEqual([]);
  });

  it("of a spool that cannot be written", async () => {
    const { port } = await receive({ spoolOf: () => "/nonexistent/spool" });
    const sender = send(port);
    const reply = await sender.sendEpoch(blob(200_000));
    expect(reply).toMatchObject({ outcome: "refused", code: "io", errno: 2 });
    expect(sender.connected).toBe(true);
  });

  it("of a full disk say so", () => {
    // /dev/full opens, and refuses every write with ENOSPC.
    const full = openSync("/dev/full", "w");
    try {
      expect(writeChunks(full, [Buffer.alloc(10), Buffer.alloc(10)])).toMatchObject({
        outcome: "refused",
        code: "space",
        errno: 28,
      });
    } finally {
      closeSync(full);
    }
  });
});

describe("broken connections", () => {
  it("reject what was under way, and it can be sent again", async () => {
    let hang = true;
    const onEpoch = async (): Promise<EpochReply> => {
      if (hang) return new Promise(() => {});
      return { outcome: "committed", commitMs: 0 };
    };
    const first = await receive({ onEpoch });
    const sender = send(first.port);
    const shipment = blob(300_000);
    const failed = rejection(sender.sendEpoch(shipment));
    await until(() => readdirSync(first.spool).length === 1);
    await first.receiver.stop();
    expect((await failed).code).toBe("PEER_UNREACHABLE");
    hang = false;
    const again = await receive({ onEpoch, port: first.port });
    expect(again.port).toBe(first.port);
    expect((await sender.sendEpoch(shipment)).outcome).toBe("committed");
  });

  it("leave nothing in the spool, wherever they break", async () => {
    const { port, spool, committed } = await receive();
    const length = 200;
    const header = encodeFrameHeader({
      type: FrameType.epoch,
      pair: PAIR,
      generation: 1,
      epoch: 1,
      base: 0,
      length,
    });
    const frame = Buffer.concat([header, randomBytes(length)]);
    for (let cut = 0; cut < frame.length; cut += 1) {
      const socket = await speakTls(port);
      socket.end(frame.subarray(0, cut));
      await closed(socket);
    }
    expect(committed).toEqual([]);
    await until(() => readdirSync(spool).length === 0);
    expect((await send(port).sendEpoch(blob(10))).outcome).toBe("committed");
  });

  it("come of a standby that does not answer in time", async () => {
    const { port } = await receive({ onEpoch: () => new Promise(() => {}) });
    const error = await rejection(send(port).sendEpoch({ ...blob(10), replyTimeoutMs: 50 }));
    expect(error.code).toBe("PEER_UNREACHABLE");
    expect(error.message).toContain("not answered in 50 ms");
  });

  it("are answered busy while the old one is still being committed", async () => {
    let release = (): void => {};
    const held = new Promise<void>((resolve) => {
      release = resolve;
    });
    const onEpoch = async (): Promise<EpochReply> => {
      await held;
      return { outcome: "committed", commitMs: 0 };
    };
    const { port, spool } = await receive({ onEpoch });
    const failed = rejection(send(port).sendEpoch(blob(1_000)));
    await until(() => readdirSync(spool).length === 1);
    expect(await send(port).sendEpoch(blob(1_000))).toEqual({ outcome: "busy" });
    expect((await failed).code).toBe("PEER_UNREACHABLE");
    release();
  });

  it("are noticed when a peer falls silent", async () => {
    const silent = createServer(() => {});
    await new Promise<void>((resolve) => silent.listen(0, "127.0.0.1", resolve));
    cleanups.push(() => void silent.close());
    const { port } = await receive();
    let quietNow = false;
    const relay = createServer((inner) => {
      const outer = connect(port, "127.0.0.1");
      inner.on("error", () => {}).on("close", () => outer.destroy());
      outer.on("error", () => {}).on("close", () => inner.destroy());
      inner.on("data", (bytes) => void (quietNow || outer.write(bytes)));
      outer.on("data", (bytes) => void (quietNow || inner.write(bytes)));
    });
    await new Promise<void>((resolve) => relay.listen(0, "127.0.0.1", resolve));
    cleanups.push(() => void relay.close());
    const states: string[] = [];
    const sender = send((relay.address() as { port: number }).port, {
      idleTimeoutMs: 150,
      onState: (state) => states.push(state),
    });
    await sender.sendEpoch(blob(10));
    quietNow = true;
    await until(() => states.at(-1) === "unreachable");
    expect(sender.connected).toBe(false);
  });

  it("back off while nobody listens, and report it", async () => {
    const { port, receiver } = await receive();
    await receiver.stop();
    const slept: number[] = [];
    const sleep = async (ms: number): Promise<void> => void slept.push(ms);
    const sender = send(port, { clock: { ...systemClock, sleep } });
    for (let n = 0; n < 9; n += 1) {
      expect((await rejection(sender.sendEpoch(blob(1)))).code).toBe("PEER_UNREACHABLE");
    }
    expect(slept).toEqual([20, 40, 80, 160, 320, 640, 1_000, 1_000]);
  });
});

describe("strangers", () => {
  it("of another authority are refused", async () => {
    const { port } = await receive();
    const foreign = await makeAuthority(folders, "alpha");
    const error = await rejection(send(port, { identity: foreign.identity }).sendEpoch(blob(10)));
    expect(error.code).toBe("PEER_FOREIGN");
  });

  it("of our authority, but not known, are refused", async () => {
    const { port, committed } = await receive();
    const gamma = await makeHost(folders, alpha, "gamma");
    const error = await rejection(send(port, { identity: gamma.identity }).sendEpoch(blob(10)));
    expect(error.code).toBe("PEER_UNREACHABLE");
    expect(committed).toEqual([]);
  });

  it("without a certificate are refused", async () => {
    const { port } = await receive();
    const { ca, minVersion } = tlsOptionsOf(alpha.identity);
    const socket = tlsConnect({ port, host: "127.0.0.1", ca, minVersion, servername: "beta" });
    const error = await new Promise<Error>((resolve) => socket.once("error", resolve));
    expect(error.message).toMatch(/certificate required/);
  });

  it("with garbage leave the receiver serving others", async () => {
    const { port, committed } = await receive();
    for (const bytes of [1, 64, 65, 5_000]) {
      const raw = connect(port, "127.0.0.1", () => raw.end(randomBytes(bytes)));
      await closed(raw as TLSSocket);
      const known = await speakTls(port);
      known.write(randomBytes(bytes + 64));
      await closed(known);
    }
    expect((await send(port).sendEpoch(blob(10))).outcome).toBe("committed");
    expect(committed.length).toBe(1);
  });

  it("that promise much and send it slowly are cut off", async () => {
    const { port, spool } = await receive({ stallTimeoutMs: 60, idleTimeoutMs: 60 });
    const halfHeader = await speakTls(port);
    halfHeader.write(Buffer.from("FTSTRM01"));
    const halfBody = await speakTls(port);
    const length = 2 ** 33;
    halfBody.write(
      encodeFrameHeader({
        type: FrameType.epoch,
        pair: PAIR,
        generation: 1,
        epoch: 1,
        base: 0,
        length,
      }),
    );
    const nothing = await speakTls(port);
    await Promise.all([halfHeader, halfBody, nothing].map(closed));
    await until(() => readdirSync(spool).length === 0);
    expect((await send(port).sendEpoch(blob(10))).outcome).toBe("committed");
  });

  it("that send replies are cut off", async () => {
    const { port } = await receive();
    const socket = await speakTls(port);
    const none = { pair: PAIR, generation: 0, epoch: 0, base: 0, length: 0 };
    socket.write(encodeFrameHeader({ type: FrameType.reply, ...none }));
    await closed(socket);
  });
});

describe("fault points", () => {
  it("epoch.ship.middle: half an epoch is refused whole, then it passes", async () => {
    const { port, committed, spool } = await receive();
    const sender = send(port, { faults: faultsFrom("epoch.ship.middle:error") });
    const shipment = blob(2 << 20);
    expect((await rejection(sender.sendEpoch(shipment))).code).toBe("FAULT_INJECTED");
    await until(() => readdirSync(spool).length === 0);
    expect(committed).toEqual([]);
    expect((await sender.sendEpoch(shipment)).outcome).toBe("committed");
  });

  it("epoch.receive.before: nothing is handed to the store", async () => {
    const { port, committed } = await receive({ faults: faultsFrom("epoch.receive.before:error") });
    const sender = send(port);
    const reply = await sender.sendEpoch(blob(100));
    expect(reply).toMatchObject({ outcome: "refused", code: "FAULT_INJECTED" });
    expect(committed).toEqual([]);
    expect((await sender.sendEpoch(blob(100))).outcome).toBe("committed");
  });

  it("a file shorter than announced is not padded", async () => {
    const { port, committed } = await receive();
    const error = await rejection(send(port).sendEpoch({ ...blob(100), bytes: 200 }));
    expect(error.code).toBe("EPOCH_TRUNCATED");
    expect(committed).toEqual([]);
  });
});
