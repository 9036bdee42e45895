/**
 * How a program reaches its kernel, read from its file: the recorder of mode hybrid stands between it and the C library,
 * so there has to be one that it can be loaded into.
 */
import { open } from "node:fs/promises";

export type Runtime = "glibc" | "glibc-old" | "musl" | "static" | "go" | "unknown";

const PT_INTERP = 3;
const SECTIONS_MAX = 512;
const HEADERS_MAX = 64;
/** Of the C library: what libftrec.so needs (native/recorder/test/symbols.sh). */
const GLIBC_MIN = 31;

/** `maps`: of a process that runs it. */
export async function runtimeOf(exe: string, maps: string): Promise<Runtime> {
  try {
    const file = await open(exe, "r");
    try {
      const read = async (at: number, bytes: number) => {
        const buffer = Buffer.alloc(bytes);
        const { bytesRead } = await file.read(buffer, 0, bytes, at);
        return buffer.subarray(0, bytesRead);
      };
      return await inspect(read, maps);
    } finally {
      await file.close();
    }
  } catch {
    // It has ended meanwhile, or is none of ours to read.
    return "unknown";
  }
}

type Reader = (at: number, bytes: number) => Promise<Buffer>;

async function inspect(read: Reader, maps: string): Promise<Runtime> {
  const header = await read(0, 64);
  if (header.length < 64 || header.toString("latin1", 0, 4) !== "\x7fELF" || header[4] !== 2)
    return "unknown";
  if (await isGo(read, header)) return "go";
  const interpreter = await interpreterOf(read, header);
  if (interpreter === undefined) return "static";
  if (/ld-musl/.test(interpreter)) return "musl";
  const old = /\/libc-2\.(\d+)\.so/.exec(maps);
  return old !== null && Number(old[1]) < GLIBC_MIN ? "glibc-old" : "glibc";
}

async function interpreterOf(read: Reader, header: Buffer): Promise<string | undefined> {
  const at = Number(header.readBigUInt64LE(32));
  const [size, count] = [header.readUInt16LE(54), header.readUInt16LE(56)];
  const table = await read(at, Math.min(count, HEADERS_MAX) * size);
  for (let i = 0; (i + 1) * size <= table.length; i += 1) {
    if (table.readUInt32LE(i * size) !== PT_INTERP) continue;
    const bytes = Math.min(Number(table.readBigUInt64LE(i * size + 32)), 256);
    const text = await read(Number(table.readBigUInt64LE(i * size + 8)), bytes);
    return text.toString("latin1").replace(/\0.*$/s, "");
  }
  return undefined;
}

/** Go makes its system calls itself, also where it is linked to a C library. */
async function isGo(read: Reader, header: Buffer): Promise<boolean> {
  const at = Number(header.readBigUInt64LE(40));
  const [size, count, names] = [58, 60, 62].map((offset) => header.readUInt16LE(offset));
  if (at === 0 || size !== 64 || count === undefined || names === undefined || names >= count)
    return false;
  const table = await read(at, Math.min(count, SECTIONS_MAX) * size);
  if (table.length < (names + 1) * size) return false;
  const field = (section: number, offset: number) =>
    Number(table.readBigUInt64LE(section * size + offset));
  const text = await read(field(names, 24), Math.min(field(names, 32), 65_536));
  for (let i = 0; (i + 1) * size <= table.length; i += 1) {
    const from = table.readUInt32LE(i * size);
    const name = text.toString("latin1", from, text.indexOf(0, from));
    if (name === ".go.buildinfo" || name === ".gopclntab" || name === ".note.go.buildid")
      return true;
  }
  return false;
}

/** Why it cannot be recorded; nothing if it can, as far as one can see. */
export function unrecordable(runtime: Runtime): string | undefined {
  switch (runtime) {
    case "static":
      return "is linked statically, so no library can be put between it and the kernel";
    case "musl":
      return "uses musl, not glibc, and the recorder is made for glibc";
    case "go":
      return "is written in Go, which makes its system calls itself";
    case "glibc-old":
      return `uses a glibc older than 2.${GLIBC_MIN}`;
    default:
      return undefined;
  }
}
