/**
 * The memory section of the benchmark: pause against memory, dirty rate, threads and connections, of the dump alone, with CRIU's
 * plain full dump and each shortcut switched off by turns in the same run; then the failover against memory and connections, in
 * the lab.
 *
 *   node memory.js [--sizes 10,100,1024] [--fractions 0.001,0.01,0.1] [--connections 1,100,1000] [--threads 1,4,8]
 *                  [--epochs 20] [--turns 2] [--kills 3] [--minutes 60] [--compared-only] [--against BUILD,…] [--no-plots] [--quick]
 *
 * Its rows replace those of the same kind in e2e/out/bench.json, so it may be run in parts. 4096 MiB has to be asked for: it
 * takes 16 GiB in a dump, and more in the lab, whose hosts need FTLAB_RUN_SIZE=21g then. --kills 0 leaves the lab out. After
 * --minutes nothing new is begun.
 * --against has other builds' ftdump and library take turns with this one's, for each size and number of connections, and nothing else.
 * --compared-only has the rows of connections and threads alone. --quick is a smoke test of the benchmark itself, not a measurement.
 */
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { checkoutRoot } from "../lab/layout.js";
import { writeMemoryPlots } from "../plots/memory-plots.js";
import { outFolder } from "../runner/workloads.js";
import { commitId, describeMachine } from "./machine.js";
import { memoryCases } from "./memory-cases.js";
import { measureDumps } from "./memory-dumps.js";
import { measureFailovers } from "./memory-failover.js";
import { type BenchResult, type MemoryRow, replaceMemoryRows } from "./rows.js";
import { memoryTable } from "./table.js";

const { values } = parseArgs({
  options: {
    quick: { type: "boolean", default: false },
    sizes: { type: "string" },
    fractions: { type: "string" },
    connections: { type: "string" },
    threads: { type: "string" },
    epochs: { type: "string" },
    turns: { type: "string" },
    kills: { type: "string" },
    minutes: { type: "string", default: "60" },
    against: { type: "string" },
    "compared-only": { type: "boolean", default: false },
    "no-plots": { type: "boolean", default: false },
  },
});
const { quick } = values;
const numbers = (text: string) => text.split(",").filter(Boolean).map(Number);
const say = (line: string) => process.stderr.write(`${line}\n`);
const sizes = numbers(values.sizes ?? (quick ? "10" : "10,100,1024"));
const connections = numbers(values.connections ?? (quick ? "1" : "1,100,1000"));
const kills = Number(values.kills ?? (quick ? 0 : 3));
const file = join(outFolder(), "bench.json");

async function keep(rows: MemoryRow[]): Promise<MemoryRow[]> {
  const old: BenchResult = existsSync(file)
    ? (JSON.parse(readFileSync(file, "utf8")) as BenchResult)
    : { machine: await describeMachine(), commit: await commitId(), rows: [] };
  const memory = replaceMemoryRows(old.memory ?? [], rows);
  mkdirSync(outFolder(), { recursive: true });
  writeFileSync(file, `${JSON.stringify({ ...old, memory }, null, 2)}\n`);
  return memory;
}

async function main(): Promise<void> {
  const untilMs = Date.now() + Number(values.minutes) * 60_000;
  const settings = {
    epochs: Number(values.epochs ?? (quick ? 3 : 20)),
    turns: Number(values.turns ?? (quick ? 1 : 2)),
    untilMs,
  };
  const cases = memoryCases({
    sizes,
    connections,
    fractions: numbers(values.fractions ?? "0.001,0.01,0.1"),
    threads: numbers(values.threads ?? (quick ? "4" : "1,4,8")),
    comparedOnly: values["compared-only"],
    against: values.against?.split(",") ?? [],
  });
  let rows: MemoryRow[] = [];
  for (const each of cases) {
    if (Date.now() > untilMs) break;
    say(
      `… ${each.workload}, ${each.memoryMiB} MiB, ${each.threads} threads, ${each.connections} connections`,
    );
    const found = await measureDumps(each, settings);
    rows = [...rows, ...found];
    await keep(found); // what is measured is not lost with what comes after it
  }
  if (kills > 0) {
    const [one = 1, ...more] = connections;
    const bySize = sizes.map((memoryMiB) => ({ memoryMiB, connections: one }));
    const byConnections = sizes.includes(100)
      ? more.map((count) => ({ memoryMiB: 100, connections: count }))
      : [];
    rows.push(...(await measureFailovers([...bySize, ...byConnections], { kills, untilMs, say })));
  }
  const all = await keep(rows);
  if (!quick && !values["no-plots"]) writeMemoryPlots(join(checkoutRoot(), "docs/plots"), all);
  process.stdout.write(`${memoryTable(rows)}\n`);
  if (Date.now() > untilMs) say("the time was up: some rows are missing");
}

main().catch((error: unknown) => {
  say(`bench: ${error instanceof Error ? error.message : String(error)}`);
  process.exitCode = 1;
});
