/** A small asking client for the read-back and for setting things up: one connection, one answer at a time. */
import { connect, type Socket } from "node:net";

/** Feeds chunks to `decode` until it returns something; bounded in time. */
export class Asker {
  readonly #socket: Socket;
  readonly #timeoutMs: number;
  #onChunk: ((chunk: Buffer) => void) | undefined;
  #onFailure: ((error: Error) => void) | undefined;

  private constructor(socket: Socket, timeoutMs: number) {
    this.#socket = socket;
    this.#timeoutMs = timeoutMs;
    socket.on("data", (chunk) => this.#onChunk?.(chunk));
    socket.on("error", (error) => this.#onFailure?.(error));
    socket.on("close", () => this.#onFailure?.(new Error("the service closed the connection")));
  }

  static open(host: string, port: number, timeoutMs: number): Promise<Asker> {
    return new Promise((resolve, reject) => {
      const socket = connect({ host, port, noDelay: true });
      const timer = setTimeout(() => {
        socket.destroy();
        reject(new Error(`no connection to ${host}:${port} in ${timeoutMs} ms`));
      }, timeoutMs);
      socket.once("error", (error) => {
        clearTimeout(timer);
        reject(error);
      });
      socket.once("connect", () => {
        clearTimeout(timer);
        resolve(new Asker(socket, timeoutMs));
      });
    });
  }

  ask<T>(request: string | Buffer, decode: (chunk: Buffer) => T | undefined): Promise<T> {
    return new Promise<T>((resolve, reject) => {
      const timer = setTimeout(
        () => this.#onFailure?.(new Error(`no answer in ${this.#timeoutMs} ms`)),
        this.#timeoutMs,
      );
      const settle = () => {
        clearTimeout(timer);
        this.#onChunk = undefined;
        this.#onFailure = undefined;
      };
      this.#onFailure = (error) => {
        settle();
        reject(error);
      };
      this.#onChunk = (chunk) => {
        try {
          const value = decode(chunk);
          if (value === undefined) return;
          settle();
          resolve(value);
        } catch (error) {
          this.#onFailure?.(error instanceof Error ? error : new Error(String(error)));
        }
      };
      this.#socket.write(request);
    });
  }

  close(): void {
    this.#socket.destroy();
  }
}

/** Of a service that speaks in lines: one answer a request. */
export function askLines(asker: Asker, requests: string[]): Promise<string[]> {
  let text = "";
  return asker.ask(`${requests.join("\n")}\n`, (chunk) => {
    text += chunk.toString("latin1");
    const got = text.split("\n");
    return got.length > requests.length ? got.slice(0, requests.length) : undefined;
  });
}
