/**
 * The line protocol of the native programs (docs/ARCHITECTURE.md): one request a line, one reply a request in
 * order, `event …` lines in between. Works over a socket and over a child's stdin and stdout.
 *
 * Invariants: replies are matched to requests strictly in order; after a time-out, a malformed reply or a line
 * that is too long the stream cannot be matched any more, so the client closes and every waiter fails.
 */
import { EventEmitter } from "node:events";
import type { Readable, Writable } from "node:stream";
import { FtError } from "../errors/error.js";
import { limits } from "../limits.js";

export type LineValue = string | number | bigint | boolean | undefined;

/** The `key=value` fields of a reply or an event, with typed readers that fail by name. */
export class LineFields {
  readonly #subject: string;
  readonly #values: ReadonlyMap<string, string>;

  constructor(subject: string, values: ReadonlyMap<string, string>) {
    this.#subject = subject;
    this.#values = values;
  }

  has(key: string): boolean {
    return this.#values.has(key);
  }

  /** Percent-decoded text. */
  text(key: string): string {
    const raw = this.#values.get(key);
    if (raw === undefined) throw protocolError(this.#subject, `the field ${key} is missing`);
    return decodeLineValue(raw, this.#subject);
  }

  textOr<T>(key: string, missing: T): string | T {
    return this.has(key) ? this.text(key) : missing;
  }

  number(key: string): number {
    const text = this.text(key);
    const value = Number(text);
    if (!/^-?\d+$/.test(text) || !Number.isSafeInteger(value)) {
      throw protocolError(this.#subject, `the field ${key} is not a number: ${text}`);
    }
    return value;
  }

  numberOr<T>(key: string, missing: T): number | T {
    return this.has(key) ? this.number(key) : missing;
  }

  bigint(key: string): bigint {
    const text = this.text(key);
    if (!/^-?\d+$/.test(text)) {
      throw protocolError(this.#subject, `the field ${key} is not a number: ${text}`);
    }
    return BigInt(text);
  }

  /** `0` or `1`. */
  flag(key: string): boolean {
    return this.number(key) !== 0;
  }

  toObject(): Record<string, string> {
    return Object.fromEntries(this.#values);
  }
}

export interface LineEvent {
  name: string;
  fields: LineFields;
}

export interface ParsedLine {
  kind: "ok" | "fail" | "event" | "request";
  /** The event's name or the request's verb; empty for replies. */
  name: string;
  values: Map<string, string>;
}

/** `undefined` when the text is no line of the protocol. */
export function parseLine(text: string): ParsedLine | undefined {
  const words = text.split(" ").filter((word) => word.length > 0);
  const head = words.shift();
  if (head === undefined || !/^[A-Za-z0-9_.-]+$/.test(head)) return undefined;
  let kind: ParsedLine["kind"] = "request";
  let name = head;
  if (head === "ok" || head === "fail") {
    kind = head;
    name = "";
  } else if (head === "event") {
    kind = "event";
    name = words.shift() ?? "";
    if (!/^[A-Za-z0-9_.-]+$/.test(name)) return undefined;
  }
  const values = new Map<string, string>();
  for (const word of words) {
    const match = /^([A-Za-z0-9_.-]+)=(.*)$/.exec(word);
    if (match === null || values.has(match[1]!)) return undefined;
    values.set(match[1]!, match[2]!);
  }
  return { kind, name, values };
}

export function formatLine(verb: string, fields: Record<string, LineValue> = {}): string {
  let line = verb;
  for (const [key, value] of Object.entries(fields)) {
    if (value === undefined) continue;
    line += ` ${key}=${encodeLineValue(typeof value === "boolean" ? (value ? "1" : "0") : String(value))}`;
  }
  return `${line}\n`;
}

/** Percent-codes spaces, `%`, control and non-ASCII bytes. */
export function encodeLineValue(text: string): string {
  let coded = "";
  for (const byte of Buffer.from(text, "utf8")) {
    coded +=
      byte > 0x20 && byte < 0x7f && byte !== 0x25
        ? String.fromCharCode(byte)
        : `%${byte.toString(16).toUpperCase().padStart(2, "0")}`;
  }
  return coded;
}

export function decodeLineValue(coded: string, subject = "line"): string {
  if (!coded.includes("%")) return coded;
  const bytes: number[] = [];
  for (let i = 0; i < coded.length; i += 1) {
    if (coded[i] !== "%") {
      bytes.push(...Buffer.from(coded[i]!, "utf8"));
      continue;
    }
    const digits = coded.slice(i + 1, i + 3);
    if (!/^[0-9A-Fa-f]{2}$/.test(digits))
      throw protocolError(subject, `bad percent code in ${coded}`);
    bytes.push(Number.parseInt(digits, 16));
    i += 2;
  }
  return Buffer.from(bytes).toString("utf8");
}

export interface LineClientOptions {
  /** What errors are about: `gate of pair 3f2a…`. */
  subject: string;
  /** For requests that name no time-out of their own. */
  timeoutMs: number;
  lineBytesMax?: number;
  /** Requests that may wait for their replies at once. */
  pendingMax?: number;
}

interface Waiting {
  verb: string;
  resolve(fields: LineFields): void;
  reject(error: FtError): void;
  timer: NodeJS.Timeout;
}

interface LineClientEvents {
  event: [LineEvent];
  close: [FtError | undefined];
}

export class LineClient extends EventEmitter<LineClientEvents> {
  readonly #input: Readable;
  readonly #output: Writable;
  readonly #options: Required<LineClientOptions>;
  readonly #waiting: Waiting[] = [];
  #buffered: Buffer = Buffer.alloc(0);
  #closed = false;

  /** `input` is what the program writes (a socket, or its stdout), `output` what it reads. */
  constructor(input: Readable, output: Writable, options: LineClientOptions) {
    super();
    this.#input = input;
    this.#output = output;
    this.#options = { lineBytesMax: limits.controlLineBytesMax, pendingMax: 256, ...options };
    input.on("data", (chunk: Buffer | string) => this.#receive(chunk));
    input.on("end", () => this.#shut(this.#gone("it closed the connection")));
    input.on("close", () => this.#shut(this.#gone("the connection closed")));
    input.on("error", (cause) => this.#shut(this.#gone(cause.message, cause)));
    if ((output as unknown) !== input) {
      output.on("error", (cause) => this.#shut(this.#gone(cause.message, cause)));
    }
  }

  get closed(): boolean {
    return this.#closed;
  }

  /** Sends one request; resolves with the fields of `ok`, rejects with an `FtError` for `fail`. */
  request(
    verb: string,
    fields: Record<string, LineValue> = {},
    timeoutMs = this.#options.timeoutMs,
  ): Promise<LineFields> {
    if (this.#closed) return Promise.reject(this.#gone("the connection is closed"));
    if (this.#waiting.length >= this.#options.pendingMax) {
      return Promise.reject(
        new FtError({
          code: "CONTROL_BUSY",
          subject: this.#options.subject,
          message: `${this.#waiting.length} requests wait for their replies; ${verb} was not sent`,
        }),
      );
    }
    const line = formatLine(verb, fields);
    if (Buffer.byteLength(line) > this.#options.lineBytesMax) {
      return Promise.reject(
        protocolError(this.#options.subject, `the request ${verb} is too long`),
      );
    }
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => this.#timedOut(verb, timeoutMs), timeoutMs);
      this.#waiting.push({ verb, resolve, reject, timer });
      this.#output.write(line);
    });
  }

  /** Ends the connection; requests still waiting fail with CONTROL_CLOSED. */
  close(): void {
    this.#shut(undefined);
  }

  #receive(chunk: Buffer | string): void {
    if (this.#closed) return;
    const bytes = typeof chunk === "string" ? Buffer.from(chunk, "utf8") : chunk;
    this.#buffered = this.#buffered.length === 0 ? bytes : Buffer.concat([this.#buffered, bytes]);
    let start = 0;
    for (;;) {
      const newline = this.#buffered.indexOf(0x0a, start);
      const length = (newline < 0 ? this.#buffered.length : newline) - start;
      if (length >= this.#options.lineBytesMax) {
        this.#shut(protocolError(this.#options.subject, "it sent a line that is too long"));
        return;
      }
      if (newline < 0) break;
      this.#dispatch(this.#buffered.toString("utf8", start, newline));
      if (this.#closed) return;
      start = newline + 1;
    }
    this.#buffered = this.#buffered.subarray(start);
  }

  #dispatch(text: string): void {
    const line = parseLine(text);
    if (line === undefined || line.kind === "request") {
      this.#shut(protocolError(this.#options.subject, `it sent a malformed line: ${text}`));
      return;
    }
    const fields = new LineFields(this.#options.subject, line.values);
    if (line.kind === "event") {
      this.emit("event", { name: line.name, fields });
      return;
    }
    const waiting = this.#waiting.shift();
    if (waiting === undefined) {
      this.#shut(protocolError(this.#options.subject, `a reply nobody asked for: ${text}`));
      return;
    }
    clearTimeout(waiting.timer);
    if (line.kind === "ok") waiting.resolve(fields);
    else waiting.reject(lineFailure(this.#options.subject, waiting.verb, fields));
  }

  #timedOut(verb: string, timeoutMs: number): void {
    this.#shut(
      new FtError({
        code: "CONTROL_TIMEOUT",
        subject: this.#options.subject,
        message: `no reply to ${verb} within ${timeoutMs} ms`,
      }),
    );
  }

  #shut(error: FtError | undefined): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#buffered = Buffer.alloc(0);
    const failure = error ?? this.#gone("the connection was closed here");
    for (const waiting of this.#waiting.splice(0)) {
      clearTimeout(waiting.timer);
      waiting.reject(failure);
    }
    this.#output.end();
    this.#input.destroy();
    this.emit("close", error);
  }

  #gone(message: string, cause?: unknown): FtError {
    return new FtError({ code: "CONTROL_CLOSED", subject: this.#options.subject, message, cause });
  }
}

/** A `fail` reply. `code` of the error is CONTROL_FAILED; `slug` is the program's own word for it. */
export class LineFailure extends FtError {
  readonly slug: string;
  readonly errno: number;
  readonly fields: LineFields;

  constructor(subject: string, verb: string, fields: LineFields) {
    const slug = fields.textOr("code", "unknown");
    const detail = fields.textOr("detail", "");
    super({
      code: "CONTROL_FAILED",
      subject,
      message: `${verb} failed: ${slug}${detail === "" ? "" : `: ${detail}`}`,
      log: fields.textOr("log", undefined),
    });
    this.name = "LineFailure";
    this.slug = slug;
    this.errno = fields.numberOr("errno", 0);
    this.fields = fields;
  }
}

function lineFailure(subject: string, verb: string, fields: LineFields): FtError {
  try {
    return new LineFailure(subject, verb, fields);
  } catch (error) {
    return error instanceof FtError ? error : protocolError(subject, String(error));
  }
}

function protocolError(subject: string, message: string): FtError {
  return new FtError({ code: "CONTROL_PROTOCOL", subject, message });
}
