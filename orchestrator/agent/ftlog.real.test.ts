/** What is wrong with an event log, by name. Needs the native build. */
import { existsSync } from "node:fs";
import { mkdtemp, open, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { afterAll, beforeEach, describe, expect, it } from "vitest";
import type { FtError } from "../errors/error.js";
import { ftlogOf } from "./ftlog.js";

const native = resolve("build");
const library = join(native, "lib/libftrec.so");
const usable = existsSync(join(native, "bin/ftlog")) && existsSync(library);
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

  it("that is not there is no such case", async () => {
    expect(await failure("check", join(folder, "nothing"))).toMatchObject({ code: "LOG_FAILED" });
  });
});
