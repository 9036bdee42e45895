/**
 * Sends the epochs of one pair to its standby, over one TLS connection of their own. Keeps the connection
 * open and renews it with bounded back-off; an epoch whose connection breaks is rejected with
 * PEER_UNREACHABLE and may be sent again: nothing is repeated here.
 *
 * The blob lies on a tmpfs, so it is read synchronously: that is a copy in memory of a fraction of a
 * millisecond, while each trip through the thread pool costs about as much again on a busy machine.
 *
 * Invariants: bodies go out one after the other; replies come in that order; a frame that was begun and not
 * finished ends its connection.
 */
import { closeSync, openSync, readSync } from "node:fs";
import type { TLSSocket } from "node:tls";
import type { Logger } from "pino";
import type { Clock } from "../clock.js";
import { asFtError, FtError, invariant } from "../errors/error.js";
import type { Faults } from "../faults/faults.js";
import { limits } from "../limits.js";
import { ChunkQueue } from "./chunk-queue.js";
import {
  corrupt,
  decodeFrameHeader,
  decodeReply,
  type EpochReply,
  encodeFrameHeader,
  FRAME_HEADER_BYTES,
  type FrameHeader,
  FrameType,
  isPairId,
} from "./frame.js";
import type { Identity } from "./identity.js";
import type { Peer } from "./peers.js";
import { connectToPeer, peerUnreachable } from "./tls-listener.js";

export interface EpochShipment {
  generation: number;
  epoch: number;
  base: number;
  /** The epoch blob, complete, of exactly `bytes` bytes. */
  path: string;
  bytes: number;
  /** How long the standby may take to commit it. */
  replyTimeoutMs?: number;
}

export interface StreamSenderOptions {
  identity: Identity;
  peer: Peer;
  pair: string;
  clock: Clock;
  faults: Faults;
  log: Logger;
  onState?: (state: "connected" | "unreachable", error?: FtError) => void;
  /** Between pings, and how long a peer may be silent when nothing is under way. */
  idleTimeoutMs?: number;
}

interface Waiting {
  epoch: number;
  /** All of its body has left, as far as our socket has told. */
  written: boolean;
  resolve: (reply: EpochReply) => void;
  reject: (error: FtError) => void;
  timer?: NodeJS.Timeout;
}

interface Link {
  socket: TLSSocket;
  queue: ChunkQueue;
  waiting: Waiting[];
  /** The body being written; the next waits for it. */
  writing: Promise<void>;
  broken: FtError | undefined;
  /** The peer has answered something: with TLS 1.3 only this proves that it took our certificate. */
  proven: boolean;
}

export class StreamSender {
  readonly #options: StreamSenderOptions;
  readonly #stop = new AbortController();
  /** Two buffers: one is read into while the other is on its way. */
  readonly #buffers = [Buffer.alloc(0), Buffer.alloc(0)];
  #link: Link | undefined;
  #connecting: Promise<Link> | undefined;
  #backOffMs = 0;
  #pinging: NodeJS.Timeout | undefined;

  constructor(options: StreamSenderOptions) {
    invariant(isPairId(options.pair), "a pair id has 12 hexadecimal digits");
    this.#options = options;
    const everyMs = (options.idleTimeoutMs ?? limits.streamIdleTimeoutMs) / 3;
    this.#pinging = setInterval(() => this.#ping(), everyMs);
    this.#pinging.unref();
  }

  get connected(): boolean {
    return this.#link !== undefined;
  }

  /** Connects ahead of the first epoch. Waits for the back-off of an earlier failure. */
  async connect(): Promise<void> {
    await this.#connection();
  }

  /** Resolves with what the standby says. Rejects with PEER_UNREACHABLE when it cannot be known. */
  async sendEpoch(shipment: EpochShipment): Promise<EpochReply> {
    const file = openSync(shipment.path, "r");
    try {
      return await this.#send(await this.#connection(), file, shipment);
    } finally {
      closeSync(file);
    }
  }

