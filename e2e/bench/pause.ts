/**
 * Where the pause goes and what each shortcut of the dump is worth: a redis under load in namespaces of its own is
 * dumped by several ftdumps in turn, one for each way, so that noise of the machine falls on all of them alike.
 *
 *   node pause.js [--rounds 60] [--connections 1] [--interval 20]
 *
 * Without Docker, gate and standby: what is measured is the dump alone. Writes e2e/out/pause.json.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";
import {
  Checkpointer,
  type DumpResult,
  type PausePhase,
  pausePhases,
  shortcuts,
} from "../../criu/checkpointer.js";
import { openSandbox, type Sandbox } from "../../criu/sandbox.js";
import { checkoutRoot } from "../lab/layout.js";
import { pause } from "../runner/poll.js";
import { outFolder } from "../runner/workloads.js";

interface Way {
  name: string;
  checkpoints: Checkpointer;
  path: string;
  results: DumpResult[];
  last: number;
}

const nativeDir = join(checkoutRoot(), "build");
/** The first dumps of a way are full and know nothing of the ones before. */
const leftOut = 3;

const { values } = parseArgs({
  options: {
    rounds: { type: "string", default: "60" },
    connections: { type: "string", default: "1" },
    interval: { type: "string", default: "20" },
  },
});

function at(numbers: number[], quantile: number): number {
  const sorted = [...numbers].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * quantile))] ?? Number.NaN;
}

async function openWay(name: string, folder: string, of: Sandbox): Promise<Way> {
  const work = mkdtempSync(join(folder, "work-"));
  const without =
    name === "none" ? [...shortcuts] : shortcuts.filter((one) => name === `without ${one}`);
  const checkpoints = await Checkpointer.start({
    program: join(nativeDir, "bin/ftdump"),
    pair: "000000000000",
    initPid: of.initPid,
    toolkit: process.env.FTCTL_TOOLKIT ?? join(nativeDir, "toolkit"),
    hook: join(nativeDir, "lib/libfthook.so"),
    work,
    gate: "none",
    roots: join(folder, "roots"),
    kdat: join(folder, "kdat"),
    freezeMsMax: 2_000,
    subject: "redis",
    without,
  });
  return { name, checkpoints, path: join(work, "blob"), results: [], last: 0 };
}

async function dumpInTurn(ways: Way[]): Promise<void> {
  for (let round = 0; round < Number(values.rounds) + leftOut; round += 1) {
    for (const way of ways) {
      const request = { epoch: way.last + 1, base: way.last, generation: 1, path: way.path };
      way.results.push(await way.checkpoints.dump(request));
      way.last += 1;
      await pause(Number(values.interval));
    }
  }
}

function rowOf({ name, results }: Way) {
  const counted = results.slice(leftOut);
  const median = (of: (result: DumpResult) => number) => at(counted.map(of), 0.5);
  return {
    way: name,
    pauseMs: {
      p50: median((one) => one.pauseMs),
      p99: at(
        counted.map((one) => one.pauseMs),
        0.99,
      ),
    },
    criuCpuMs: median((one) => one.criuCpuMs),
    criuDelayMs: median((one) => one.criuDelayMs),
    plain: counted.filter((one) => one.plain.length > 0).length,
    inVain: counted.filter((one) => one.lateInVain > 0).length,
    partsMs: Object.fromEntries(
      pausePhases.map((phase) => [phase, median((one) => one.pausePartsMs[phase])]),
    ) as Record<PausePhase, number>,
  };
}

function print(rows: ReturnType<typeof rowOf>[]): void {
  const cells = (texts: string[]) => texts.map((text) => text.padStart(8)).join("");
  const heads = ["p50", "p99", "cpu", "delay", "plain", "in vain", ...pausePhases];
  console.log(`${"ms".padEnd(16)}${cells(heads)}`);
  for (const { way, pauseMs, criuCpuMs, criuDelayMs, plain, inVain, partsMs } of rows) {
    const times = [pauseMs.p50, pauseMs.p99, criuCpuMs, criuDelayMs].map((ms) => ms.toFixed(2));
    const parts = pausePhases.map((phase) => partsMs[phase].toFixed(2));
    console.log(`${way.padEnd(16)}${cells([...times, String(plain), String(inVain), ...parts])}`);
  }
}

async function main(): Promise<void> {
  const folder = mkdtempSync("/dev/shm/k-pause-");
  const opened: (() => Promise<void>)[] = [];
  try {
    writeFileSync(join(folder, "roots"), "");
    const command = ["redis-server", "--save", "", "--appendonly", "no", "--dir", folder];
    const redis = await openSandbox({ nativeDir, command });
    opened.push(() => redis.close());
    await redis.start();
    await pause(500);
    const load = startLoad(redis.initPid);
    opened.push(() => ended(load));
    const ways: Way[] = [];
    for (const name of ["all", "none", ...shortcuts.map((one) => `without ${one}`)]) {
      const way = await openWay(name, folder, redis);
      opened.push(() => way.checkpoints.stop());
      ways.push(way);
    }
    await dumpInTurn(ways);
    const rows = ways.map(rowOf);
    mkdirSync(outFolder(), { recursive: true });
    writeFileSync(join(outFolder(), "pause.json"), `${JSON.stringify(rows, null, 2)}\n`);
    print(rows);
  } finally {
    for (const close of opened.reverse()) await close();
    rmSync(folder, { recursive: true, force: true });
  }
}

function startLoad(initPid: number): ChildProcess {
  const load = ["-c", values.connections, "-r", "1000", "-n", "1000000000", "-t", "set", "-q"];
  return spawn("nsenter", ["-t", String(initPid), "-n", "redis-benchmark", ...load], {
    stdio: "ignore",
  });
}

async function ended(child: ChildProcess): Promise<void> {
  const closed = new Promise((resolve) => child.once("close", resolve));
  child.kill("SIGKILL");
  await closed;
}

await main();
