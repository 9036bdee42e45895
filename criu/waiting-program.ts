/**
 * A native program that is started ahead of its work and waits for a line `go` (ftrestore, ftlive, ftlog with that option): to start
 * one takes this process as long as some of them work. Each is told once, or ended.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { createInterface } from "node:readline";

export class WaitingProgram {
  private readonly child: ChildProcess;
  private readonly lines: AsyncIterator<string>;
  private readonly ended: Promise<number | undefined>;
  private errors = "";

  constructor(
    program: string,
    args: (string | number)[],
    more: { environment?: NodeJS.ProcessEnv; errors?: "kept" } = {},
  ) {
    this.child = spawn(program, args.map(String), {
      stdio: ["pipe", "pipe", more.errors === "kept" ? "pipe" : "inherit"],
      ...(more.environment === undefined ? {} : { env: more.environment }),
    });
    const reader = createInterface({ input: this.child.stdout! });
    this.lines = reader[Symbol.asyncIterator]();
    this.child.once("error", () => reader.close());
    this.child.stdin?.on("error", () => {}); // it has ended: seen as no line
    this.child.stderr?.on("data", (chunk: Buffer) => {
      if (this.errors.length < ERROR_BYTES_MAX) this.errors += chunk.toString("utf8");
    });
    this.ended = new Promise((resolve) => {
      this.child.once("error", () => resolve(undefined));
      this.child.once("close", (code) => resolve(code ?? undefined));
    });
  }

  /** It has not ended yet. */
  get lives(): boolean {
    return this.child.pid !== undefined && this.child.exitCode === null && !this.child.killed;
  }

  tell(word: string): void {
    this.child.stdin?.write(`${word}\n`);
  }

  /** What it says next. One that says nothing for so long is ended. */
  async next(timeoutMs: number): Promise<string | undefined> {
    const timer = setTimeout(() => this.end(), timeoutMs);
    try {
      const { value, done } = await this.lines.next();
      return done ? undefined : value;
    } finally {
      clearTimeout(timer);
    }
  }

  /** How it ended, and what it said about that, if its errors are kept. */
  async outcome(): Promise<{ code: number | undefined; errors: string }> {
    return { code: await this.ended, errors: this.errors };
  }

  end(): void {
    this.child.kill("SIGKILL");
  }
}

const ERROR_BYTES_MAX = 16 * 1024;