  #send(link: Link, file: number, shipment: EpochShipment): Promise<EpochReply> {
    if (link.waiting.length >= limits.streamEpochsInFlightMax) {
      throw new FtError({
        code: "STREAM_BUSY",
        subject: `pair ${this.#options.pair}`,
        message: `${link.waiting.length} epochs are already under way`,
      });
    }
    return new Promise((resolve, reject) => {
      const waiting: Waiting = { epoch: shipment.epoch, written: false, resolve, reject };
      link.waiting.push(waiting);
      link.writing = link.writing
        .then(() => this.#write(link, file, shipment))
        .then(() => {
          waiting.written = true;
          const timeoutMs = shipment.replyTimeoutMs ?? limits.streamReplyTimeoutMs;
          const late = new Error(`epoch ${shipment.epoch} was not answered in ${timeoutMs} ms`);
          if (!link.waiting.includes(waiting)) return;
          waiting.timer = setTimeout(() => this.#break(link, late), timeoutMs);
        })
        .catch((error: Error) => this.#break(link, error, waiting));
    });
  }

  /** Drops the connection, as when the peer is known to be dead; the next use connects again at once. */
  disconnect(why: string): void {
    if (this.#link !== undefined) this.#break(this.#link, new Error(why));
    this.#backOffMs = 0;
  }

  close(): void {
    clearInterval(this.#pinging);
    this.#stop.abort(new Error("the sender was closed"));
    this.disconnect("the sender was closed");
  }

  #connection(): Promise<Link> {
    if (this.#link !== undefined) return Promise.resolve(this.#link);
    this.#connecting ??= this.#connect().finally(() => {
      this.#connecting = undefined;
    });
    return this.#connecting;
  }

  async #connect(): Promise<Link> {
    const { identity, peer, clock, onState } = this.#options;
    const { signal } = this.#stop;
    try {
      if (this.#backOffMs > 0) await clock.sleep(this.#backOffMs, signal);
      signal.throwIfAborted();
      const socket = await connectToPeer({
        identity,
        peer,
        port: peer.streamPort,
        timeoutMs: limits.controlConnectTimeoutMs,
      });
      if (signal.aborted) socket.destroy();
      signal.throwIfAborted();
      return this.#adopt(socket);
    } catch (thrown) {
      this.#raiseBackOff();
      const error = peerUnreachable(peer, peer.streamPort, thrown as Error);
      if (!signal.aborted) onState?.("unreachable", error);
      throw error;
    }
  }

  #adopt(socket: TLSSocket): Link {
    const link: Link = {
      socket,
      queue: new ChunkQueue(socket, limits.streamBufferedBytesMax),
      waiting: [],
      writing: Promise.resolve(),
      broken: undefined,
      proven: false,
    };
    this.#link = link;
    socket.on("error", (error) => this.#break(link, error));
    socket.once("close", () => this.#break(link, new Error("the connection was closed")));
    this.#replies(link).catch((error: Error) => this.#break(link, error));
    this.#options.onState?.("connected");
    return link;
  }

  async #write(link: Link, file: number, shipment: EpochShipment): Promise<void> {
    if (link.broken !== undefined) throw link.broken;
    const { generation, epoch, base, bytes } = shipment;
    const { pair } = this.#options;
    const type = FrameType.epoch;
    link.socket.write(encodeFrameHeader({ type, pair, generation, epoch, base, length: bytes }));
    await this.#writeBody(link, file, shipment);
  }

  async #writeBody(link: Link, file: number, shipment: EpochShipment): Promise<void> {
    let flushed: Promise<void> = Promise.resolve();
    let turn = 0;
    let sent = 0;
    while (sent < shipment.bytes) {
      const buffer = this.#buffer(turn, shipment.bytes);
      const wanted = Math.min(buffer.length, shipment.bytes - sent);
      const bytesRead = readSync(file, buffer, 0, wanted, sent);
      if (bytesRead === 0) throw truncated(shipment, sent);
      if (sent < shipment.bytes / 2 && sent + bytesRead >= shipment.bytes / 2) {
        await this.#options.faults.pass("epoch.ship.middle");
      }
      // The other buffer is free again when its bytes have left; that is the back-pressure too.
      await flushed;
      flushed = this.#flush(link, buffer.subarray(0, bytesRead));
      // Awaited in the next turn; until then a failure is nobody's.
      flushed.catch(() => {});
      sent += bytesRead;
      turn = 1 - turn;
    }
    await flushed;
  }

  /** Made when first needed, so that a pair that only receives costs nothing. */
  #buffer(turn: number, bytes: number): Buffer {
    const wanted = bytes > limits.streamChunkBytes ? limits.streamChunkBytes : 64 << 10;
    if (this.#buffers[turn]!.length < wanted) this.#buffers[turn] = Buffer.allocUnsafeSlow(wanted);
    return this.#buffers[turn]!;
  }

  #flush(link: Link, bytes: Buffer): Promise<void> {
    return new Promise((resolve, reject) => {
      const stalled = () => this.#break(link, new Error("the peer takes no more bytes"));
      const timer = setTimeout(stalled, limits.streamIdleTimeoutMs);
      link.socket.write(bytes, (error) => {
        clearTimeout(timer);
        if (error) reject(link.broken ?? error);
        else resolve();
      });
    });
  }

