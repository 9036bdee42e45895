/**
 * The checkpoint engine on real processes and the real CRIU: nothing is lost through generations, and whatever fails, the
 * application runs on. Needs root, the native programs and the toolkit (build/toolkit or FTCTL_TOOLKIT).
 */
import { existsSync } from "node:fs";
import { cp, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import {
  type Checkpointer,
  type CheckpointerOptions,
  type Shortcut,
  shortcuts,
} from "./checkpointer.js";
import { openComposer } from "./composer.js";
import { probeCriu } from "./probe.js";
import { openSandbox, type Sandbox, type SandboxOptions } from "./sandbox.js";
import { nativeDir, pair, restoreInto, startDumper, toolkit } from "./testing/engine.js";

const usable =
  process.getuid?.() === 0 &&
  existsSync(join(toolkit, "criu")) &&
  existsSync(join(nativeDir, "bin/ftprobe"));
const subject = "probe";

/** Gone, or waiting for whoever is its parent now. */
async function hasEnded(pid: number): Promise<boolean> {
  const stat = await readFile(`/proc/${pid}/stat`, "utf8").catch(() => ") Z");
  return /\) [ZX]/.test(stat);
}

/** All images but those that hold a clock, in order. */
async function contentOf(images: string): Promise<Map<string, Buffer>> {
  const clocks = /^(inventory|timens-\d+|tcp-stream-.*|ftctl-meta)\.img$/;
  const names = (await readdir(images)).filter((name) => !clocks.test(name)).sort();
  return new Map(
    await Promise.all(
      names.map(async (name) => [name, await readFile(join(images, name))] as const),
    ),
  );
}

