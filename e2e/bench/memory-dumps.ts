/** The dump alone, of a service in throw-away namespaces: without Docker, gate and standby. */
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { join, resolve } from "node:path";
import { Checkpointer, type DumpResult, pausePhases } from "../../criu/checkpointer.js";
import { openSandbox, type Sandbox } from "../../criu/sandbox.js";
import { checkoutRoot } from "../lab/layout.js";
import { pause } from "../runner/poll.js";
import type { MemoryCase, MemoryWay } from "./memory-cases.js";
import { type MemoryLoad, openMemoryLoad } from "./memory-load.js";
import { at } from "./memory-numbers.js";
import { type MemoryRow, round } from "./rows.js";

const PORT = 7777;
const PAGE = 4096;
const EVERY_MS = 25;
/** Of each way: the first is whole, the second may follow a whole one. */
const LEFT_OUT = 2;
/** Beyond it a whole dump takes longer than an epoch may that has a base; without one it ships all there is. */
const WHOLE_WITH_BASE_MIB_MAX = 2048;
/** Whole dumps are long, and differ little. */
const WHOLE_EPOCHS_MAX = 4;

export interface DumpSettings {
  epochs: number;
  turns: number;
  /** No new way is begun after it. */
  untilMs: number;
}

const nativeDir = join(checkoutRoot(), "build");

/** FTBENCH_USER: it is another user than CRIU is. */
function commandOf({ workload, threads, memoryMiB }: MemoryCase): string[] {
  const { FTBENCH_USER: user } = process.env;
  const as = user ? ["setpriv", `--reuid=${user}`, "--clear-groups"] : [];
  return [...as, ...serverOf({ workload, threads, memoryMiB })];
}

function serverOf({
  workload,
  threads,
  memoryMiB,
}: Pick<MemoryCase, "workload" | "threads" | "memoryMiB">): string[] {
  return workload === "redis"
    ? ["redis-server", "--port", `${PORT}`, "--save", "", "--appendonly", "no", "--dir", "/tmp"]
    : ["memcached", "-u", "root", "-p", `${PORT}`, "-U", "0", "-c", "4096"].concat(
        ...[
          ["-t", `${threads}`],
          ["-m", `${Math.ceil(memoryMiB * 1.3) + 64}`],
        ],
      );
}

/** All rows of a case; fewer when time is up. */
export async function measureDumps(of: MemoryCase, settings: DumpSettings): Promise<MemoryRow[]> {
  const folder = await mkdtemp("/dev/shm/ft-memory-");
  const opened: { close(): Promise<void> }[] = [];
  try {
    await writeFile(join(folder, "roots"), "");
    const sandbox = await openSandbox({ nativeDir, command: commandOf(of) });
    opened.push(sandbox);
    await sandbox.start();
    await pause(500);
    const enter = ["nsenter", "-t", `${sandbox.initPid}`, "-n"];
    const load = await openMemoryLoad({ ...of, enter, address: "127.0.0.1", port: PORT });
    opened.push(load);
    await load.fill(of.memoryMiB);
    return await inTurns(of, settings, { sandbox, load, folder });
  } finally {
    for (const thing of opened.reverse()) await thing.close();
    await rm(folder, { recursive: true, force: true });
  }
}

interface Stage {
  sandbox: Sandbox;
  load: MemoryLoad;
  folder: string;
}

async function inTurns(of: MemoryCase, settings: DumpSettings, stage: Stage): Promise<MemoryRow[]> {
  const results = new Map<string, DumpResult[]>();
  const rows: { key: string; way: MemoryWay; fraction: number }[] = [];
  for (let turn = 0; turn < settings.turns; turn += 1) {
    for (const way of of.ways) {
      if (Date.now() > settings.untilMs) continue;
      const found = await runWay(of, way, settings, stage);
      for (const [fraction, dumps] of found) {
        const key = `${way.name} ${fraction}`;
        if (!results.has(key)) rows.push({ key, way, fraction });
        results.set(key, [...(results.get(key) ?? []), ...dumps]);
      }
    }
  }
  return rows.map(({ key, way, fraction }) => rowOf(of, way, fraction, results.get(key) ?? []));
}

async function runWay(
  of: MemoryCase,
  way: MemoryWay,
  settings: DumpSettings,
  { sandbox, load, folder }: Stage,
): Promise<Map<number, DumpResult[]>> {
  const work = await mkdtemp(join(folder, "work-"));
  const build = resolve(way.build ?? nativeDir);
  const checkpoints = await Checkpointer.start({
    program: join(build, "bin/ftdump"),
    pair: "000000000000",
    initPid: sandbox.initPid,
    toolkit: process.env.FTCTL_TOOLKIT ?? join(nativeDir, "toolkit"),
    hook: join(build, "lib/libfthook.so"),
    work,
    gate: "none",
    roots: join(folder, "roots"),
    kdat: join(folder, "kdat"),
    freezeMsMax: 60_000,
    tracking: way.tracking,
    compression: way.compression,
    without: way.without,
    subject: of.workload,
  });
  const path = join(work, "blob");
  let epoch = 0;
  const dump = async (pages: number) => {
    rounds += 1;
    await load.dirty(pages, rounds);
    await pause(EVERY_MS);
    epoch += 1;
    const base = way.tracking === "full" && of.memoryMiB > WHOLE_WITH_BASE_MIB_MAX ? 0 : epoch - 1;
    const result = await checkpoints.dump({ epoch, base, generation: 1, path });
    await rm(path, { force: true });
    return result;
  };
  const found = new Map<number, DumpResult[]>();
  try {
    for (let i = 0; i < LEFT_OUT; i += 1) await dump(0);
    const epochs =
      way.tracking === "full" ? Math.min(WHOLE_EPOCHS_MAX, settings.epochs) : settings.epochs;
    for (const fraction of way.fractions) {
      const dumps: DumpResult[] = [];
      const pages = Math.max(1, Math.round((of.memoryMiB * 2 ** 20 * fraction) / PAGE));
      for (let i = 0; i < epochs; i += 1) dumps.push(await dump(pages));
      found.set(fraction, dumps);
    }
    return found;
  } finally {
    await checkpoints.stop();
    await rm(work, { recursive: true, force: true });
  }
}

/** Never the same twice in a run: what is written must differ from what is there. */
let rounds = 0;

function rowOf(of: MemoryCase, way: MemoryWay, fraction: number, dumps: DumpResult[]): MemoryRow {
  const median = (value: (dump: DumpResult) => number) => at(dumps.map(value), 0.5);
  const pauses = dumps.map(({ pauseMs }) => pauseMs);
  return {
    configuration: way.name,
    workload: of.workload,
    memoryMiB: of.memoryMiB,
    dirtyFraction: fraction,
    threads: of.threads,
    connections: of.connections,
    epochs: dumps.length,
    pauseMs: { p50: round(at(pauses, 0.5), 2), p99: round(at(pauses, 0.99), 2) },
    pausePartsMs: Object.fromEntries(
      pausePhases.map((phase) => [
        phase,
        round(
          median((dump) => dump.pausePartsMs[phase]),
          2,
        ),
      ]),
    ),
    packMs: round(
      median(({ packMs }) => packMs),
      2,
    ),
    pagesRead: median(({ pagesDumped }) => pagesDumped),
    dirtyBytesPerEpoch: median(({ pagesChanged }) => pagesChanged) * PAGE,
    bytesPerEpoch: median(({ bytes }) => bytes),
    shippedPerDirty: round(
      median(({ bytes, pagesChanged }) => bytes / (pagesChanged * PAGE)),
      3,
    ),
  };
}
