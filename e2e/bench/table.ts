/** The benchmark's rows for a person. */
import Table from "cli-table3";
import type { BenchRow, MemoryRow } from "./rows.js";

export function table(rows: BenchRow[]): string {
  const head = [
    "workload",
    "configuration",
    "conn",
    "req/s",
    "avg",
    "p50",
    "p99 latency",
    "pause p50/p99",
    "delay avg/p99",
    "KiB/epoch",
    "CPU µs/op",
    "log B/op",
    "outage p50/max",
  ];
  const out = new Table({ head, style: { head: [], border: [] }, colAligns: aligns(head.length) });
  for (const row of rows) out.push(cells(row));
  const notes = rows
    .filter(({ note }) => note)
    .map((row) => `${row.configuration}, ${row.workload}: ${row.note}`);
  return [
    ...[out.toString(), ...new Set(notes), ...rows.flatMap(range)],
    ...[...rows.flatMap(overhead), ...rows.flatMap(replayed)],
  ].join("\n");
}

function overhead({ overheadUs, workload, connections }: BenchRow): string[] {
  if (overheadUs === undefined) return [];
  const { total, ...parts } = overheadUs;
  const list = Object.entries(parts).map(([name, us]) => `${name} ${us}`);
  return [`hybrid, ${workload}, ${connections} conn: ${total} µs over stock: ${list.join(", ")}`];
}

function replayed({ replay, workload, connections }: BenchRow): string[] {
  if (replay === undefined) return [];
  const { kills, events, outputs, ms, recordedMs } = replay;
  return [
    `hybrid, ${workload}, ${connections} conn: ${events} events and ${outputs} outputs of ${recordedMs} ms replayed in ${ms} ms (medians of ${kills})`,
  ];
}

function range({ throughputRangeRps, configuration, connections }: BenchRow): string[] {
  if (throughputRangeRps === undefined) return [];
  const { min, max, turns } = throughputRangeRps;
  return [
    `${configuration}, ${connections} conn: median of ${turns} turns, ${min} to ${max} req/s`,
  ];
}

function aligns(columns: number): ("left" | "right")[] {
  return Array.from({ length: columns }, (_, i) => (i < 2 ? "left" : "right"));
}

function cells(row: BenchRow): string[] {
  const pair = (a: number | undefined, b: number | undefined) =>
    a === undefined || b === undefined ? "" : `${a} / ${b} ms`;
  const { pauseMs, outputDelayMs, outageMs } = row;
  return [
    row.workload,
    row.epochMs === undefined ? row.configuration : `${row.configuration} ${row.epochMs} ms`,
    String(row.connections),
    Math.round(row.throughputRps).toLocaleString("en-US"),
    microseconds(row.latencyUs.avg),
    microseconds(row.latencyUs.p50),
    microseconds(row.latencyUs.p99),
    pair(pauseMs?.p50, pauseMs?.p99),
    pair(outputDelayMs?.avg, outputDelayMs?.p99),
    row.bytesPerEpoch === undefined ? "" : String(Math.round(row.bytesPerEpoch / 1024)),
    row.serverCpuUsPerOp === undefined ? "" : String(row.serverCpuUsPerOp),
    row.logBytesPerOp === undefined ? "" : String(row.logBytesPerOp),
    pair(outageMs?.p50, outageMs?.max),
  ];
}

function microseconds(us: number): string {
  return us < 1_000 ? `${Math.round(us)} µs` : `${(us / 1000).toFixed(1)} ms`;
}

export function memoryTable(rows: MemoryRow[]): string {
  const head = ["workload", "MiB", "threads", "conn", "dirty", "way", "pause p50/p99", "n"];
  const more = ["pack ms", "read", "KiB dirty", "KiB shipped", "ratio", "outage p50/max"];
  const out = new Table({
    head: [...head, ...more],
    style: { head: [], border: [] },
    colAligns: [...head, ...more].map((name) => (/workload|way/.test(name) ? "left" : "right")),
  });
  const kib = (bytes?: number) => (bytes === undefined ? "" : String(Math.round(bytes / 1024)));
  for (const row of rows) {
    const { pauseMs, outageMs, dirtyFraction } = row;
    out.push([
      ...[row.workload, row.memoryMiB, row.threads, row.connections],
      dirtyFraction === undefined ? "" : `${dirtyFraction * 100} %`,
      row.configuration,
      pauseMs ? `${pauseMs.p50} / ${pauseMs.p99} ms` : "",
      row.epochs ?? row.kills ?? "",
      ...[row.packMs ?? "", row.pagesRead ?? ""],
      ...[kib(row.dirtyBytesPerEpoch), kib(row.bytesPerEpoch), row.shippedPerDirty ?? ""],
      outageMs ? `${outageMs.p50} / ${outageMs.max} ms` : "",
    ]);
  }
  return out.toString();
}
