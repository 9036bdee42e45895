/** The real engine without an agent and a gate: what the tests of dumping and restoring start, each with little of its own. */
import { mkdtemp } from "node:fs/promises";
import { join, resolve } from "node:path";
import { Checkpointer, type CheckpointerOptions } from "../checkpointer.js";
import { type RestoreOptions, restore } from "../restorer.js";
import type { Sandbox } from "../sandbox.js";

export const nativeDir = resolve("build");
export const toolkit = process.env.FTCTL_TOOLKIT ?? join(nativeDir, "toolkit");
export const hook = join(nativeDir, "lib/libfthook.so");
export const pair = "000000000000";

/** @param folder  has a file `roots` */
export async function startDumper(
  of: Sandbox,
  folder: string,
  more: Pick<CheckpointerOptions, "subject" | "freezeMsMax"> & Partial<CheckpointerOptions>,
): Promise<Checkpointer> {
  return Checkpointer.start({
    program: join(nativeDir, "bin/ftdump"),
    pair,
    initPid: of.initPid,
    toolkit,
    hook,
    work: await mkdtemp(join(folder, "work-")),
    gate: "none",
    roots: join(folder, "roots"),
    kdat: join(folder, "kdat"),
    ...more,
  });
}

export function restoreInto(
  into: Sandbox,
  images: string,
  folder: string,
  more: Pick<RestoreOptions, "subject" | "timeoutMs"> & Partial<RestoreOptions>,
): ReturnType<typeof restore> {
  return restore({
    program: join(nativeDir, "bin/ftrestore"),
    initPid: into.initPid,
    toolkit,
    hook,
    images,
    log: join(folder, "restore.log"),
    kdat: join(folder, "kdat"),
    ...more,
  });
}
