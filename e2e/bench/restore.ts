/**
 * What a takeover spends on memory, by its size: all of it before the application runs, and most of it after, by turns in one run.
 * A redis in throw-away namespaces, without Docker and gate; its data are compared each time.
 *
 *   node dist/e2e/bench/restore.js [MiB,MiB…] [turns]
 */
import { mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { execa } from "execa";
import { type Composer, openComposer } from "../../criu/composer.js";
import { memoryIsThere } from "../../criu/restorer.js";
import { openSandbox, type Sandbox } from "../../criu/sandbox.js";
import { nativeDir, pair, restoreInto, startDumper } from "../../criu/testing/engine.js";

const PORT = 7777;
const VALUE_BYTES = 100_000;
const FILL_MS_MAX = 120_000;

const inside = (of: Sandbox, ...words: string[]) =>
  execa("nsenter", ["-t", `${of.initPid}`, "-n", ...words]);
const ask = async (of: Sandbox, ...words: string[]) =>
  (await inside(of, "redis-cli", "-p", `${PORT}`, ...words)).stdout;

const sleep = (ms: number) => new Promise((done) => setTimeout(done, ms));

const enter = () =>
  openSandbox({
    nativeDir,
    program: "redis-server",
    probeArguments: ["--port", `${PORT}`, "--save", "", "--enable-debug-command", "yes"],
  });

interface Turn {
  composeMs: number;
  restoreMs: number;
  /** From the start of composing to the answer to the first question. */
  replyMs: number;
  fillMs: number;
  faults: number;
}

/** Not all zero: zero pages cost nothing. */
async function fill(of: Sandbox, mib: number): Promise<void> {
  const sets = Math.max(1, Math.floor(((mib - 3) * 1_048_576) / (VALUE_BYTES + 2_500)));
  const load = ["-t", "set", "-n", `${sets}`, "-r", "100000000", "-d", `${VALUE_BYTES}`];
  await inside(of, "redis-benchmark", "-p", `${PORT}`, "-q", "-c", "1", ...load);
}

async function checkpoint(of: Sandbox, folder: string, composer: Composer): Promise<void> {
  const checkpoints = await startDumper(of, folder, {
    freezeMsMax: 30_000,
    tracking: "full",
    subject: "redis",
  });
  const path = join(folder, "blob");
  await checkpoints.dump({ epoch: 1, base: 0, generation: 1, path });
  await composer.commit(1, path);
  await checkpoints.stop();
}

async function takeTurn(
  folder: string,
  composer: Composer,
  lazily: boolean,
  digest: string,
): Promise<Turn> {
  const sandbox = await enter();
  try {
    const startMs = performance.now();
    const images = await composer.images(lazily ? 0 : undefined);
    const composedMs = performance.now();
    const result = await restoreInto(sandbox, images, folder, {
      subject: "redis",
      timeoutMs: 60_000,
    });
    const restoredMs = performance.now();
    if ((await ask(sandbox, "PING")) !== "PONG") throw new Error("no PONG");
    const repliedMs = performance.now();
    await memoryIsThere(nativeDir, sandbox.initPid, FILL_MS_MAX);
    const state = lazily ? await readFile(join(folder, "feed"), "utf8") : "";
    if ((await ask(sandbox, "DEBUG", "DIGEST")) !== digest) throw new Error("other data");
    await rm(images, { recursive: true, force: true });
    return {
      composeMs: composedMs - startMs,
      restoreMs: result.restoreMs,
      replyMs: repliedMs - startMs,
      fillMs: lazily ? Number(/ fill_us=(\d+)/.exec(state)?.[1]) / 1_000 : restoredMs - composedMs,
      faults: Number(/ faults=(\d+)/.exec(state)?.[1] ?? 0),
    };
  } finally {
    await sandbox.close();
  }
}

const median = (numbers: number[]) =>
  [...numbers].sort((a, b) => a - b)[Math.floor(numbers.length / 2)] ?? Number.NaN;

function tell(mib: number, name: string, turns: Turn[]): void {
  const of = (field: keyof Turn) => median(turns.map((turn) => turn[field])).toFixed(0);
  console.log(
    `${mib} MiB ${name}: compose ${of("composeMs")} ms, restore ${of("restoreMs")} ms, first reply after ${of("replyMs")} ms, ` +
      `all memory there ${of("fillMs")} ms after the restore began, ${of("faults")} faults; ${turns.length} turns`,
  );
}

async function measure(mib: number, count: number): Promise<void> {
  const folder = await mkdtemp("/dev/shm/ft-restore-");
  await writeFile(join(folder, "roots"), "");
  await mkdir(join(folder, "kdat"), { recursive: true });
  const source = await enter();
  const composer = await openComposer({
    nativeDir,
    pair,
    folder,
    roots: join(folder, "roots"),
    subject: "redis",
  });
  const turns: Record<"whole" | "lazy", Turn[]> = { whole: [], lazy: [] };
  try {
    await source.start();
    await sleep(500);
    await fill(source, mib);
    const digest = await ask(source, "DEBUG", "DIGEST");
    await checkpoint(source, folder, composer);
    await source.close();
    for (let turn = 0; turn < count; turn += 1) {
      turns.whole.push(await takeTurn(folder, composer, false, digest));
      turns.lazy.push(await takeTurn(folder, composer, true, digest));
    }
    tell(mib, "whole", turns.whole);
    tell(mib, "lazy", turns.lazy);
  } finally {
    await composer.close();
    await source.close();
    await rm(folder, { recursive: true, force: true });
  }
}

const sizes = (process.argv[2] ?? "10,64,256,1024").split(",").map(Number);
for (const mib of sizes) await measure(mib, Number(process.argv[3] ?? 5));
