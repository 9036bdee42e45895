/**
 * A load client as its owner sees it: a worker process in a network namespace.
 *
 * Invariant: after `dispose()`, or the death of the owner, no worker is left: it ends when its stdin closes.
 */
import { type ChildProcessWithoutNullStreams, spawn } from "node:child_process";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { type ClientOptions, clientOptions, type GivenOptions } from "./options.js";
import type { ClientLine, ClientReport, VerifyReport } from "./report.js";

type LineOf<K extends ClientLine["kind"]> = Extract<ClientLine, { kind: K }>;
export type ClientProgress = LineOf<"progress">;

const workerPath = fileURLToPath(new URL("./worker.js", import.meta.url));

export class ClientProcess {
  readonly #child: ChildProcessWithoutNullStreams;
  readonly #kept = new Map<ClientLine["kind"], ClientLine>();
  readonly #waiting = new Set<() => void>();
  #failure: string | undefined;
  #stderr = "";
  onProgress: (progress: ClientProgress) => void = () => {};

  /** `enter` is put in front of the command, for instance `nsenter --net=/run/netns/x`. */
  constructor(
    readonly options: ClientOptions,
    enter: string[],
    worker = workerPath,
  ) {
    const argv = [...enter, process.execPath, worker, JSON.stringify(options)];
    this.#child = spawn(argv[0]!, argv.slice(1), { stdio: "pipe" });
    this.#child.on("error", (error) => this.#fail(error.message));
    this.#child.on("exit", (code, signal) => this.#fail(`the client ended: ${code ?? signal}`));
    this.#child.stdin.on("error", () => {});
    this.#child.stderr.on("data", (chunk) => {
      this.#stderr = (this.#stderr + chunk).slice(-4_000);
    });
    createInterface({ input: this.#child.stdout }).on("line", (line) => this.#take(line));
  }

  static start(given: GivenOptions, enter: string[]): ClientProcess {
    return new ClientProcess(clientOptions(given), enter);
  }

  /** All connections are up, or have failed. */
  async ready(timeoutMs = 20_000): Promise<void> {
    await this.#line("ready", timeoutMs);
  }

  get progress(): ClientProgress | undefined {
    return this.#kept.get("progress") as ClientProgress | undefined;
  }

  /** Waits until `acknowledged` more than now have been acknowledged. */
  async makesProgress(more: number, timeoutMs: number): Promise<void> {
    const start = this.progress?.acknowledged ?? 0;
    await this.#until(
      () => (this.progress?.acknowledged ?? 0) >= start + more || this.#kept.has("report"),
      timeoutMs,
      `${more} more answers`,
    );
  }

  /** Lets outstanding requests be answered, then reports. */
  async stop(timeoutMs = 60_000): Promise<ClientReport> {
    this.#child.stdin.write("stop\n");
    return (await this.#line("report", timeoutMs)).report;
  }

  /** The report of a load that ends by its own bounds. */
  async report(timeoutMs: number): Promise<ClientReport> {
    return (await this.#line("report", timeoutMs)).report;
  }

  async verify(timeoutMs = 60_000): Promise<VerifyReport> {
    this.#child.stdin.write("verify\n");
    return (await this.#line("verified", timeoutMs)).verify;
  }

  dispose(): void {
    this.#child.stdin.end();
    this.#child.kill("SIGKILL");
  }

  #take(text: string): void {
    let line: ClientLine;
    try {
      line = JSON.parse(text) as ClientLine;
    } catch {
      this.#fail(`not a client line: ${text.slice(0, 200)}`);
      return;
    }
    this.#kept.set(line.kind, line);
    if (line.kind === "failed") this.#fail(line.message);
    if (line.kind === "progress") this.onProgress(line);
    this.#wake();
  }

  async #line<K extends ClientLine["kind"]>(kind: K, timeoutMs: number): Promise<LineOf<K>> {
    await this.#until(() => this.#kept.has(kind), timeoutMs, `"${kind}"`);
    return this.#kept.get(kind) as LineOf<K>;
  }

  #until(done: () => boolean, timeoutMs: number, what: string): Promise<void> {
    return new Promise((resolve, reject) => {
      const finish = (error?: Error) => {
        clearTimeout(timer);
        this.#waiting.delete(look);
        if (error) reject(error);
        else resolve();
      };
      const look = () => {
        if (done()) finish();
        else if (this.#failure) finish(this.#error(`client failed: ${this.#failure}`));
      };
      const timer = setTimeout(
        () => finish(this.#error(`the client said nothing of ${what} in ${timeoutMs} ms`)),
        timeoutMs,
      );
      this.#waiting.add(look);
      look();
    });
  }

  #error(message: string): Error {
    return new Error(this.#stderr ? `${message}\n${this.#stderr}` : message);
  }

  #fail(message: string): void {
    this.#failure ??= message;
    this.#wake();
  }

  #wake(): void {
    for (const look of [...this.#waiting]) look();
  }
}
