/**
 * Fills a redis or a memcached and dirties so many of its pages: run in the service's network by memory-load.ts.
 *
 *   node memory-client.js ADDRESS PORT redis|memcached CONNECTIONS
 *
 * Reads lines `fill MIB` and `dirty PAGES ROUND`, answers each by a line `ok`. Values are half text, half random, so that they pack
 * as a service's do.
 */
import { randomBytes } from "node:crypto";
import { createConnection, type Socket } from "node:net";
import { createInterface } from "node:readline";

const PAGE = 4096;
/** Of a redis value: whole pages, so that every page of it can be written alone. */
const VALUE_PAGES = 244;
/** Of a memcached item, with its key and head: about a page. */
const ITEM_BYTES = 3_950;
const BATCH = 256;

const [address = "", port = "", kind = "redis", connections = "1"] = process.argv.slice(2);

interface Connection {
  socket: Socket;
  /** Lines that are still to come. */
  due: number;
  idle: () => void;
}

async function connect(): Promise<Connection> {
  const socket = createConnection({ host: address, port: Number(port) });
  await new Promise<void>((resolve, reject) => {
    socket.once("connect", resolve);
    socket.once("error", reject);
  });
  socket.setNoDelay(true);
  const connection: Connection = { socket, due: 0, idle: () => {} };
  socket.on("data", (bytes: Buffer) => {
    if (bytes.includes("ERR") || bytes.includes("OOM")) fail(bytes.toString("utf8", 0, 200));
    for (const byte of bytes) if (byte === 10) connection.due -= 1;
    if (connection.due === 0) connection.idle();
  });
  socket.on("error", (error) => fail(error.message));
  return connection;
}

function fail(why: string): never {
  process.stderr.write(`memory-client: ${why}\n`);
  process.exit(1);
}

/** Sends what answers with one line each, and waits for the answers. */
async function ask(connection: Connection, requests: Buffer[]): Promise<void> {
  for (let from = 0; from < requests.length; from += BATCH) {
    const batch = requests.slice(from, from + BATCH);
    connection.due += batch.length;
    const answered = new Promise<void>((resolve) => {
      connection.idle = resolve;
    });
    connection.socket.write(Buffer.concat(batch));
    await answered;
  }
}

const command = (...words: (string | Buffer)[]): Buffer =>
  Buffer.concat([
    Buffer.from(`*${words.length}\r\n`),
    ...words.flatMap((word) => [
      Buffer.from(`$${Buffer.byteLength(word)}\r\n`),
      Buffer.from(word),
      Buffer.from("\r\n"),
    ]),
  ]);

function content(bytes: number, seed: number): Buffer {
  const text = Buffer.alloc(bytes, `{"id":${seed},"name":"user-${seed * 7919}","tags":["a","b"]},`);
  for (let at = 0; at < bytes; at += PAGE)
    randomBytes(Math.min(PAGE / 2, bytes - at)).copy(text, at);
  return text;
}

/** Pages that can be written one by one. */
let total = 0;

async function fill(to: Connection, mib: number): Promise<void> {
  const redis = kind === "redis";
  const count = Math.floor((mib * 2 ** 20) / (redis ? VALUE_PAGES * PAGE : PAGE));
  total = redis ? count * VALUE_PAGES : count;
  const step = redis ? 8 : BATCH;
  for (let first = 0; first < count; first += step) {
    const requests: Buffer[] = [];
    for (let i = first; i < Math.min(count, first + step); i += 1) {
      const value = content(redis ? VALUE_PAGES * PAGE : ITEM_BYTES, i);
      const head = `set key:${i} 0 0 ${value.length}\r\n`;
      const item = () => Buffer.concat([Buffer.from(head), value, Buffer.from("\r\n")]);
      requests.push(redis ? command("SET", `key:${i}`, value) : item());
    }
    await ask(to, requests);
  }
}

/** Other pages each round, all over the memory: a prime step never meets a page twice. */
async function dirty(all: Connection[], pages: number, round: number): Promise<void> {
  const shares: Buffer[][] = all.map(() => []);
  for (let i = 0; i < Math.min(pages, total); i += 1) {
    const page = (round * 1_000_003 + i * 15_485_863) % total;
    const key = `key:${kind === "redis" ? Math.floor(page / VALUE_PAGES) : page}`;
    const at = (page % VALUE_PAGES) * PAGE + 64;
    shares[i % all.length]?.push(
      kind === "redis"
        ? command("SETRANGE", key, String(at), String(round).padStart(8, "0"))
        : Buffer.from(`touch ${key} ${100_000 + round}\r\n`),
    );
  }
  await Promise.all(all.map((connection, i) => ask(connection, shares[i] ?? [])));
}

async function main(): Promise<void> {
  const all: Connection[] = [];
  for (let i = 0; i < Number(connections); i += 1) all.push(await connect());
  const first = all[0] ?? fail("no connection");
  process.stdout.write("ok\n");
  for await (const line of createInterface({ input: process.stdin })) {
    const [verb, number = "0", round = "0"] = line.split(" ");
    if (verb === "fill") await fill(first, Number(number));
    if (verb === "dirty") await dirty(all, Number(number), Number(round));
    process.stdout.write("ok\n");
  }
  process.exit(0);
}

main().catch((error: unknown) => fail(error instanceof Error ? error.message : String(error)));
