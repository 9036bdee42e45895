/** The benchmark's figures as charts: docs/plots/*.svg. */
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { BenchRow } from "../bench/rows.js";
import { barChart, type Series } from "./svg.js";

export function writePlots(folder: string, rows: BenchRow[]): void {
  mkdirSync(folder, { recursive: true });
  for (const [name, svg] of Object.entries(benchPlots(rows)))
    writeFileSync(join(folder, name), svg);
}

export function benchPlots(rows: BenchRow[]): Record<string, string> {
  const measured = rows.filter(({ throughputRps }) => throughputRps > 0);
  const workloads = unique(measured.map(({ workload }) => workload));
  const plots: Record<string, string> = {};
  for (const workload of workloads) {
    const own = measured.filter((row) => row.workload === workload);
    plots[`throughput-${workload}.svg`] = throughput(workload, own);
    plots[`latency-${workload}.svg`] = latency(workload, own);
  }
  const pauses = measured.filter(({ pauseMs }) => pauseMs !== undefined);
  if (pauses.length > 0) plots["pause.svg"] = pause(pauses);
  const outages = measured.filter(({ outageMs }) => outageMs !== undefined);
  if (outages.length > 0) plots["outage.svg"] = outage(outages);
  return plots;
}

const nameOf = (row: BenchRow): string =>
  row.epochMs === undefined
    ? row.configuration.replace("docker-checkpoint-loop", "docker checkpoint")
    : `${row.epochMs} ms epochs`;

const unique = <T>(values: T[]): T[] => [...new Set(values)];

/** One series for each number of connections over the configurations. */
function overConfigurations(
  rows: BenchRow[],
  value: (row: BenchRow) => number,
): { categories: string[]; series: Series[] } {
  const categories = unique(rows.map(nameOf));
  const connections = unique(rows.map((row) => row.connections));
  const series = connections.map((count) => ({
    name: count === 1 ? "1 connection" : `${count} connections`,
    values: categories.map((category) => {
      const row = rows.find((each) => nameOf(each) === category && each.connections === count);
      return row && value(row);
    }),
  }));
  return { categories, series };
}

function throughput(workload: string, rows: BenchRow[]): string {
  return barChart({
    title: `${workload}: requests a second, closed loop`,
    unit: "requests/s",
    logarithmic: true,
    ...overConfigurations(rows, (row) => row.throughputRps),
  });
}

function latency(workload: string, rows: BenchRow[]): string {
  return barChart({
    title: `${workload}: average latency`,
    unit: "ms",
    logarithmic: true,
    ...overConfigurations(rows, (row) => row.latencyUs.avg / 1000),
  });
}

function pause(rows: BenchRow[]): string {
  const busiest = Math.max(...rows.map(({ connections }) => connections));
  const chosen = rows.filter((row) => row.connections === busiest);
  const categories = chosen.map((row) => `${row.workload} ${row.epochMs ?? ""}`.trim());
  return barChart({
    title: `Pause of a checkpoint, ${busiest} connections, by workload and epoch in ms`,
    unit: "ms",
    categories,
    series: [
      { name: "p50", values: chosen.map((row) => row.pauseMs?.p50) },
      { name: "p99", values: chosen.map((row) => row.pauseMs?.p99) },
    ],
    limit: { value: 15, name: "promised p99 for redis: 15 ms" },
  });
}

function outage(rows: BenchRow[]): string {
  return barChart({
    title: "Outage at the power loss of the host, as clients see it",
    unit: "ms",
    categories: rows.map((row) => `${row.workload}, ${row.connections}`),
    series: [
      { name: "p50", values: rows.map((row) => row.outageMs?.p50) },
      { name: "max", values: rows.map((row) => row.outageMs?.max) },
    ],
    limit: { value: 500, name: "promised p50: 500 ms" },
  });
}
