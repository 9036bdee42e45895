/**
 * What a replay does to the container's files is real: it appends to logs, renames, removes. Before the next replay from the same
 * checkpoint they must be as the checkpoint has them, or what the first one appended stands there twice.
 *
 * markFiles() notes all writable files before the first replay: names, lengths, owners, and the contents of small ones.
 * resetFiles() makes them so again: what is new is removed, what has grown is cut, what is small is written back. What can not be
 * had back (a large file that was removed, or is shorter) is named, and nobody may go on from it. A large file that was overwritten
 * in place keeps what the first replay wrote: the next one writes the same at the same places.
 *
 * Invariants:
 *   F1  A mark is there whole or not at all: `mark.json` comes last, by a rename.
 *   F2  Nothing is written but below a root, on names whose folders are folders: no link is followed. Nothing else runs in the
 *       container meanwhile.
 *   F3  Bounded: entriesMax names and keptBytesMax bytes; beyond that it is the reset that fails, by name.
 */
import {
  closeSync,
  constants,
  copyFileSync,
  existsSync,
  fchmodSync,
  fchownSync,
  ftruncateSync,
  lchownSync,
  lstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  renameSync,
  rmdirSync,
  rmSync,
  symlinkSync,
  unlinkSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { join } from "node:path";

export interface FileRoot {
  /** Where it is looked at: an overlay's upper folder, a volume. */
  seen: string;
  /** Where it is changed: as the container sees it. */
  through: string;
  /** Of an overlay: the image's layers, topmost first. What is in them cannot be new. */
  lower: string[];
}

export interface MarkLimits {
  entriesMax: number;
  keptBytesMax: number;
  /** Of one file. */
  keptFileBytesMax: number;
}

type Kind = "file" | "folder" | "link" | "other";

interface Entry {
  root: number;
  path: string;
  kind: Kind;
  ino: string;
  bytes: number;
  changedNs: string;
  mode: number;
  uid: number;
  gid: number;
  /** Of a link. */
  target?: string;
  /** Its contents are in the file of this number. */
  kept?: number;
}

interface Mark {
  /** False: there were more names than are noted. */
  complete: boolean;
  entries: Entry[];
}

const MARK = "mark.json";

export const isMarked = (folder: string) => existsSync(join(folder, MARK));

/** @param folder  made anew; on a tmpfs, so that nothing waits for a disk */
export function markFiles(roots: FileRoot[], folder: string, limits: MarkLimits): void {
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  const mark = walk(roots, limits.entriesMax);
  let room = limits.keptBytesMax;
  mark.entries.forEach((entry, number) => {
    if (entry.kind !== "file" || entry.bytes > Math.min(room, limits.keptFileBytesMax)) return;
    copyFileSync(join(roots[entry.root]!.seen, entry.path), join(folder, String(number)));
    entry.kept = number;
    room -= entry.bytes;
  });
  writeFileSync(join(folder, `${MARK}.new`), JSON.stringify(mark), { mode: 0o600 });
  renameSync(join(folder, `${MARK}.new`), join(folder, MARK));
}

/** @returns the names that could not be had back; none: all is as it was marked */
export function resetFiles(roots: FileRoot[], folder: string, limits: MarkLimits): string[] {
  const mark = JSON.parse(readFileSync(join(folder, MARK), "utf8")) as Mark;
  if (!mark.complete) return [`more than ${limits.entriesMax} files`];
  const now = walk(roots, 2 * limits.entriesMax);
  if (!now.complete) return [`more than ${2 * limits.entriesMax} files`];
  const was = byName(mark.entries);
  const lost = removeNew(roots, was, now.entries);
  const there = byName(now.entries.filter((entry) => isSame(was.get(nameOf(entry)), entry)));
  for (const entry of mark.entries) {
    const found = there.get(nameOf(entry));
    if (!giveBack(roots[entry.root]!, entry, found, folder)) lost.push(entry.path);
  }
  return lost;
}

const nameOf = (entry: Entry) => `${entry.root} ${entry.path}`;
const byName = (entries: Entry[]) => new Map(entries.map((entry) => [nameOf(entry), entry]));
const isSame = (was: Entry | undefined, now: Entry) =>
  was !== undefined && was.kind === now.kind && was.target === now.target;

/** Parents before what is in them. */
function walk(roots: FileRoot[], entriesMax: number): Mark {
  const entries: Entry[] = [];
  for (const [root, { seen }] of roots.entries()) {
    const folders = [""];
    for (let folder = folders.shift(); folder !== undefined; folder = folders.shift()) {
      for (const name of readdirSync(join(seen, folder))) {
        if (entries.length === entriesMax) return { complete: false, entries };
        const entry = look(root, seen, join(folder, name));
        if (entry.kind === "folder") folders.push(entry.path);
        entries.push(entry);
      }
    }
  }
  return { complete: true, entries };
}

function look(root: number, seen: string, path: string): Entry {
  const stat = lstatSync(join(seen, path), { bigint: true });
  const kind = stat.isFile()
    ? "file"
    : stat.isDirectory()
      ? "folder"
      : stat.isSymbolicLink()
        ? "link"
        : "other";
  return {
    ...{ root, path, kind },
    ...{ ino: String(stat.ino), bytes: Number(stat.size), changedNs: String(stat.ctimeNs) },
    ...{ mode: Number(stat.mode) & 0o7777, uid: Number(stat.uid), gid: Number(stat.gid) },
    ...(kind === "link" ? { target: readlinkSync(join(seen, path)) } : {}),
  };
}

/** What the mark does not have, or has as something else. Returns what must stay all the same. */
function removeNew(roots: FileRoot[], was: Map<string, Entry>, now: Entry[]): string[] {
  const lost: string[] = [];
  for (const entry of now.toReversed()) {
    if (isSame(was.get(nameOf(entry)), entry)) continue;
    const root = roots[entry.root]!;
    const below = root.lower.find((layer) => isThere(join(layer, entry.path)));
    if (below !== undefined) {
      // The image's own: a folder that lies over another is none the worse; a file can be had back, one that was removed cannot.
      if (entry.kind === "folder") continue;
      if (
        entry.kind === "file" &&
        copyBack(join(below, entry.path), join(root.through, entry.path))
      )
        continue;
      lost.push(entry.path);
    } else if (entry.kind === "folder") {
      rmdirSync(join(root.through, entry.path));
    } else {
      unlinkSync(join(root.through, entry.path));
    }
  }
  return lost;
}

function isThere(path: string): boolean {
  return lstatSync(path, { throwIfNoEntry: false }) !== undefined;
}

function copyBack(from: string, to: string): boolean {
  const stat = lstatSync(from);
  if (!stat.isFile()) return false;
  write(to, readFileSync(from), { mode: stat.mode & 0o7777, uid: stat.uid, gid: stat.gid });
  return true;
}

function giveBack(root: FileRoot, was: Entry, now: Entry | undefined, folder: string): boolean {
  const path = join(root.through, was.path);
  if (now?.ino === was.ino && now.changedNs === was.changedNs) return true;
  if (was.kind === "file") return giveFileBack(path, was, now, folder);
  if (now !== undefined) return true;
  if (was.kind === "other") return false;
  if (was.kind === "folder") {
    mkdirSync(path);
    const fd = openSync(path, constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW);
    own(fd, was);
    closeSync(fd);
  } else {
    symlinkSync(was.target ?? "", path);
    lchownSync(path, was.uid, was.gid);
  }
  return true;
}

function giveFileBack(path: string, was: Entry, now: Entry | undefined, folder: string): boolean {
  const same = now?.ino === was.ino;
  if (was.kept !== undefined) {
    if (now !== undefined && !same) unlinkSync(path);
    write(path, readFileSync(join(folder, String(was.kept))), was);
    return true;
  }
  if (!same || now.bytes < was.bytes) return false;
  const fd = openSync(path, constants.O_WRONLY | constants.O_NOFOLLOW);
  ftruncateSync(fd, was.bytes);
  own(fd, was);
  closeSync(fd);
  return true;
}

type Owned = Pick<Entry, "mode" | "uid" | "gid">;

function write(path: string, bytes: Buffer, owned: Owned): void {
  const fd = openSync(path, constants.O_WRONLY | constants.O_CREAT | constants.O_NOFOLLOW, 0o600);
  for (let at = 0; at < bytes.length; ) at += writeSync(fd, bytes, at, bytes.length - at, at);
  ftruncateSync(fd, bytes.length);
  own(fd, owned);
  closeSync(fd);
}

function own(fd: number, { mode, uid, gid }: Owned): void {
  fchownSync(fd, uid, gid);
  fchmodSync(fd, mode);
}
