/**
 * The stream port: takes epochs in from the primaries of the pairs whose standby we are, spools each into a
 * file and hands it to the checkpoint store; what the store says goes back as the reply.
 *
 * The spool is a tmpfs, so files are written synchronously (see stream-sender.ts).
 *
 * Invariants: a file is handed on only when it has exactly the announced length; a file that is not handed
 * on, or not committed, is removed; of one pair at most one epoch is being committed; a newer connection of
 * a pair ends the older one.
 */
import { closeSync, openSync, readdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import type { TLSSocket } from "node:tls";
import type { Logger } from "pino";
import { asFtError } from "../errors/error.js";
import type { Faults } from "../faults/faults.js";
import { limits } from "../limits.js";
import { ChunkQueue, lengthOf } from "./chunk-queue.js";
import {
  corrupt,
  decodeFrameHeader,
  type EpochReply,
  encodeFrameHeader,
  encodeReply,
  FRAME_HEADER_BYTES,
  type FrameHeader,
  FrameType,
} from "./frame.js";
import type { Identity } from "./identity.js";
import type { PeerBook } from "./peers.js";
import { spoolRefusal, writeChunks } from "./spool-file.js";
import { listenForPeers, type TlsListener } from "./tls-listener.js";

export interface ReceivedEpoch {
  pair: string;
  generation: number;
  epoch: number;
  base: number;
  path: string;
  bytes: number;
  /** The host that sent it. */
  peer: string;
}

export interface StreamReceiverOptions {
  identity: Identity;
  peers: PeerBook;
  address: string;
  port: number;
  /** The spool folder of a pair whose primary is `peer`; undefined: we are not its standby. */
  spoolOf: (pair: string, peer: string) => string | undefined;
  /**
   * Commits the epoch; takes the file at `path` away if it wants to keep it, for it is removed afterwards.
   * A thrown error becomes a refusal with its code.
   */
  onEpoch: (epoch: ReceivedEpoch) => Promise<EpochReply>;
  faults: Faults;
  log: Logger;
  bytesMax?: number;
  idleTimeoutMs?: number;
  /** Of one header or one step of a body, once it has begun. */
  stallTimeoutMs?: number;
}

interface Connection {
  id: number;
  peer: string;
  socket: TLSSocket;
  queue: ChunkQueue;
}

export class StreamReceiver {
  static async start(options: StreamReceiverOptions): Promise<StreamReceiver> {
    const receiver = new StreamReceiver(options);
    receiver.#listener = await listenForPeers({
      ...options,
      onPeer: (socket, peer) => receiver.#serve(socket, peer.host),
    });
    return receiver;
  }

  readonly #options: StreamReceiverOptions;
  readonly #bytesMax: number;
  readonly #idleTimeoutMs: number;
  readonly #stallTimeoutMs: number;
  /** The latest connection that carried an epoch of the pair. */
  readonly #connectionOf = new Map<string, Connection>();
  readonly #committing = new Set<string>();
  /** Pairs whose spool holds nothing of an earlier life of the agent. */
  readonly #cleaned = new Set<string>();
  #listener: TlsListener | undefined;
  #connections = 0;

  private constructor(options: StreamReceiverOptions) {
    this.#options = options;
    this.#bytesMax = options.bytesMax ?? limits.epochBytesMax;
    this.#idleTimeoutMs = options.idleTimeoutMs ?? limits.streamIdleTimeoutMs;
    this.#stallTimeoutMs = options.stallTimeoutMs ?? limits.streamHandshakeTimeoutMs;
  }

  get port(): number {
    return this.#listener?.port ?? this.#options.port;
  }

  async stop(): Promise<void> {
    await this.#listener?.close();
  }

  #serve(socket: TLSSocket, peer: string): void {
    const queue = new ChunkQueue(socket, limits.streamBufferedBytesMax);
    this.#connections += 1;
    const connection: Connection = { id: this.#connections, peer, socket, queue };
    this.#frames(connection)
      .catch((error: Error) => {
        this.#options.log.info({ peer, err: error }, "checkpoint stream ended");
      })
      .finally(() => {
        for (const [pair, current] of this.#connectionOf) {
          if (current === connection) this.#connectionOf.delete(pair);
        }
        socket.destroy();
      });
  }

  async #frames(connection: Connection): Promise<never> {
    for (;;) {
      const header = decodeFrameHeader(
        await connection.queue.exactly(
          FRAME_HEADER_BYTES,
          this.#idleTimeoutMs,
          this.#stallTimeoutMs,
        ),
      );
      if (header.type === FrameType.ping) {
        connection.socket.write(encodeFrameHeader({ ...header, type: FrameType.pong }));
      } else if (header.type === FrameType.epoch) {
        await this.#epoch(connection, header);
      } else {
        throw corrupt("a sender sends epochs and pings only");
      }
    }
  }

  /** Takes one whole frame off the connection and answers it. */
  async #epoch(connection: Connection, header: FrameHeader): Promise<void> {
    const { peer, queue, socket } = connection;
    const spool = this.#options.spoolOf(header.pair, peer);
    const refusal = this.#refusal(header, peer, spool);
    if (refusal !== undefined || spool === undefined) {
      this.#options.log.warn({ peer, header, refusal }, "epoch refused");
      // At once: the sender then need not send all of it. What it sends all the same is thrown away.
      socket.write(encodeReply(header, refusal ?? refused("unknown-pair", header.pair)));
      return skip(queue, header.length, this.#stallTimeoutMs);
    }
    this.#supersede(connection, header.pair);
    this.#removeLeftovers(header.pair, spool);
    const path = join(spool, `epoch-${header.epoch}.${connection.id}.part`);
    try {
      const failure = await this.#spool(queue, path, header.length);
      const reply = failure ?? (await this.#commit(header, path, peer));
      socket.write(encodeReply(header, reply));
    } finally {
      rmSync(path, { force: true });
    }
  }

  #refusal(header: FrameHeader, peer: string, spool: string | undefined): EpochReply | undefined {
    if (header.length > this.#bytesMax) {
      return refused("too-large", `${header.length} bytes, the most is ${this.#bytesMax}`);
    }
    if (header.length === 0) return refused("empty", "the epoch has no bytes");
    if (spool === undefined) {
      return refused("unknown-pair", `this host is not the standby of ${peer} for ${header.pair}`);
    }
    return undefined;
  }

  #supersede(connection: Connection, pair: string): void {
    const older = this.#connectionOf.get(pair);
    if (older === connection) return;
    older?.socket.destroy();
    this.#connectionOf.set(pair, connection);
  }

  /** Half-written files of an agent that was killed: nobody else will remove them. */
  #removeLeftovers(pair: string, spool: string): void {
    if (this.#cleaned.has(pair)) return;
    this.#cleaned.add(pair);
    for (const name of leftovers(spool)) rmSync(join(spool, name), { force: true });
  }

  /** Writes the body to the file; a full disk is told to the sender after the rest has been skipped. */
  async #spool(queue: ChunkQueue, path: string, length: number): Promise<EpochReply | undefined> {
    let failure: EpochReply | undefined;
    let file: number | undefined;
    try {
      file = openSync(path, "wx", 0o600);
    } catch (error) {
      failure = spoolRefusal(error as NodeJS.ErrnoException);
    }
    try {
      let missing = length;
      while (missing > 0) {
        const chunks = await queue.some(missing, this.#stallTimeoutMs);
        missing -= lengthOf(chunks);
        if (file !== undefined) failure ??= writeChunks(file, chunks);
      }
      return failure;
    } finally {
      if (file !== undefined) closeSync(file);
    }
  }

  async #commit(header: FrameHeader, path: string, peer: string): Promise<EpochReply> {
    const { pair, generation, epoch, base, length } = header;
    if (this.#committing.has(pair)) return { outcome: "busy" };
    this.#committing.add(pair);
    try {
      await this.#options.faults.pass("epoch.receive.before");
      const received = { pair, generation, epoch, base, path, bytes: length, peer };
      return await this.#options.onEpoch(received);
    } catch (thrown) {
      const error = asFtError(thrown, `pair ${pair}`);
      this.#options.log.warn({ pair, epoch, err: error }, "epoch not committed");
      return refused(error.code, error.message);
    } finally {
      this.#committing.delete(pair);
    }
  }
}

function leftovers(spool: string): string[] {
  try {
    return readdirSync(spool).filter((name) => /^epoch-\d+\.\d+\.part$/.test(name));
  } catch {
    // A spool that cannot be read cannot be written either; that is then told to the sender.
    return [];
  }
}

async function skip(queue: ChunkQueue, bytes: number, timeoutMs: number): Promise<void> {
  let missing = bytes;
  while (missing > 0) missing -= lengthOf(await queue.some(missing, timeoutMs));
}

function refused(code: string, detail: string): EpochReply {
  return { outcome: "refused", code, errno: 0, detail };
}
