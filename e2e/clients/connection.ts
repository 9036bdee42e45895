/**
 * One client connection: keeps `pipeline` requests outstanding on a socket and notes how it ended.
 *
 * Invariants: never more than `pipeline` requests outstanding; once ended it sends nothing; it always ends,
 * by `finish()`, by the peer, or by the stall bound.
 */
import { connect, type Socket } from "node:net";
import type { Dialogue } from "./dialogue.js";
import { type LatencyRecorder, monotonicUs } from "./latency.js";
import type { Waiting } from "./report.js";

/** How a connection ended. Everything but `finished` breaks a promise to the client. */
export type Ending =
  | { kind: "finished" }
  | { kind: "reset"; detail: string }
  | { kind: "stalled"; detail: string }
  | { kind: "refused"; detail: string }
  | { kind: "garbage"; detail: string };

export interface ConnectionOptions {
  host: string;
  port: number;
  pipeline: number;
  /** Pause between an answer and the next request. */
  thinkMs: number;
  requestsMax: number;
  connectTimeoutMs: number;
  /** A connection without an answer for so long is given up. */
  stallMsMax: number;
}

export class ClientConnection {
  readonly #options: ConnectionOptions;
  readonly #dialogue: Dialogue;
  readonly #latency: LatencyRecorder;
  readonly #sentUs: number[] = [];
  #socket: Socket | undefined;
  #connected = false;
  #finishing = false;
  #ending: Ending | undefined;
  #stall: NodeJS.Timeout | undefined;
  #thinking: NodeJS.Timeout | undefined;
  #resolveEnded: (ending: Ending) => void = () => {};
  readonly ended = new Promise<Ending>((resolve) => {
    this.#resolveEnded = resolve;
  });

  constructor(options: ConnectionOptions, dialogue: Dialogue, latency: LatencyRecorder) {
    this.#options = options;
    this.#dialogue = dialogue;
    this.#latency = latency;
  }

  get localPort(): number | undefined {
    return this.#socket?.localPort;
  }

  /** The oldest request that is not answered yet. */
  get waiting(): Waiting | undefined {
    const sinceUs = this.#sentUs[0];
    if (this.#ending || sinceUs === undefined) return undefined;
    return { connection: this.#dialogue.connection, port: this.localPort ?? 0, sinceUs };
  }

  /** Resolves when the connection is up; a refusal shows in `ended`. */
  open(): Promise<void> {
    const { host, port, connectTimeoutMs } = this.#options;
    const socket = connect({ host, port, noDelay: true });
    this.#socket = socket;
    this.#armStall(connectTimeoutMs, "connect");
    socket.on("data", (chunk) => this.#onData(chunk));
    socket.on("error", (error) => {
      const detail = (error as NodeJS.ErrnoException).code ?? error.message;
      this.#end({ kind: this.#connected ? "reset" : "refused", detail });
    });
    socket.on("close", () => this.#end({ kind: "reset", detail: "closed by the peer" }));
    return new Promise((resolve) => {
      socket.once("connect", () => {
        this.#connected = true;
        clearTimeout(this.#stall);
        resolve();
      });
      this.ended.then(() => resolve());
    });
  }

  /** Begins to ask. */
  start(): void {
    if (this.#ending) return;
    this.#latency.opened(this.#dialogue.connection, monotonicUs());
    this.#fill();
  }

  /** No new requests; ends when the outstanding ones are answered. */
  finish(): void {
    this.#finishing = true;
    clearTimeout(this.#thinking);
    if (this.#dialogue.outstanding === 0) this.#end({ kind: "finished" });
  }

  #fill(): void {
    const dialogue = this.#dialogue;
    const { pipeline, requestsMax, stallMsMax } = this.#options;
    while (!this.#ending && !this.#finishing && dialogue.outstanding < pipeline) {
      if (dialogue.sent >= requestsMax) {
        this.finish();
        break;
      }
      this.#socket?.write(dialogue.next());
      this.#sentUs.push(monotonicUs());
    }
    if (!this.#ending) this.#armStall(stallMsMax, "answer");
  }

  #onData(chunk: Buffer): void {
    if (this.#ending) return;
    let completed: number;
    try {
      completed = this.#dialogue.feed(chunk);
    } catch (error) {
      this.#end({ kind: "garbage", detail: String(error) });
      return;
    }
    const nowUs = monotonicUs();
    for (const sentUs of this.#sentUs.splice(0, completed)) {
      this.#latency.replied(this.#dialogue.connection, sentUs, nowUs);
    }
    if (this.#finishing && this.#dialogue.outstanding === 0) this.#end({ kind: "finished" });
    else if (completed > 0) this.#next();
  }

  #next(): void {
    clearTimeout(this.#thinking);
    if (this.#options.thinkMs === 0) this.#fill();
    else this.#thinking = setTimeout(() => this.#fill(), this.#options.thinkMs);
  }

  #armStall(ms: number, what: string): void {
    clearTimeout(this.#stall);
    this.#stall = setTimeout(
      () => this.#end({ kind: "stalled", detail: `no ${what} in ${ms} ms` }),
      ms,
    );
  }

  #end(ending: Ending): void {
    if (this.#ending) return;
    this.#ending = ending;
    clearTimeout(this.#stall);
    clearTimeout(this.#thinking);
    this.#latency.ended(this.#dialogue.connection, this.#sentUs[0], monotonicUs());
    this.#dialogue.settle();
    if (ending.kind === "finished") this.#socket?.end();
    else this.#socket?.destroy();
    this.#resolveEnded(ending);
  }
}
