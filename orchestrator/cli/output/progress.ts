/**
 * Progress on stderr: a line with a spinner on a terminal, one plain line a step elsewhere. Never on
 * stdout, never with `-q`, and never mixed into the JSON errors of `-o json`.
 */
import type { Progress } from "../../agent/api-types.js";
import { clean } from "./table.js";
import { bytes } from "./units.js";

export interface ProgressSink {
  write(text: string): void;
  isTerminal: boolean;
  columns: number;
}

const FRAMES = ["⠋", "⠙", "⠹", "⠸", "⠼", "⠴", "⠦", "⠧", "⠇", "⠏"];
const FRAME_MS = 100;
const CLEAR_LINE = "\r\u001b[K";

export class ProgressLine {
  #frame = 0;
  #shown = "";
  #lastStep = "";
  #timer: NodeJS.Timeout | undefined;

  constructor(
    private readonly sink: ProgressSink,
    private readonly enabled: boolean,
  ) {}

  /** The same function for every step of one subject. */
  of(subject: string): (progress: Progress) => void {
    return (progress) => this.show(subject, progress);
  }

  show(subject: string, progress: Progress): void {
    if (!this.enabled) return;
    const line = clean(`${subject}: ${describe(progress)}`);
    if (this.sink.isTerminal) {
      this.spin(line);
      return;
    }
    const step = `${subject}\n${progress.step}\n${progress.message}`;
    if (step !== this.#lastStep) this.sink.write(`${line}\n`);
    this.#lastStep = step;
  }

  /** Takes the spinner away, so that a result or an error stands on a clean line. */
  clear(): void {
    clearInterval(this.#timer);
    this.#timer = undefined;
    if (this.#shown !== "") this.sink.write(CLEAR_LINE);
    this.#shown = "";
  }

  private spin(line: string): void {
    this.#shown = line;
    this.draw();
    this.#timer ??= setInterval(() => this.draw(), FRAME_MS).unref();
  }

  private draw(): void {
    this.#frame = (this.#frame + 1) % FRAMES.length;
    const width = Math.max(10, this.sink.columns - 3);
    this.sink.write(`${CLEAR_LINE}${FRAMES[this.#frame]} ${this.#shown.slice(0, width)}`);
  }
}

function describe({ step, message, done, total }: Progress): string {
  const text = message === "" ? step : message;
  if (done === undefined) return text;
  // Large numbers are bytes of an image or a checkpoint; small ones are things.
  const format = (total ?? done) >= 100_000 ? bytes : String;
  return total === undefined
    ? `${text} (${format(done)})`
    : `${text} (${format(done)} of ${format(total)})`;
}
