/** What the local API needs of HTTP: bounded bodies, JSON answers, JSON lines with back-pressure, errors. */
import type { IncomingMessage, ServerResponse } from "node:http";
import type { z } from "zod";
import { asFtError, ExitCode, FtError } from "../errors/error.js";
import { limits } from "../limits.js";

/** A reader that takes nothing for this long is cut off: its events would pile up otherwise. */
const SLOW_READER_TIMEOUT_MS = 30_000;
/** Progress is dropped, not queued, for a reader that is this far behind. */
const PROGRESS_BACKLOG_BYTES_MAX = 1 << 20;

const STATUS: Readonly<Record<ExitCode, number>> = {
  [ExitCode.ok]: 500,
  [ExitCode.error]: 500,
  [ExitCode.usage]: 400,
  [ExitCode.notFound]: 404,
  [ExitCode.preflightFailed]: 422,
  [ExitCode.degraded]: 409,
  [ExitCode.refused]: 409,
  [ExitCode.peerUnreachable]: 502,
  [ExitCode.timeOut]: 504,
};

export function statusOf(error: FtError): number {
  if (error.code === "REQUEST_TOO_LARGE") return 413;
  if (error.code === "METHOD_NOT_ALLOWED") return 405;
  return STATUS[error.exitCode] ?? 500;
}

export function requestInvalid(subject: string, message: string): FtError {
  return new FtError({ code: "REQUEST_INVALID", subject, message, exitCode: ExitCode.usage });
}

/** The body as JSON that fits the schema; never reads more than the bound. */
export async function readBody<T>(request: IncomingMessage, schema: z.ZodType<T>): Promise<T> {
  const subject = `request ${request.method} ${request.url}`;
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of request as AsyncIterable<Buffer>) {
    bytes += chunk.length;
    if (bytes > limits.localRequestBytesMax) {
      throw new FtError({
        code: "REQUEST_TOO_LARGE",
        subject,
        message: `has more than ${limits.localRequestBytesMax} bytes`,
        exitCode: ExitCode.usage,
      });
    }
    chunks.push(chunk);
  }
  let value: unknown;
  try {
    value = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(Buffer.concat(chunks)));
  } catch {
    throw requestInvalid(subject, "the body is not JSON");
  }
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  const [issue] = result.error.issues;
  throw requestInvalid(subject, `${issue?.path.join(".") || "body"}: ${issue?.message}`);
}

export function sendJson(response: ServerResponse, value: unknown): void {
  send(response, 200, "application/json", `${JSON.stringify(value)}\n`);
}

export function sendText(response: ServerResponse, type: string, text: string): void {
  send(response, 200, type, text);
}

export function sendError(response: ServerResponse, thrown: unknown, subject: string): void {
  const error = asFtError(thrown, subject);
  // What is left of the request is not read, so the connection cannot be used again.
  response.setHeader("connection", "close");
  send(response, statusOf(error), "application/json", `${JSON.stringify(error)}\n`);
}

function send(response: ServerResponse, status: number, type: string, body: string): void {
  if (response.destroyed || response.headersSent) {
    response.destroy();
    return;
  }
  response.writeHead(status, {
    "content-type": type,
    "content-length": Buffer.byteLength(body),
    "cache-control": "no-store",
  });
  response.end(body);
}

/** JSON lines, one a value. */
export class LineWriter {
  constructor(private readonly response: ServerResponse) {
    response.writeHead(200, {
      "content-type": "application/x-ndjson",
      "cache-control": "no-store",
    });
    response.flushHeaders();
  }

  /** Resolves when the reader keeps up; rejects when it is gone or stuck. */
  async write(value: unknown): Promise<void> {
    if (this.response.destroyed) throw new Error("the reader has gone");
    if (this.response.write(`${JSON.stringify(value)}\n`)) return;
    await this.drained();
  }

  /** For what may be lost: never waits. */
  offer(value: unknown): void {
    if (this.response.destroyed) return;
    if (this.response.writableLength > PROGRESS_BACKLOG_BYTES_MAX) return;
    this.response.write(`${JSON.stringify(value)}\n`);
  }

  end(): void {
    this.response.end();
  }

  private drained(): Promise<void> {
    const { response } = this;
    return new Promise((resolve, reject) => {
      const finish = (error?: Error) => {
        clearTimeout(timer);
        response.off("drain", onDrain);
        response.off("close", onClose);
        if (error === undefined) return resolve();
        response.destroy();
        reject(error);
      };
      const onDrain = () => finish();
      const onClose = () => finish(new Error("the reader has gone"));
      const timer = setTimeout(
        () => finish(new Error("the reader takes nothing")),
        SLOW_READER_TIMEOUT_MS,
      );
      response.once("drain", onDrain);
      response.once("close", onClose);
    });
  }
}
