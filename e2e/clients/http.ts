/**
 * HTTP/1.1 keep-alive GETs of files whose content is known: request n asks for file n mod files, so a reply
 * that belongs to another request shows at once. Every body is compared to the byte.
 */
import { Dialogue } from "./dialogue.js";

const headerBytesMax = 16 << 10;

/** Content of test file `index`: printable, a function of its index, no two alike. */
export function fileContent(index: number, bytes: number): Buffer {
  const line = `file ${index} line `;
  let text = "";
  for (let i = 0; text.length < bytes; i += 1) text += `${line}${i}\n`;
  return Buffer.from(text.slice(0, bytes));
}

export const filePath = (index: number): string => `/ft/${index}.txt`;

export interface HttpReply {
  status: number;
  body: Buffer;
}

/** Incremental decoder of responses with a Content-Length (nginx sends one for files). */
export class HttpDecoder {
  #buffer: Buffer = Buffer.alloc(0);

  push(chunk: Buffer): HttpReply[] {
    this.#buffer = this.#buffer.length === 0 ? chunk : Buffer.concat([this.#buffer, chunk]);
    const replies: HttpReply[] = [];
    for (;;) {
      const reply = this.#one();
      if (reply === undefined) return replies;
      replies.push(reply);
    }
  }

  #one(): HttpReply | undefined {
    const end = this.#buffer.indexOf("\r\n\r\n");
    if (end < 0) {
      if (this.#buffer.length > headerBytesMax) throw new Error("the header of a reply has no end");
      return undefined;
    }
    const header = this.#buffer.toString("latin1", 0, end);
    const status = /^HTTP\/1\.[01] (\d{3})/.exec(header);
    const length = /\r\ncontent-length: *(\d{1,10})/i.exec(header);
    if (!status || !length) throw new Error(`not an HTTP reply: ${header.slice(0, 80)}`);
    const bodyEnd = end + 4 + Number(length[1]);
    if (this.#buffer.length < bodyEnd) return undefined;
    const body = this.#buffer.subarray(end + 4, bodyEnd);
    this.#buffer = this.#buffer.subarray(bodyEnd);
    return { status: Number(status[1]), body };
  }
}

/** What files the server has: `paths[i]` must answer `bodies[i]`. */
export interface HttpSite {
  paths: string[];
  bodies: Buffer[];
}

export function testSite(files: number, bytes: number): HttpSite {
  const indexes = Array.from({ length: files }, (_, i) => i);
  return { paths: indexes.map(filePath), bodies: indexes.map((i) => fileContent(i, bytes)) };
}

export class HttpDialogue extends Dialogue {
  readonly #decoder = new HttpDecoder();

  constructor(
    run: string,
    connection: number,
    readonly site: HttpSite,
    readonly close = false,
  ) {
    super(run, connection);
  }

  #fileOf(n: number): number {
    return (n + this.connection) % this.site.paths.length;
  }

  protected override encode(n: number): Buffer {
    const path = this.site.paths[this.#fileOf(n)];
    const connection = this.close ? "Connection: close\r\n" : "";
    return Buffer.from(`GET ${path} HTTP/1.1\r\nHost: service\r\n${connection}\r\n`);
  }

  protected override consume(chunk: Buffer): void {
    for (const reply of this.#decoder.push(chunk)) {
      if (this.outstanding === 0) {
        this.stray(`status ${reply.status}`);
        continue;
      }
      const n = this.acknowledged + 1;
      if (reply.status !== 200 || !reply.body.equals(this.site.bodies[this.#fileOf(n)]!)) {
        this.#complainAbout(n, reply);
      }
      this.acknowledge();
    }
  }

  #complainAbout(n: number, reply: HttpReply): void {
    const what = `GET ${n} answered ${reply.status}, ${reply.body.length} bytes`;
    this.complain("wrongReplies", what);
    for (let later = n + 1; later <= this.sent; later += 1) {
      if (reply.body.equals(this.site.bodies[this.#fileOf(later)]!)) {
        this.complain("outOfOrder", what);
        return;
      }
    }
  }
}