  async #replies(link: Link): Promise<never> {
    for (;;) {
      // Silence is judged by #ping and by the time-out of each epoch.
      const bytes = await link.queue.exactly(
        FRAME_HEADER_BYTES,
        2 ** 31 - 1,
        limits.streamHandshakeTimeoutMs,
      );
      const header = decodeFrameHeader(bytes);
      link.proven = true;
      this.#backOffMs = 0;
      if (header.type === FrameType.pong) continue;
      if (header.type !== FrameType.reply) throw corrupt("a receiver sends replies and pongs only");
      const timeoutMs = limits.streamHandshakeTimeoutMs;
      const body = await link.queue.exactly(header.length, timeoutMs, timeoutMs);
      this.#settle(link, header, decodeReply(body));
    }
  }

  #settle(link: Link, header: FrameHeader, reply: EpochReply): void {
    const waiting = link.waiting.shift();
    if (waiting === undefined || waiting.epoch !== header.epoch) {
      throw corrupt(`a reply for epoch ${header.epoch}, which is not the one that is waited for`);
    }
    clearTimeout(waiting.timer);
    waiting.resolve(reply);
    // A commit says that all has arrived, even if our own socket has not told us yet that all has left.
    if (!waiting.written && reply.outcome !== "committed") {
      this.#break(link, new Error("the epoch was refused before its end"));
    }
  }

  #ping(): void {
    const link = this.#link;
    if (link === undefined || link.waiting.length > 0) return;
    const silentMs = performance.now() - link.queue.lastArrivalMs;
    if (silentMs > (this.#options.idleTimeoutMs ?? limits.streamIdleTimeoutMs)) {
      this.#break(link, new Error(`the peer was silent for ${Math.round(silentMs)} ms`));
      return;
    }
    const { pair } = this.#options;
    const none = { generation: 0, epoch: 0, base: 0, length: 0 };
    link.socket.write(encodeFrameHeader({ type: FrameType.ping, pair, ...none }));
  }

  /** Ends the connection once; all epochs under way fail, `origin` with its own error. */
  #break(link: Link, reason: Error, origin?: Waiting): void {
    const { peer, log, onState } = this.#options;
    if (link.broken === undefined) {
      link.broken = peerUnreachable(peer, peer.streamPort, reason);
      if (!link.proven) this.#raiseBackOff();
      if (this.#link === link) this.#link = undefined;
      link.socket.destroy();
      if (!this.#stop.signal.aborted) {
        log.warn({ peer: peer.host, pair: this.#options.pair, err: reason }, "stream broken");
        onState?.("unreachable", link.broken);
      }
    }
    for (const waiting of link.waiting.splice(0)) {
      clearTimeout(waiting.timer);
      waiting.reject(waiting === origin ? asFtError(reason, `epoch ${origin.epoch}`) : link.broken);
    }
  }

  #raiseBackOff(): void {
    const { streamReconnectMsMin, streamReconnectMsMax } = limits;
    this.#backOffMs = Math.min(
      Math.max(2 * this.#backOffMs, streamReconnectMsMin),
      streamReconnectMsMax,
    );
  }
}

function truncated(shipment: EpochShipment, sent: number): FtError {
  return new FtError({
    code: "EPOCH_TRUNCATED",
    subject: `epoch ${shipment.epoch}`,
    message: `${shipment.path} ends after ${sent} of ${shipment.bytes} bytes`,
  });
}
