/**
 * `make bench`: every configuration in turn, side by side in one run.
 *
 *   node main.js [--quick] [--workloads a,b] [--connections 1,50] [--epochs 15,25,50,100]
 *                [--seconds S] [--kills N] [--rounds N] [--configurations a,b] [--no-plots] [--keep]
 *
 * With --rounds every configuration has its turn N times, and the row of median throughput is kept: single turns on
 * a shared machine differ by more than what is to be compared.
 * --quick is a smoke test of the benchmark itself (a minute or two), not a measurement.
 */
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { checkoutRoot } from "../lab/layout.js";
import { writePlots } from "../plots/bench-plots.js";
import { LabHosts } from "../runner/hosts.js";
import { buildImage, Service } from "../runner/service.js";
import { outFolder, specOf } from "../runner/workloads.js";
import { asOnTheMachine, type Configuration, configurations } from "./configurations.js";
import { measureIdle } from "./idle.js";
import { type BenchWorkload, buildLoadGenerator } from "./load-generator.js";
import { commitId, describeMachine } from "./machine.js";
import { measureOutage, measureRow } from "./measure.js";
import { withOverheads } from "./overhead.js";
import { type BenchResult, type BenchRow, type IdleCpu, mediansOfTurns } from "./rows.js";
import { table } from "./table.js";

/** Kills are measured at the default epoch. */
const outageEpochMs = 25;

interface Settings {
  workloads: BenchWorkload[];
  connections: number[];
  epochs: number[];
  seconds: number;
  kills: number;
  rounds: number;
  only: string[] | undefined;
  plots: boolean;
  keep: boolean;
}

const say = (line: string) => process.stderr.write(`${line}\n`);

function settings(): Settings {
  const { values } = parseArgs({
    options: {
      quick: { type: "boolean", default: false },
      workloads: { type: "string" },
      connections: { type: "string" },
      epochs: { type: "string" },
      seconds: { type: "string" },
      kills: { type: "string" },
      rounds: { type: "string", default: "1" },
      configurations: { type: "string" },
      "no-plots": { type: "boolean", default: false },
      keep: { type: "boolean", default: false },
    },
  });
  const { quick } = values;
  const numbers = (text: string) => text.split(",").map(Number);
  return {
    workloads: (values.workloads ?? (quick ? "redis" : "redis,memcached,lighttpd,nginx")).split(
      ",",
    ) as BenchWorkload[],
    connections: numbers(values.connections ?? "1,50"),
    epochs: numbers(values.epochs ?? (quick ? "25" : "15,25,50,100")),
    seconds: Number(values.seconds ?? (quick ? 1 : 6)),
    kills: Number(values.kills ?? (quick ? 1 : 7)),
    rounds: Number(values.rounds),
    only: values.configurations?.split(","),
    plots: !values["no-plots"] && !quick,
    keep: values.keep,
  };
}

async function benchOne(
  hosts: LabHosts,
  configuration: Configuration,
  workload: BenchWorkload,
  options: Settings & { program: string },
): Promise<BenchRow[]> {
  await asOnTheMachine(hosts);
  const service = new Service(hosts, specOf(workload));
  await buildImage(service.spec);
  const running = await configuration.start(service);
  const rows: BenchRow[] = [];
  const durationMs = options.seconds * 1000;
  for (const connections of options.connections) {
    const warmUpMs = Math.min(2_000, durationMs / 2);
    const { program } = options;
    rows.push(
      await measureRow(configuration, running, connections, { program, warmUpMs, durationMs }),
    );
  }
  const kills = configuration.kills || configuration.epochMs === outageEpochMs;
  if (kills && options.kills > 0) {
    for (const row of rows) {
      Object.assign(row, await measureOutage(service, row.connections, options.kills));
    }
  }
  const note = (await running.finish?.()) ?? running.note;
  return note === undefined ? rows : rows.map((row) => ({ ...row, note }));
}

async function bench(hosts: LabHosts, options: Settings): Promise<BenchRow[]> {
  const program = await buildLoadGenerator();
  const chosen = configurations(options.epochs).filter(
    ({ name }) => options.only === undefined || options.only.includes(name),
  );
  const turns = Array.from({ length: options.rounds }, () => options.workloads).flat();
  const rows: BenchRow[] = [];
  for (const workload of turns) {
    for (const configuration of chosen) {
      const what = `${workload}, ${configuration.name}${configuration.epochMs ? ` ${configuration.epochMs} ms` : ""}`;
      say(`… ${what}`);
      try {
        rows.push(...(await benchOne(hosts, configuration, workload, { ...options, program })));
      } catch (error) {
        // A comparison that cannot be had here must not cost the rest of the run.
        if (configuration.name !== "docker-checkpoint-loop") throw error;
        const note = `not measured: ${error instanceof Error ? error.message : String(error)}`;
        say(`  ${note}`);
        const latencyUs = { avg: 0, p50: 0, p99: 0 };
        rows.push({
          ...{ configuration: configuration.name, workload, connections: 0, throughputRps: 0 },
          ...{ latencyUs, note },
        });
      }
    }
  }
  return withOverheads(mediansOfTurns(rows));
}

async function main(): Promise<void> {
  const options = settings();
  const { hosts, started } = await LabHosts.up(["alpha", "beta"], say);
  let rows: BenchRow[];
  let idle: IdleCpu;
  try {
    rows = await bench(hosts, options);
    say("… idle");
    await asOnTheMachine(hosts);
    const service = new Service(hosts, specOf("redis"));
    await buildImage(service.spec);
    idle = await measureIdle(service, options.seconds * 3_000);
    await asOnTheMachine(hosts);
  } finally {
    if (started && !options.keep) await hosts.down();
  }
  const file = join(outFolder(), "bench.json");
  // The memory section is a run of its own (memory.ts).
  const memory = existsSync(file)
    ? (JSON.parse(readFileSync(file, "utf8")) as BenchResult).memory
    : undefined;
  const result: BenchResult = {
    machine: await describeMachine(),
    commit: await commitId(),
    idle,
    rows,
    ...(memory === undefined ? {} : { memory }),
  };
  mkdirSync(outFolder(), { recursive: true });
  writeFileSync(file, `${JSON.stringify(result, null, 2)}\n`);
  if (options.plots) writePlots(join(checkoutRoot(), "docs/plots"), rows);
  process.stdout.write(`${table(rows)}\n`);
  process.stdout.write(
    `idle, of one core: agent ${idle.agentPercent} %, gate ${idle.gatePercent} %, dump ${idle.helpersPercent} %\n`,
  );
}

main().catch((error: unknown) => {
  process.stderr.write(`bench: ${error instanceof Error ? error.message : String(error)}\n`);
  process.exitCode = 1;
});
