/** The process's streams, so that tests can have their own. */
import { createInterface } from "node:readline/promises";
import type { Readable, Writable } from "node:stream";
import { ExitCode, FtError } from "../errors/error.js";
import { usage } from "./settings.js";

export interface Io {
  stdin: Readable & { isTTY?: boolean };
  stdout: Writable & { isTTY?: boolean };
  stderr: Writable & { isTTY?: boolean; columns?: number };
  env: NodeJS.ProcessEnv;
}

const STDIN_BYTES_MAX = 1 << 20;

/** Resolves when the reader has taken it: a slow pipe slows us down, it does not fill our memory. */
export function write(stream: Writable, text: string): Promise<void> {
  return new Promise((resolve) => {
    if (text === "" || stream.destroyed) return resolve();
    // A closed pipe is noticed by the stream's error event.
    stream.write(text, () => resolve());
  });
}

export async function readAll(stdin: Readable, signal: AbortSignal): Promise<string> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  const onAbort = () => stdin.destroy();
  signal.addEventListener("abort", onAbort, { once: true });
  try {
    for await (const chunk of stdin as AsyncIterable<Buffer | string>) {
      const piece = Buffer.from(chunk as string);
      bytes += piece.length;
      if (bytes > STDIN_BYTES_MAX) throw usage("stdin", `has more than ${STDIN_BYTES_MAX} bytes`);
      chunks.push(piece);
    }
  } catch (error) {
    signal.throwIfAborted();
    throw error;
  } finally {
    signal.removeEventListener("abort", onAbort);
  }
  return Buffer.concat(chunks).toString("utf8");
}

/** Asks on the terminal; without one, says how to answer beforehand. */
export async function confirm(
  io: Io,
  signal: AbortSignal,
  subject: string,
  question: string,
): Promise<void> {
  if (io.stdin.isTTY !== true || io.stderr.isTTY !== true) {
    throw new FtError({
      code: "CONFIRMATION_NEEDED",
      subject,
      message: `this has to be confirmed, and there is no terminal to ask on: ${question}`,
      hint: "Add -y (--yes), or set FTCTL_YES=1.",
      exitCode: ExitCode.refused,
    });
  }
  const asking = createInterface({ input: io.stdin, output: io.stderr });
  const closed = new Promise<string>((resolve) => asking.once("close", () => resolve("")));
  try {
    const answer = await Promise.race([asking.question(`${question} [y/N] `, { signal }), closed]);
    if (/^y(es)?$/i.test(answer.trim())) return;
  } finally {
    asking.close();
  }
  throw new FtError({
    code: "CANCELLED",
    subject,
    message: "not confirmed; nothing was changed",
    exitCode: ExitCode.refused,
  });
}
