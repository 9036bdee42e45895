/** A small redis that keeps its promises, or breaks one of them on purpose. For the tests of the checkers. */
import { createServer, type Server, type Socket } from "node:net";
import { RespDecoder, type RespValue } from "../resp.js";

export interface Lies {
  /** Answers this INCR (1-based, over all connections) but does not do it. */
  loseIncrement?: number;
  /** Does this INCR twice. */
  doubleIncrement?: number;
  /** Answers SETs whose key ends so, but forgets them. */
  forgetKeysEnding?: string;
  /** Appends to the list twice, answers as if once. */
  doublePush?: number;
  /** Exchanges the replies of this INCR and the next one on its connection. */
  swapIncrement?: number;
  /** Sends the reply of this INCR a second time. */
  repeatReply?: number;
  /** Answers this SET with something else. */
  wrongReply?: number;
  /** Resets the connection at this INCR. */
  resetAt?: number;
  /** Closes the connection cleanly at this INCR: still a broken connection to its client. */
  closeAt?: number;
  /** Answers nothing from this INCR on. */
  silentFrom?: number;
}

export class LyingRedis {
  readonly #strings = new Map<string, string>();
  readonly #lists = new Map<string, string[]>();
  readonly #lies: Lies;
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  #increments = 0;
  #pushes = 0;
  #sets = 0;

  private constructor(lies: Lies) {
    this.#lies = lies;
    this.#server = createServer({ noDelay: true }, (socket) => this.#serve(socket));
  }

  static async start(lies: Lies = {}): Promise<LyingRedis> {
    const redis = new LyingRedis(lies);
    await new Promise<void>((resolve) => redis.#server.listen(0, "127.0.0.1", resolve));
    return redis;
  }

  get port(): number {
    const address = this.#server.address();
    if (address === null || typeof address === "string") throw new Error("not listening");
    return address.port;
  }

  async stop(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    await new Promise((resolve) => this.#server.close(resolve));
  }

  #serve(socket: Socket): void {
    this.#sockets.add(socket);
    socket.on("close", () => this.#sockets.delete(socket));
    socket.on("error", () => {});
    const decoder = new RespDecoder();
    let kept: string | undefined;
    socket.on("data", (chunk) => {
      for (const command of decoder.push(chunk)) {
        const reply = this.#reply(socket, (command as RespValue[]).map(String));
        if (reply === undefined) return;
        if (this.#lies.swapIncrement !== undefined && (command as RespValue[])[0] === "INCR") {
          if (this.#increments === this.#lies.swapIncrement) {
            kept = reply;
            // The other request's counter value; this one's follows in its place.
            socket.write(`:${Number(reply.slice(1)) + 1}\r\n`);
            continue;
          }
          if (kept !== undefined) {
            socket.write(kept);
            kept = undefined;
            continue;
          }
        }
        socket.write(reply);
      }
    });
  }

  #reply(socket: Socket, [name, key = "", ...rest]: string[]): string | undefined {
    switch (name) {
      case "SET":
        return this.#set(key, rest[0] ?? "");
      case "INCR":
        return this.#increment(socket, key);
      case "RPUSH":
        return this.#push(key, rest[0] ?? "");
      case "GET":
        return bulk(this.#strings.get(key));
      case "MGET": {
        const keys = [key, ...rest];
        return `*${keys.length}\r\n${keys.map((k) => bulk(this.#strings.get(k))).join("")}`;
      }
      case "LRANGE": {
        const list = this.#lists.get(key) ?? [];
        return `*${list.length}\r\n${list.map(bulk).join("")}`;
      }
      default:
        return "-ERR unknown command\r\n";
    }
  }

  #set(key: string, value: string): string {
    this.#sets += 1;
    const { forgetKeysEnding } = this.#lies;
    if (forgetKeysEnding === undefined || !key.endsWith(forgetKeysEnding)) {
      this.#strings.set(key, value);
    }
    return this.#sets === this.#lies.wrongReply ? "+QUEUED\r\n" : "+OK\r\n";
  }

  #increment(socket: Socket, key: string): string | undefined {
    this.#increments += 1;
    const lies = this.#lies;
    const now = this.#increments;
    if (lies.silentFrom !== undefined && now >= lies.silentFrom) return undefined;
    if (now === lies.resetAt) {
      socket.resetAndDestroy();
      return undefined;
    }
    if (now === lies.closeAt) {
      socket.end();
      return undefined;
    }
    const before = Number(this.#strings.get(key) ?? 0);
    const after = now === lies.doubleIncrement ? before + 2 : before + 1;
    if (now === lies.loseIncrement) return `:${after}\r\n`;
    this.#strings.set(key, String(after));
    const reply = `:${after}\r\n`;
    return now === lies.repeatReply ? reply + reply : reply;
  }

  #push(key: string, value: string): string {
    this.#pushes += 1;
    const list = this.#lists.get(key) ?? [];
    list.push(value);
    const length = list.length;
    if (this.#pushes === this.#lies.doublePush) list.push(value);
    this.#lists.set(key, list);
    return `:${length}\r\n`;
  }
}

function bulk(value: string | undefined): string {
  return value === undefined ? "$-1\r\n" : `$${Buffer.byteLength(value)}\r\n${value}\r\n`;
}
