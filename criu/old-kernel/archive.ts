/** An initial file system for a kernel: a cpio archive of the kind "newc". */
import { once } from "node:events";
import type { Writable } from "node:stream";

export interface ArchiveEntry {
  /** Not absolute. */
  path: string;
  /** With the kind: 0o100755 is a program, 0o40755 a folder. */
  mode: number;
  content?: Buffer;
  device?: [number, number];
}

const FOLDER = 0o40755;
const ALIGNED = 4;
const END = "TRAILER!!!";

function padding(length: number): Buffer {
  return Buffer.alloc((ALIGNED - (length % ALIGNED)) % ALIGNED);
}

function head({ path, mode, content, device = [0, 0] }: ArchiveEntry, inode: number): Buffer {
  const name = Buffer.from(`${path}\0`);
  const numbers = [inode, mode, 0, 0, 1, 0, content?.length ?? 0, 0, 0, ...device, name.length, 0];
  const text = numbers.map((number) => number.toString(16).padStart(8, "0")).join("");
  const start = Buffer.concat([Buffer.from(`070701${text}`), name]);
  return Buffer.concat([start, padding(start.length)]);
}

/** Folders above an entry are made with it; of two with the same path the first stays. */
export async function writeArchive(
  out: Writable,
  entries: AsyncIterable<ArchiveEntry>,
): Promise<void> {
  const seen = new Set<string>();
  let inode = 0;
  const put = async (entry: ArchiveEntry): Promise<void> => {
    if (seen.has(entry.path)) return;
    seen.add(entry.path);
    inode += 1;
    const content = entry.content ?? Buffer.alloc(0);
    const more = out.write(Buffer.concat([head(entry, inode), content, padding(content.length)]));
    if (!more) await once(out, "drain");
  };
  for await (const entry of entries) {
    const parts = entry.path.split("/");
    for (let depth = 1; depth < parts.length; depth += 1) {
      await put({ path: parts.slice(0, depth).join("/"), mode: FOLDER });
    }
    await put(entry);
  }
  await put({ path: END, mode: 0 });
  out.end();
  await once(out, "finish");
}
