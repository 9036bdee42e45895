/**
 * Bytes that have arrived on a socket and wait to be taken, as the chunks they came in: nothing is copied.
 * Above `bytesMax` the socket is paused, so that a sender which is faster than our disk waits.
 *
 * Invariants: one taker at a time; the chunks hold exactly `#bytes` bytes; none is empty.
 */
import type { Duplex } from "node:stream";
import { FtError, invariant } from "../errors/error.js";

export class ChunkQueue {
  readonly #socket: Duplex;
  readonly #bytesMax: number;
  #chunks: Buffer[] = [];
  #bytes = 0;
  #ended: Error | undefined;
  #wake: (() => void) | undefined;
  /** When bytes last arrived, by `performance.now()`. */
  lastArrivalMs = performance.now();

  constructor(socket: Duplex, bytesMax: number) {
    this.#socket = socket;
    this.#bytesMax = bytesMax;
    socket.on("data", (chunk: Buffer) => this.#push(chunk));
    socket.once("end", () => this.#end(new Error("the peer closed the connection")));
    socket.once("error", (error) => this.#end(error));
    socket.once("close", () => this.#end(new Error("the connection was closed")));
  }

  /** Why nothing more will come; undefined while the connection stands. */
  get ended(): Error | undefined {
    return this.#ended;
  }

  /** Between 1 and `bytesMost` bytes: whatever is there, or the next to come within `timeoutMs`. */
  async some(bytesMost: number, timeoutMs: number): Promise<Buffer[]> {
    invariant(bytesMost > 0, "something is wanted");
    if (this.#bytes === 0) await this.#arrival(timeoutMs);
    const taken: Buffer[] = [];
    let wanted = bytesMost;
    while (wanted > 0 && this.#chunks.length > 0) {
      const chunk = this.#chunks[0]!;
      if (chunk.length <= wanted) {
        this.#chunks.shift();
        taken.push(chunk);
      } else {
        taken.push(chunk.subarray(0, wanted));
        this.#chunks[0] = chunk.subarray(wanted);
      }
      wanted -= taken.at(-1)!.length;
    }
    this.#bytes -= bytesMost - wanted;
    if (this.#bytes < this.#bytesMax && this.#socket.isPaused()) this.#socket.resume();
    return taken;
  }

  /** Exactly `bytes`; the first may take `firstTimeoutMs` to come, then all of them `restTimeoutMs`. */
  async exactly(bytes: number, firstTimeoutMs: number, restTimeoutMs: number): Promise<Buffer> {
    if (bytes === 0) return Buffer.alloc(0);
    const got = await this.some(bytes, firstTimeoutMs);
    let missing = bytes - lengthOf(got);
    const endMs = performance.now() + restTimeoutMs;
    while (missing > 0) {
      const more = await this.some(missing, Math.max(0, endMs - performance.now()));
      missing -= lengthOf(more);
      got.push(...more);
    }
    return got.length === 1 ? got[0]! : Buffer.concat(got);
  }

  #push(chunk: Buffer): void {
    if (chunk.length === 0) return;
    this.lastArrivalMs = performance.now();
    this.#chunks.push(chunk);
    this.#bytes += chunk.length;
    if (this.#bytes >= this.#bytesMax) this.#socket.pause();
    this.#wake?.();
  }

  #end(reason: Error): void {
    this.#ended ??= reason;
    this.#wake?.();
  }

  async #arrival(timeoutMs: number): Promise<void> {
    invariant(this.#wake === undefined, "one taker at a time");
    if (this.#ended !== undefined) throw this.#ended;
    let timer: NodeJS.Timeout | undefined;
    try {
      await new Promise<void>((resolve, reject) => {
        this.#wake = resolve;
        timer = setTimeout(() => reject(tooSlow(timeoutMs)), timeoutMs);
      });
    } finally {
      clearTimeout(timer);
      this.#wake = undefined;
    }
    if (this.#bytes === 0) throw this.#ended ?? new Error("woken without bytes");
  }
}

export function lengthOf(chunks: Buffer[]): number {
  let bytes = 0;
  for (const chunk of chunks) bytes += chunk.length;
  return bytes;
}

function tooSlow(timeoutMs: number): FtError {
  return new FtError({
    code: "STREAM_TIME_OUT",
    subject: "checkpoint stream",
    message: `nothing came in ${Math.round(timeoutMs)} ms`,
  });
}
