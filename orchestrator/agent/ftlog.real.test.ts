/** What is wrong with an event log, by name. Needs the native build. */
import { existsSync } from "node:fs";
import { mkdtemp, open, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { execa } from "execa";
import { afterAll, beforeEach, describe, expect, it } from "vitest";
import { WaitingProgram } from "../../criu/waiting-program.js";
import type { FtError } from "../errors/error.js";
import { ftlogOf } from "./ftlog.js";

const native = resolve("build");
const library = join(native, "lib/libftrec.so");
const usable = existsSync(join(native, "bin/ftlog")) && existsSync(library);
/** Of the header, native/log/format.h. */
const [MODE_AT, BUILD_AT] = [64, 176];
const folder = await mkdtemp(join(tmpdir(), "ftlog-"));
afterAll(() => rm(folder, { recursive: true }));

describe.skipIf(!usable)("an event log", () => {
  const log = join(folder, "log");
  const ftlog = ftlogOf(native);
  beforeEach(() => ftlog("create", log, 4, 4));

  async function spoil(at: number, byte: number): Promise<void> {
    const file = await open(log, "r+");
    await file.write(Buffer.from([byte]), 0, 1, at);
    await file.close();
  }
  /** As if this library had recorded it. */
  async function spoilBuild(): Promise<void> {
    const { stdout } = await execa(join(native, "bin/ftlog"), ["build", library]);
    const file = await open(log, "r+");
    await file.write(Buffer.from(stdout.trim(), "hex"), 0, 16, BUILD_AT);
    await file.close();
  }
  const failure = (...args: string[]) =>
    ftlog(...args).then(
      () => undefined,
      (error: FtError) => error,
    );

  it("of another version is refused by every verb", async () => {
    await spoil(8, 1);
    for (const args of [["check"], ["trim"], ["mode", "replay"], ["stats"]]) {
      const [verb = "", ...more] = args;
      const error = await failure(verb, log, ...more);
      expect(error).toMatchObject({ code: "LOG_VERSION" });
      expect(error?.message).toContain("another version");
      expect(error?.hint).toContain("same build");
    }
  });

  it("with a damaged header is refused", async () => {
    await spoil(16, 99);
    expect(await failure("mode", log, "replay")).toMatchObject({ code: "LOG_DAMAGED" });
    await spoil(0, 0);
    expect(await failure("check", log)).toMatchObject({ code: "LOG_DAMAGED" });
  });

  it("with a lane that names no segment is damaged, and the lane is said", async () => {
    await spoil(2 * 4096 + 1, 16);
    const error = await failure("check", log);
    expect(error).toMatchObject({ code: "LOG_DAMAGED" });
    expect(error?.message).toContain("lane 0: torn");
  });

  it("of another build of the recorder is refused", async () => {
    const error = await failure("check", log, library);
    expect(error).toMatchObject({ code: "RECORDER_DIFFERS" });
    expect(error?.hint).toContain("same build");
  });

  it("is armed ahead only for the build that recorded it, and at the word", async () => {
    const armer = (of: string) =>
      new WaitingProgram(join(native, "bin/ftlog"), ["arm", log, of], { errors: "kept" });
    const other = armer(library);
    other.tell("go");
    expect(await other.next(5_000)).toBeUndefined();
    expect(await other.outcome()).toMatchObject({ code: 6 });
    // Whoever is not told anything changes nothing.
    const unused = armer(library);
    unused.end();
    await unused.outcome();
    expect((await readFile(log)).readUInt32LE(MODE_AT)).toBe(1);
    await spoilBuild();
    const ahead = armer(library);
    // More, and damaged, after it was looked at.
    await new Promise((resolve) => setTimeout(resolve, 200));
    await spoil(2 * 4096 + 1, 16);
    ahead.tell("go");
    expect(await ahead.next(5_000)).toContain("lane 0: torn");
    expect(await ahead.outcome()).toMatchObject({ code: 3 });
    await spoil(2 * 4096 + 1, 0);
    const right = armer(library);
    right.tell("go paced");
    expect(await right.next(5_000)).toBe("armed");
    expect((await readFile(log)).readUInt32LE(MODE_AT)).toBe(2);
  });

  it("that is not there is no such case", async () => {
    expect(await failure("check", join(folder, "nothing"))).toMatchObject({ code: "LOG_FAILED" });
  });
});
