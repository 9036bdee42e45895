/**
 * Operating errors. Programmer errors use `invariant()`; everything a user can meet is an `FtError` with
 * a stable code, the subject it happened to, the cause and what to do about it.
 */

import { ERROR_CODES } from "./codes.js";

/** Exit codes of `ftctl`, documented in docs/errors.md. Stable. */
export const ExitCode = {
  ok: 0,
  error: 1,
  usage: 2,
  notFound: 3,
  preflightFailed: 4,
  degraded: 5,
  refused: 6,
  peerUnreachable: 7,
  timeOut: 124,
} as const;
export type ExitCode = (typeof ExitCode)[keyof typeof ExitCode];

export interface FtErrorFields {
  /** Stable, upper case: `PEER_UNREACHABLE`. Listed in `codes.ts` and docs/errors.md. */
  code: string;
  /** What it happened to: `container redis`, `host beta`, `policy web.yaml:4:7`. */
  subject: string;
  /** What failed and why, one sentence. */
  message: string;
  /** What to do about it. */
  hint?: string | undefined;
  /** Where the full log is. */
  log?: string | undefined;
  /** Lines quoted from another program (CRIU, Docker), around the failure. */
  quoted?: string[] | undefined;
  exitCode?: ExitCode | undefined;
  cause?: unknown;
}

export class FtError extends Error {
  readonly code: string;
  readonly subject: string;
  readonly hint: string | undefined;
  readonly log: string | undefined;
  readonly quoted: string[];
  readonly exitCode: ExitCode;

  constructor(fields: FtErrorFields) {
    super(fields.message, { cause: fields.cause });
    this.name = "FtError";
    this.code = fields.code;
    this.subject = fields.subject;
    this.hint = fields.hint;
    this.log = fields.log;
    this.quoted = fields.quoted ?? [];
    this.exitCode = fields.exitCode ?? ERROR_CODES.get(fields.code)?.exitCode ?? ExitCode.error;
  }

  /** The form that crosses the wire and `-o json`. */
  toJSON(): FtErrorJson {
    return {
      code: this.code,
      subject: this.subject,
      message: this.message,
      ...(this.hint === undefined ? {} : { hint: this.hint }),
      ...(this.log === undefined ? {} : { log: this.log }),
      ...(this.quoted.length === 0 ? {} : { quoted: this.quoted }),
      exitCode: this.exitCode,
    };
  }

  static fromJSON(json: FtErrorJson): FtError {
    return new FtError(json);
  }
}

export interface FtErrorJson {
  code: string;
  subject: string;
  message: string;
  hint?: string;
  log?: string;
  quoted?: string[];
  exitCode: ExitCode;
}

/** Any thrown value as an `FtError`, so that nothing is swallowed and everything can be shown alike. */
export function asFtError(thrown: unknown, subject: string): FtError {
  if (thrown instanceof FtError) return thrown;
  const message = thrown instanceof Error ? thrown.message : String(thrown);
  return new FtError({ code: "INTERNAL", subject, message, cause: thrown });
}

/** For what cannot happen unless the program is wrong. Stays on in production. */
export function invariant(condition: unknown, message: string): asserts condition {
  if (!condition) throw new Error(`invariant violated: ${message}`);
}

/** For the end of a switch over a typed union: the compiler proves that every case is handled. */
export function unreachable(value: never): never {
  throw new Error(`unreachable: ${JSON.stringify(value)}`);
}