describe.runIf(usable)("the checkpoint engine on a real process", () => {
  let folder: string;
  let opened: { close(): Promise<void> }[];

  beforeEach(async () => {
    folder = await mkdtemp("/dev/shm/k-engine-");
    opened = [];
  });
  afterEach(async () => {
    for (const thing of opened.reverse()) await thing.close();
    await rm(folder, { recursive: true, force: true });
  });

  async function sandbox(options: Partial<SandboxOptions> = {}): Promise<Sandbox> {
    const made = await openSandbox({ nativeDir, ...options });
    opened.push(made);
    return made;
  }

  async function dumper(
    of: Sandbox,
    more: Partial<CheckpointerOptions> = {},
  ): Promise<Checkpointer> {
    await writeFile(join(folder, "roots"), "");
    const made = await startDumper(of, folder, { freezeMsMax: 2_000, subject, ...more });
    opened.push({ close: () => made.stop() });
    return made;
  }

  const dump = (of: Checkpointer, epoch: number, base = 0) =>
    of.dump({ epoch, base, generation: 1, path: join(folder, "blob") });

  async function composerIn() {
    const composer = await openComposer({
      nativeDir,
      pair,
      folder: await mkdtemp(join(folder, "composer-")),
      roots: join(folder, "roots"),
      subject,
    });
    opened.push(composer);
    return composer;
  }

  /** Of the last dump, which was a full one. */
  async function imagesOf(epoch = 1): Promise<string> {
    const composer = await composerIn();
    await composer.commit(epoch, join(folder, "blob"));
    return composer.images();
  }

  const bringBack = (into: Sandbox, images: string) =>
    restoreInto(into, images, folder, {
      subject,
      timeoutMs: 10_000,
    });

  async function runsOn(of: Sandbox): Promise<void> {
    await of.countsBeyond(of.counted() + 3);
  }

  it("passes preflight's probe", async () => {
    const result = await probeCriu({ toolkit, nativeDir, runDir: folder });
    expect(result.pauseMs).toBeGreaterThan(0);
  });

  it("keeps count, connection and clock through three generations on hosts with other clocks", async () => {
    const ahead = ["--time", "--monotonic", "5000", "--boottime", "5000"];
    let current = await sandbox({ unshare: ahead });
    await current.start();
    await current.countsBeyond(3);
    for (const unshare of [[], ahead, []]) {
      const checkpoints = await dumper(current);
      const result = await dump(checkpoints, 1);
      expect(result.full).toBe(true);
      expect(result.processes).toBe(1);
      const images = await imagesOf();
      await checkpoints.stop();
      const counted = current.counted();
      await current.close();
      const next = await sandbox({ unshare });
      await bringBack(next, images);
      await runsOn(next);
      // The dump is of the past: numbers come again, but none is left out, and none from the start.
      expect(next.first()).toBeGreaterThan(1);
      expect(next.first()).toBeLessThanOrEqual(counted + 1);
      current = next;
    }
  });

  it("ships a delta for a base it has, and all for one it has not", async () => {
    const original = await sandbox();
    await original.start();
    const checkpoints = await dumper(original);
    const first = await dump(checkpoints, 1);
    const second = await dump(checkpoints, 2, 1);
    const third = await dump(checkpoints, 3, 1);
    expect([first.full, second.full, third.full]).toEqual([true, false, true]);
    expect(second.bytes).toBeLessThan(first.bytes);
  });

  it("writes the same images with every shortcut as without any", async () => {
    const still = await sandbox({ probeArguments: ["still"] });
    await still.start();
    await still.countsBeyond(0);
    const dumped = async (without: Shortcut[]) => {
      const checkpoints = await dumper(still, { without });
      await dump(checkpoints, 1);
      const second = await dump(checkpoints, 2); // the first does not know how much memory to set aside
      expect(second.plain).toEqual([]);
      const composer = await composerIn();
      await composer.commit(2, join(folder, "blob"));
      await dump(checkpoints, 3, 2); // after a whole one, of another size
      await composer.commit(3, join(folder, "blob"));
      const last = await dump(checkpoints, 4, 3);
      expect(last.plain).toEqual([]);
      await composer.commit(4, join(folder, "blob"));
      await checkpoints.stop();
      return composer.images();
    };
    const plain = await contentOf(await dumped([...shortcuts]));
    expect(plain.size).toBeGreaterThan(10);
    for (const without of [[], ...shortcuts.map((one) => [one])]) {
      const images = await contentOf(await dumped(without));
      expect([...images.keys()]).toEqual([...plain.keys()]);
      const different = [...images].filter(([name, bytes]) => !bytes.equals(plain.get(name)!));
      expect(different.map(([name]) => name)).toEqual([]);
    }
  });

  describe("keeps a restless process whole, whatever of it changes while CRIU reads before the freeze", () => {
    const restless = async (probeArguments: string[]) => {
      const program = join(nativeDir, "test/fidget");
      let inVain = 0;
      let late = 0;
      let current = await sandbox({ program, probeArguments });
      await current.start();
      for (let generation = 1; generation <= 8; generation += 1) {
        await current.countsBeyond(current.counted() + 5);
        const checkpoints = await dumper(current);
        for (let epoch = 1; epoch <= 6; epoch += 1) {
          const result = await dump(checkpoints, epoch);
          inVain += result.lateInVain;
          if (!result.plain.includes("late") && result.lateInVain === 0) late += 1;
        }
        const images = await imagesOf(6);
        await checkpoints.stop();
        await current.close();
        // It looks each round whether all is as it remembers, and ends if not.
        const next = await sandbox({ program });
        await bringBack(next, images);
        await runsOn(next);
        current = next;
      }
      return { inVain, late };
    };

    it("all of it", { timeout: 60_000 }, async () => {
      const { inVain, late } = await restless(["7"]);
      expect(late).toBeGreaterThan(0);
      expect(inVain).toBeGreaterThan(0);
    });

    // Alone: beside others a change of these is rare enough to be overlooked by luck.
    it.each(["flags", "threads"])("%s", { timeout: 60_000 }, async (kind) => {
      expect((await restless(["7", kind])).inVain).toBeGreaterThan(0);
    });
  });

  it("refuses an epoch that does not go up, and goes on", async () => {
    const original = await sandbox();
    await original.start();
    const checkpoints = await dumper(original);
    await dump(checkpoints, 5);
    await expect(dump(checkpoints, 5)).rejects.toMatchObject({ code: "CHECKPOINT_FAILED" });
    await expect(dump(checkpoints, 6, 5)).resolves.toMatchObject({ full: false });
  });

  it.each(["dump.frozen", "dump.thawed", "dump.pack"])(
    "lets the application run on after a failure at %s, and the next epoch works",
    async (point) => {
      const original = await sandbox();
      await original.start();
      const environment = { ...process.env, FTCTL_FAULT: `${point}:error` };
      const checkpoints = await dumper(original, { environment });
      await expect(dump(checkpoints, 1)).rejects.toMatchObject({ code: "CHECKPOINT_FAILED" });
      await runsOn(original);
      await expect(dump(checkpoints, 2)).resolves.toMatchObject({ full: true });
      await runsOn(original);
    },
  );

  it("lets the application run on when ftdump is killed while it is frozen", async () => {
    const original = await sandbox();
    await original.start();
    const environment = { ...process.env, FTCTL_FAULT: "dump.frozen:crash" };
    const checkpoints = await dumper(original, { environment });
    await expect(dump(checkpoints, 1)).rejects.toMatchObject({ code: "CONTROL_CLOSED" });
    await runsOn(original);
    const another = await dumper(original);
    await expect(dump(another, 2)).resolves.toMatchObject({ processes: 1 });
  });

  it("lets the application run on at the freeze limit when ftdump hangs", async () => {
    const original = await sandbox();
    await original.start();
    const environment = { ...process.env, FTCTL_FAULT: "dump.frozen:hang" };
    const checkpoints = await dumper(original, { environment, freezeMsMax: 200, tellFrozen: true });
    const dumping = dump(checkpoints, 1).catch((error: unknown) => error);
    const frozen = new Promise<void>((resolved) => checkpoints.onFrozen(() => resolved()));
    await frozen;
    const counted = original.counted();
    await original.countsBeyond(counted + 3);
    await checkpoints.stop();
    expect(await dumping).toMatchObject({ code: expect.stringMatching(/^CONTROL_/) });
  });

  it("gives up on a process that cannot be stopped, in time, and the application runs on", async () => {
    const original = await sandbox({ probeArguments: ["vfork"] });
    await original.start();
    await original.countsBeyond(1);
    const checkpoints = await dumper(original, { freezeMsMax: 300 });
    const from = performance.now();
    await expect(dump(checkpoints, 1)).rejects.toMatchObject({ code: "CHECKPOINT_FAILED" });
    expect(performance.now() - from).toBeLessThan(3_000);
    await runsOn(original);
  });

  it("says that the application has ended", async () => {
    const original = await sandbox();
    await original.start();
    const checkpoints = await dumper(original);
    await original.close();
    // The parked CRIU does not hold it.
    await expect.poll(() => hasEnded(original.initPid), { timeout: 3_000 }).toBe(true);
    await expect(dump(checkpoints, 1)).rejects.toMatchObject({
      code: "CHECKPOINT_FAILED",
      message: expect.stringContaining("ended"),
    });
  });

  it("restores nothing from damaged images, and ftinit waits on", async () => {
    const original = await sandbox();
    await original.start();
    const checkpoints = await dumper(original);
    await dump(checkpoints, 1);
    const images = await imagesOf();
    const meta = join(images, "ftctl-meta.img");
    const whole = await readFile(meta);
    await writeFile(
      meta,
      whole.map((byte, at) => (at === 20 ? byte ^ 1 : byte)),
    );
    await original.close();
    const copy = await sandbox();
    await expect(bringBack(copy, images)).rejects.toMatchObject({ code: "RESTORE_FAILED" });
    await writeFile(meta, whole);
    await bringBack(copy, images);
    await runsOn(copy);
  });

  it("quotes CRIU when it cannot restore, and leaves nothing half alive", async () => {
    const original = await sandbox();
    await original.start();
    const checkpoints = await dumper(original);
    await dump(checkpoints, 1);
    const images = await imagesOf();
    await original.close();
    const whole = await cp(images, `${images}-whole`, { recursive: true }).then(
      () => `${images}-whole`,
    );
    await rm(join(images, "files.img"));
    const copy = await sandbox();
    const failure = await bringBack(copy, images).catch((error: unknown) => error);
    expect(failure).toMatchObject({ code: "RESTORE_FAILED" });
    expect((failure as { quoted: string[] }).quoted.join("\n")).toContain("Error (");
    expect(copy.counted()).toBe(0);
    await bringBack(copy, whole);
    await runsOn(copy);
    await expect(bringBack(copy, whole)).rejects.toMatchObject({ code: "RESTORE_FAILED" });
    await runsOn(copy);
  });
});
