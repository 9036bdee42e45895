/**
 * HTTP/1.1 keep-alive GETs of files whose content is known; every body is compared to the byte.
 */
import { largeFile, SMALL_FILE_TEXT } from "../workloads/workloads.js";
import { Dialogue } from "./dialogue.js";

const headerBytesMax = 16 << 10;

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

/** The files of the nginx workload; one request in `largeEvery` asks for the large one, 0: none does. */
export function workloadSite(largeEvery: number): HttpSite {
  const small = { path: "/small.txt", body: Buffer.from(SMALL_FILE_TEXT) };
  const files = Array.from({ length: Math.max(1, largeEvery) }, () => small);
  if (largeEvery > 0) files[0] = { path: "/large.txt", body: Buffer.from(largeFile()) };
  return { paths: files.map(({ path }) => path), bodies: files.map(({ body }) => body) };
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
