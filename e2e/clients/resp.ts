/** RESP, redis' protocol: encoding of commands and an incremental, bounded decoder of replies. */

export type RespValue = string | number | null | RespError | RespValue[];

export class RespError {
  constructor(readonly message: string) {}
}

export function encodeCommand(...parts: (string | number)[]): string {
  let text = `*${parts.length}\r\n`;
  for (const part of parts) {
    const value = String(part);
    text += `$${Buffer.byteLength(value)}\r\n${value}\r\n`;
  }
  return text;
}

const bufferedBytesMax = 64 << 20;

export class RespDecoder {
  #buffer: Buffer = Buffer.alloc(0);
  #at = 0;

  /** All whole values that are in by now. Throws on bytes that are not RESP. */
  push(chunk: Buffer): RespValue[] {
    const rest = this.#buffer.length - this.#at;
    if (rest + chunk.length > bufferedBytesMax) throw new Error("a reply is larger than 64 MiB");
    this.#buffer = rest === 0 ? chunk : Buffer.concat([this.#buffer.subarray(this.#at), chunk]);
    this.#at = 0;
    const values: RespValue[] = [];
    for (;;) {
      const start = this.#at;
      const value = this.#value();
      if (value === undefined) {
        this.#at = start;
        return values;
      }
      values.push(value);
    }
  }

  /** Bytes of a value that is not whole yet. */
  get pendingBytes(): number {
    return this.#buffer.length - this.#at;
  }

  #line(): string | undefined {
    const end = this.#buffer.indexOf("\r\n", this.#at, "latin1");
    if (end < 0) return undefined;
    const line = this.#buffer.toString("utf8", this.#at, end);
    this.#at = end + 2;
    return line;
  }

  #value(): RespValue | undefined {
    const line = this.#line();
    if (line === undefined) return undefined;
    const rest = line.slice(1);
    switch (line[0]) {
      case "+":
        return rest;
      case "-":
        return new RespError(rest);
      case ":":
        return wholeNumber(rest);
      case "$":
        return this.#bulk(wholeNumber(rest));
      case "*":
        return this.#array(wholeNumber(rest));
      default:
        throw new Error(`not a RESP reply: ${JSON.stringify(line.slice(0, 80))}`);
    }
  }

  #bulk(length: number): string | null | undefined {
    if (length === -1) return null;
    if (length < 0 || length > bufferedBytesMax) throw new Error(`bad bulk length ${length}`);
    if (this.#buffer.length - this.#at < length + 2) return undefined;
    const text = this.#buffer.toString("utf8", this.#at, this.#at + length);
    if (this.#buffer.toString("latin1", this.#at + length, this.#at + length + 2) !== "\r\n") {
      throw new Error("a bulk reply does not end where it says");
    }
    this.#at += length + 2;
    return text;
  }

  #array(length: number): RespValue[] | null | undefined {
    if (length === -1) return null;
    if (length < 0 || length > 10_000_000) throw new Error(`bad array length ${length}`);
    const values: RespValue[] = [];
    for (let i = 0; i < length; i += 1) {
      const value = this.#value();
      if (value === undefined) return undefined;
      values.push(value);
    }
    return values;
  }
}

function wholeNumber(text: string): number {
  if (!/^-?\d{1,16}$/.test(text))
    throw new Error(`not a number: ${JSON.stringify(text.slice(0, 40))}`);
  return Number(text);
}

export function showValue(value: RespValue): string {
  return value instanceof RespError ? `-${value.message}` : JSON.stringify(value);
}
