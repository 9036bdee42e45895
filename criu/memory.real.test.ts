/**
 * Memory through epochs: a program that maps, unmaps, moves, drops, forks and writes at random (native/pages/test/churn.c), and
 * checks every page of its own, is dumped at random, restored from the standby's store, dumped again there and restored
 * again; one dump of each life fails, and each life packs its pages in its own way. Every other life reads all memory at each freeze and compares it with what the tracking says.
 *
 *   FTCTL_MEMORY_RUNS=200 FTCTL_MEMORY_SEED=1 npx vitest run criu/memory.real
 */
import { existsSync } from "node:fs";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import type { Checkpointer, Compression, DumpResult } from "./checkpointer.js";
import { openComposer } from "./composer.js";
import { openSandbox, type Sandbox } from "./sandbox.js";
import { nativeDir, pair, restoreInto, startDumper, toolkit } from "./testing/engine.js";

const churn = join(nativeDir, "test/churn");
const usable = process.getuid?.() === 0 && existsSync(join(toolkit, "criu")) && existsSync(churn);
const runs = Number(process.env.FTCTL_MEMORY_RUNS ?? 3);
const firstSeed = Number(process.env.FTCTL_MEMORY_SEED ?? Math.floor(Math.random() * 1e9));
const LIVES = 4;
/** Rounds between two looks at all memory: what is missing is to stay so for a while. */
const LOOK = 24;

/** Numbers below a bound, the same for the same seed. */
function randomFrom(seed: number): (below: number) => number {
  let state = (seed * 2_654_435_761 + 1) % 4_294_967_296;
  return (below) => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return Math.floor((state / 4_294_967_296) * below);
  };
}

describe.runIf(usable)("memory through epochs", () => {
  let folder: string;
  let opened: { close(): Promise<void> }[];

  beforeEach(async () => {
    folder = await mkdtemp(process.env.FTCTL_MEMORY_FOLDER ?? "/dev/shm/k-memory-");
    await writeFile(join(folder, "roots"), "");
    opened = [];
  });
  afterEach(async () => {
    for (const thing of opened.reverse()) await thing.close();
    await rm(folder, { recursive: true, force: true });
  });

  async function enter(seed: string): Promise<Sandbox> {
    const sandbox = await openSandbox({
      nativeDir,
      program: churn,
      probeArguments: [seed],
      waitMsMax: 20_000,
    });
    opened.push(sandbox);
    return sandbox;
  }

  async function dumper(
    of: Sandbox,
    compression: Compression,
    environment: NodeJS.ProcessEnv,
  ): Promise<Checkpointer> {
    const made = await startDumper(of, folder, {
      freezeMsMax: 5_000,
      tracking: "auto",
      compression,
      subject: "churn",
      environment: { ...process.env, ...environment },
    });
    opened.push({ close: () => made.stop() });
    return made;
  }

  /** No dump before all memory is there: it is asked for again, as the agent does. */
  async function whenFilled(dump: () => Promise<DumpResult>): Promise<DumpResult | Error> {
    for (let attempt = 1; ; attempt += 1) {
      const result = await dump().catch((error: Error) => error);
      const filling = result instanceof Error && result.message.includes("is not there yet");
      if (!filling || attempt === 4) return result;
    }
  }

  /** Some epochs of one life; the images of the last. */
  async function live(
    of: Sandbox,
    generation: number,
    seed: number,
    random: (n: number) => number,
  ) {
    const verify = (seed + generation) % 2 === 0;
    // In the middle one dump fails, after the marks of what was written have been taken away or before.
    const fault = ["dump.frozen", "dump.thawed", "dump.pack"][random(3)];
    const compression = (["none", "lz4", "zstd"] as const)[(seed + generation) % 3] ?? "none";
    const checkpoints = await dumper(of, compression, {
      FTCTL_FAULT: `${fault}:error:${1 + random(3)}`,
      ...(verify ? { FTDUMP_VERIFY_PAGES: "1" } : {}),
    });
    const into = join(folder, `life-${generation}`);
    await mkdir(into);
    const roots = join(folder, "roots");
    const composer = await openComposer({ nativeDir, pair, folder: into, roots, subject: "churn" });
    opened.push(composer);
    const path = join(into, "blob");
    let base = 0;
    for (let epoch = 1; epoch <= 4 + random(6); epoch += 1) {
      await new Promise((done) => setTimeout(done, random(120)));
      if (random(8) === 0) base = 0; // as after an epoch that failed
      const result = await whenFilled(() => checkpoints.dump({ epoch, base, generation, path }));
      if (result instanceof Error && result.message.includes("injected")) continue; // the same base again
      if (result instanceof Error) throw new Error(`${result.message}; it said ${of.said()}`);
      expect(result.tracking).toBe("wp-async");
      await composer.commit(epoch, path);
      base = epoch;
    }
    await checkpoints.stop();
    // In every other life the program runs before its memory is there.
    return composer.images(generation % 2 === 0 ? undefined : 0);
  }

  it.each(Array.from({ length: runs }, (_, run) => firstSeed + run))(
    "restores every page as it was, seed %i",
    { timeout: 60_000 },
    async (seed) => {
      const random = randomFrom(seed);
      const argument = seed % 2 === 0 ? `${seed}/${LOOK}` : `${seed}`;
      let current = await enter(argument);
      await current.start();
      await current.countsBeyond(20);
      for (let generation = 1; generation <= LIVES; generation += 1) {
        const images = await live(current, generation, seed, random);
        await current.close();
        const next = await enter(argument);
        await restoreInto(next, images, folder, {
          log: join(folder, `restore-${generation}.log`),
          subject: "churn",
          timeoutMs: 20_000,
          // Where memory comes later, it comes slowly: the program has changed much of it by then.
          environment: { ...process.env, FTFEED_PACE_MS: String(1 + random(8)) },
        });
        // It checks all of its memory in each round, or now and then.
        await next.countsBeyond(0); // it goes on with its own numbers
        await next.countsBeyond(next.counted() + (seed % 2 === 0 ? 2 * LOOK : 5));
        current = next;
      }
    },
  );
});
