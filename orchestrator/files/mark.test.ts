import { execFileSync } from "node:child_process";
import * as fs from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { type FileRoot, isMarked, markFiles, resetFiles } from "./mark.js";

const limits = { entriesMax: 100, keptBytesMax: 10_000, keptFileBytesMax: 1_000 };

let base: string;
let mark: string;
beforeEach(async () => {
  base = await mkdtemp(join(fs.existsSync("/dev/shm") ? "/dev/shm" : tmpdir(), "mark-"));
  mark = join(base, "mark");
});
afterEach(() => rm(base, { recursive: true, force: true }));

/** What a person would see of it: names, contents, owners and modes. */
function state(folder: string): string[] {
  return fs
    .readdirSync(folder, { recursive: true, encoding: "utf8" })
    .sort()
    .map((name) => {
      const path = join(folder, name);
      const stat = fs.lstatSync(path);
      const content = stat.isFile()
        ? fs.readFileSync(path, "utf8")
        : stat.isSymbolicLink()
          ? fs.readlinkSync(path)
          : "";
      return `${name} ${stat.mode.toString(8)} ${stat.uid} ${content}`;
    });
}

describe("files of a volume", () => {
  let seen: string;
  let roots: FileRoot[];
  const at = (name: string) => join(seen, name);
  beforeEach(() => {
    seen = join(base, "volume");
    roots = [{ seen, through: seen, lower: [] }];
    fs.mkdirSync(join(seen, "aof"), { recursive: true });
    fs.writeFileSync(at("aof/small"), "one\n", { mode: 0o640 });
    fs.writeFileSync(at("aof/large"), "x".repeat(5_000));
    fs.symlinkSync("small", at("aof/link"));
  });

  it("are as they were, whatever a replay appended, replaced, removed and made", () => {
    const before = state(seen);
    markFiles(roots, mark, limits);
    fs.appendFileSync(at("aof/large"), "once more");
    fs.appendFileSync(at("aof/small"), "two\n");
    fs.writeFileSync(at("aof/temp"), "new");
    fs.renameSync(at("aof/temp"), at("aof/small"));
    fs.chmodSync(at("aof/large"), 0o600);
    fs.unlinkSync(at("aof/link"));
    fs.mkdirSync(at("made/deep"), { recursive: true });
    fs.writeFileSync(at("made/deep/file"), "new");
    expect(resetFiles(roots, mark, limits)).toEqual([]);
    expect(state(seen)).toEqual(before);
    // And again: the next replay may fail too.
    fs.rmSync(at("aof/small"));
    fs.appendFileSync(at("aof/large"), "twice");
    expect(resetFiles(roots, mark, limits)).toEqual([]);
    expect(state(seen)).toEqual(before);
  });

  it("that are gone for good are named: a large one that was removed, replaced or cut", () => {
    for (const change of [
      () => fs.unlinkSync(at("aof/large")),
      () => fs.truncateSync(at("aof/large"), 10),
      () => {
        fs.writeFileSync(at("aof/other"), "y".repeat(6_000));
        fs.renameSync(at("aof/other"), at("aof/large"));
      },
    ]) {
      fs.rmSync(at("aof/large"), { force: true });
      fs.writeFileSync(at("aof/large"), "x".repeat(5_000));
      markFiles(roots, mark, limits);
      change();
      expect(resetFiles(roots, mark, limits)).toEqual(["aof/large"]);
    }
  });

  it("that are too many are not noted, and nobody goes on from them", () => {
    markFiles(roots, mark, { ...limits, entriesMax: 2 });
    expect(resetFiles(roots, mark, limits)).toHaveLength(1);
  });

  it("that the bound leaves no room for are only cut", () => {
    markFiles(roots, mark, { ...limits, keptBytesMax: 3 });
    fs.appendFileSync(at("aof/small"), "two\n");
    expect(resetFiles(roots, mark, limits)).toEqual([]);
    expect(fs.readFileSync(at("aof/small"), "utf8")).toBe("one\n");
    fs.unlinkSync(at("aof/small"));
    expect(resetFiles(roots, mark, limits)).toEqual(["aof/small"]);
  });

  it("are not followed through links", () => {
    const outside = join(base, "outside");
    fs.writeFileSync(outside, "o".repeat(5_000));
    markFiles(roots, mark, limits);
    fs.unlinkSync(at("aof/small"));
    fs.symlinkSync(outside, at("aof/small"));
    fs.symlinkSync(base, at("out"));
    expect(resetFiles(roots, mark, limits)).toEqual([]);
    expect(fs.readFileSync(outside, "utf8")).toHaveLength(5_000);
    expect(fs.readFileSync(at("aof/small"), "utf8")).toBe("one\n");
    expect(fs.existsSync(at("out"))).toBe(false);
  });

  it("are marked whole or not at all", () => {
    expect(isMarked(mark)).toBe(false);
    fs.mkdirSync(mark);
    fs.writeFileSync(join(mark, "mark.json.new"), "{");
    expect(isMarked(mark)).toBe(false);
    markFiles(roots, mark, limits);
    expect(isMarked(mark)).toBe(true);
  });
});

describe.runIf(process.getuid?.() === 0)("files of an overlay", () => {
  let merged: string;
  let roots: FileRoot[];
  beforeEach(() => {
    const folders = ["lower", "upper", "work", "merged"].map((name) => join(base, name));
    for (const folder of folders) fs.mkdirSync(folder);
    const [lower = "", upper = "", work = "", mount = ""] = folders;
    merged = mount;
    fs.writeFileSync(join(lower, "conf"), "of the image\n", { mode: 0o644 });
    fs.writeFileSync(join(lower, "other"), "of the image\n");
    const option = `lowerdir=${lower},upperdir=${upper},workdir=${work}`;
    execFileSync("mount", ["-t", "overlay", "overlay", "-o", option, merged]);
    roots = [{ seen: upper, through: merged, lower: [lower] }];
    fs.writeFileSync(join(merged, "data"), "one\n");
  });
  afterEach(() => execFileSync("umount", [merged]));

  it("are as they were; the image's own, copied up meanwhile, are the image's again", () => {
    const before = state(merged);
    markFiles(roots, mark, limits);
    fs.appendFileSync(join(merged, "data"), "two\n");
    fs.appendFileSync(join(merged, "conf"), "and more\n");
    fs.writeFileSync(join(merged, "new"), "new");
    expect(resetFiles(roots, mark, limits)).toEqual([]);
    expect(state(merged)).toEqual(before);
  });

  it("that the image had and a replay removed are named", () => {
    markFiles(roots, mark, limits);
    fs.unlinkSync(join(merged, "other"));
    expect(resetFiles(roots, mark, limits)).toEqual(["other"]);
  });
});
