/** Progress for a person: one line a step with its time; on a terminal the running step shows its clock. */
import pc from "picocolors";

export interface Output {
  isTTY?: boolean;
  write(text: string): unknown;
}

const tickMs = 100;

export class Steps {
  readonly #output: Output;
  readonly #colors: ReturnType<typeof pc.createColors>;
  readonly #nowMs: () => number;
  readonly #startMs: number;

  constructor(output: Output, colorful: boolean, nowMs: () => number = () => performance.now()) {
    this.#output = output;
    this.#colors = pc.createColors(colorful);
    this.#nowMs = nowMs;
    this.#startMs = nowMs();
  }

  get elapsedMs(): number {
    return this.#nowMs() - this.#startMs;
  }

  /** Runs one step. `work` may change the text shown while it runs, and returns what it came to. */
  async step<T>(
    title: string,
    work: (show: (detail: string) => void) => Promise<T>,
    summary: (value: T) => string = () => "",
  ): Promise<T> {
    const beganMs = this.#nowMs();
    let detail = "";
    const tick = this.#output.isTTY
      ? setInterval(() => this.#running(title, detail, beganMs), tickMs)
      : undefined;
    try {
      const value = await work((text) => {
        detail = text;
      });
      this.#done(this.#colors.green("✓"), title, summary(value), beganMs);
      return value;
    } catch (error) {
      this.#done(this.#colors.red("✗"), title, "", beganMs);
      throw error;
    } finally {
      clearInterval(tick);
    }
  }

  /** What the next steps have in common. */
  heading(title: string): void {
    this.#output.write(`${this.#clock()}  ${this.#colors.bold(title)}\n`);
  }

  #running(title: string, detail: string, beganMs: number): void {
    const line = `  ${this.#colors.cyan("…")} ${title}  ${this.#colors.dim(detail)}`;
    this.#output.write(`\r\x1b[K${this.#clock()}${line}  ${seconds(this.#nowMs() - beganMs)}`);
  }

  #done(mark: string, title: string, detail: string, beganMs: number): void {
    const took = this.#colors.dim(seconds(this.#nowMs() - beganMs).padStart(7));
    const start = this.#output.isTTY ? "\r\x1b[K" : "";
    const tail = detail ? `  ${this.#colors.dim(detail)}` : "";
    this.#output.write(`${start}${this.#clock()}  ${mark} ${title.padEnd(44)}${took}${tail}\n`);
  }

  #clock(): string {
    return this.#colors.dim(seconds(this.elapsedMs).padStart(8));
  }
}

export function seconds(ms: number): string {
  return ms < 1_000 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(1)} s`;
}
