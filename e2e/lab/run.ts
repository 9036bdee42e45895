/** Runs a program to its end, with a bound on time and on what it may print. */
import { execa } from "execa";
import { FtError } from "../../orchestrator/errors/error.js";

export interface RunOptions {
  timeoutMs?: number;
  input?: string;
  env?: Record<string, string>;
  cwd?: string;
  /** Exit codes that are no failure. */
  allowed?: number[];
}

const OUTPUT_BYTES_MAX = 16 * 2 ** 20;
const QUOTED_LINES_MAX = 12;

export async function run(
  program: string,
  args: string[],
  options: RunOptions = {},
): Promise<string> {
  const result = await execa(program, args, {
    reject: false,
    timeout: options.timeoutMs ?? 30_000,
    maxBuffer: OUTPUT_BYTES_MAX,
    stdin: options.input === undefined ? "ignore" : "pipe",
    ...(options.input === undefined ? {} : { input: options.input }),
    ...(options.env === undefined ? {} : { env: options.env }),
    ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
  });
  if (result.exitCode === 0 || options.allowed?.includes(result.exitCode ?? -1)) {
    return result.stdout;
  }
  const printed = `${result.stdout}\n${result.stderr}`.split("\n").filter((line) => line.trim());
  throw new FtError({
    code: result.timedOut ? "COMMAND_TIME_OUT" : "COMMAND_FAILED",
    subject: `${program} ${args.join(" ")}`.slice(0, 300),
    message: result.shortMessage ?? `ended with exit code ${result.exitCode}`,
    quoted: printed.slice(-QUOTED_LINES_MAX),
  });
}

/** Polls until `probe` says yes; a bound instead of a guess. */
export async function until(
  what: string,
  timeoutMs: number,
  probe: () => Promise<boolean> | boolean,
  intervalMs = 20,
): Promise<void> {
  const deadline = performance.now() + timeoutMs;
  while (!(await probe())) {
    if (performance.now() > deadline) {
      throw new FtError({
        code: "LAB_TIME_OUT",
        subject: what,
        message: `did not happen within ${timeoutMs} ms`,
        exitCode: 124,
      });
    }
    await new Promise((resolve) => setTimeout(resolve, intervalMs));
  }
}
