/**
 * Memory that comes after the restore (native/feed), and what happens when it does not: the application never runs on with zeros
 * or with a wrong page in place of its data.
 */
import { existsSync } from "node:fs";
import { mkdtemp, open, readFile, readlink, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { execa } from "execa";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { openComposer } from "./composer.js";
import { memoryIsThere, type RestoreResult } from "./restorer.js";
import { openSandbox, type Sandbox } from "./sandbox.js";
import { nativeDir, pair, restoreInto, startDumper, toolkit } from "./testing/engine.js";

const churn = join(nativeDir, "test/churn");
const usable = process.getuid?.() === 0 && existsSync(join(toolkit, "criu")) && existsSync(churn);
const ROUNDS = 100_000; // it looks at one area at a time, so that the rest stays missing

describe.runIf(usable)("memory that comes later", () => {
  let folder: string;
  let opened: { close(): Promise<void> }[];

  beforeEach(async () => {
    folder = await mkdtemp("/dev/shm/k-feeder-");
    await writeFile(join(folder, "roots"), "");
    opened = [];
  });
  afterEach(async () => {
    for (const thing of opened.reverse()) await thing.close();
    await rm(folder, { recursive: true, force: true });
  });

  async function enter(): Promise<Sandbox> {
    const sandbox = await openSandbox({
      nativeDir,
      program: churn,
      probeArguments: [`7/${ROUNDS}`],
    });
    opened.push(sandbox);
    return sandbox;
  }

  /** Images of a running program, its memory left out. */
  async function checkpoint(): Promise<string> {
    const source = await enter();
    await source.start();
    await source.countsBeyond(60);
    const roots = join(folder, "roots");
    const checkpoints = await startDumper(source, folder, {
      freezeMsMax: 5_000,
      tracking: "auto",
      subject: "churn",
    });
    opened.push({ close: () => checkpoints.stop() });
    const composer = await openComposer({ nativeDir, pair, folder, roots, subject: "churn" });
    opened.push(composer);
    const path = join(folder, "blob");
    await checkpoints.dump({ epoch: 1, base: 0, generation: 1, path });
    await composer.commit(1, path);
    await checkpoints.stop();
    const images = await composer.images(0);
    await source.close();
    return images;
  }

  /** The fill would take minutes. */
  async function bringBack(
    images: string,
    paceMs: number,
    environment: NodeJS.ProcessEnv = {},
  ): Promise<[Sandbox, RestoreResult]> {
    const sandbox = await enter();
    const result = await restoreInto(sandbox, images, folder, {
      subject: "churn",
      timeoutMs: 20_000,
      environment: { ...process.env, FTFEED_PACE_MS: String(paceMs), ...environment },
    });
    return [sandbox, result];
  }

  const state = () => readFile(join(folder, "feed"), "utf8");

  async function isRunning(sandbox: Sandbox): Promise<boolean> {
    const { stdout } = await execa(
      join(nativeDir, "bin/ftinit"),
      ["--ask", String(sandbox.initPid), "status"],
      { reject: false },
    );
    return stdout.includes("state=running");
  }

  const ends = (sandbox: Sandbox) =>
    vi.waitFor(async () => expect(await isRunning(sandbox)).toBe(false), 5_000);

  it("says when all is there, and leaves nothing behind", { timeout: 30_000 }, async () => {
    const [sandbox, { lazyBytes }] = await bringBack(await checkpoint(), 1);
    expect(lazyBytes).toBeGreaterThan(0);
    expect(await state()).toMatch(/^event filling /);
    expect(await memoryIsThere(nativeDir, sandbox.initPid, 1)).toBe(false);
    expect(await memoryIsThere(nativeDir, sandbox.initPid, 20_000)).toBe(true);
    expect(await state()).toMatch(/^ok pages=\d+ copied=\d+/);
    await sandbox.countsBeyond(sandbox.counted() + 5);
    // The pages are given back; what is left is not mistaken for whole images.
    const leftover = join(folder, "composed-1");
    expect(existsSync(join(leftover, "lazy.list"))).toBe(true);
    const names = (await execa("ls", [leftover])).stdout;
    expect(names).not.toMatch(/lazy-\d+\.pages/);
  });

  it("ends the application when its feeder is killed", { timeout: 30_000 }, async () => {
    const [sandbox, { feederPid }] = await bringBack(await checkpoint(), 500);
    await sandbox.countsBeyond(sandbox.counted() + 3);
    process.kill(feederPid, "SIGKILL");
    await ends(sandbox);
    expect(await state()).toMatch(/^fail code=feeder-died /);
  });

  it("ends the application when its feeder hangs", { timeout: 30_000 }, async () => {
    const [sandbox, { feederPid }] = await bringBack(await checkpoint(), 500, {
      FTFEED_HANG_LOOKS: "600", // three seconds
    });
    await sandbox.countsBeyond(sandbox.counted() + 3);
    expect(await isRunning(sandbox)).toBe(true);
    process.kill(feederPid, "SIGSTOP");
    await vi.waitFor(async () => expect(await state()).toMatch(/^fail code=feeder-hung /), 10_000);
    await ends(sandbox);
  });

  it("ends the application when the guard is killed", { timeout: 30_000 }, async () => {
    const [sandbox, { feederPid }] = await bringBack(await checkpoint(), 500);
    const status = await readFile(`/proc/${feederPid}/status`, "utf8");
    const guard = Number(/^PPid:\t(\d+)$/m.exec(status)?.[1]);
    expect(await readlink(`/proc/${guard}/exe`)).toBe(join(nativeDir, "bin/ftfeed"));
    process.kill(guard, "SIGKILL");
    await ends(sandbox);
    expect(await state()).toMatch(/^fail code=unguarded /);
  });

  it("ends the application before it can see a wrong page", { timeout: 30_000 }, async () => {
    const images = await checkpoint();
    await flipOneByte(images);
    const outcome = await bringBack(images, 1).catch((error: Error) => error);
    // The page may be asked for, or be given, before or after CRIU is done.
    if (!(outcome instanceof Error)) await ends(outcome[0]);
    await vi.waitFor(async () => expect(await state()).toMatch(/^fail code=corrupt /), 10_000);
  });

  it("does not restore without the pages that were left out", { timeout: 30_000 }, async () => {
    const images = await checkpoint();
    const { set } = await firstSet(images);
    await rm(join(images, `lazy-${set}.pages`));
    await expect(bringBack(images, 0)).rejects.toThrow(/lazy-\d+\.pages cannot be opened/);
  });
});

/** The first process in the list, and where its first run begins (native/pages/lazy.h). */
async function firstSet(images: string): Promise<{ set: bigint; from: bigint }> {
  const list = await readFile(join(images, "lazy.list"));
  return { set: list.readBigUInt64LE(32), from: list.readBigUInt64LE(48) };
}

async function flipOneByte(images: string): Promise<void> {
  const { set, from } = await firstSet(images);
  const file = await open(join(images, `lazy-${set}.pages`), "r+");
  const byte = Buffer.alloc(1);
  await file.read(byte, 0, 1, Number(from));
  byte[0] = (byte[0] ?? 0) ^ 0x10;
  await file.write(byte, 0, 1, Number(from));
  await file.close();
}
