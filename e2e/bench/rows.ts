/** The shape of e2e/out/bench.json. A field is absent where it does not apply. */
export interface BenchRow {
  configuration: string;
  epochMs?: number;
  workload: string;
  connections: number;
  memoryMiB?: number;
  dirtyFraction?: number;
  throughputRps: number;
  /** For so long. */
  seconds?: number;
  /** Of all turns, where there were several; the rest of the row is the turn of median throughput. */
  throughputRangeRps?: { min: number; max: number; turns: number };
  latencyUs: { avg: number; p50: number; p99: number };
  pauseMs?: { p50: number; p99: number };
  /** Medians of what the pause consists of. */
  pausePartsMs?: Record<string, number>;
  outputDelayMs?: { avg: number; p50: number; p99: number };
  bytesPerEpoch?: number;
  serverCpuUsPerOp?: number;
  /** Where the application is recorded: of the event log, for each request. */
  logBytesPerOp?: number;
  /** Mode hybrid: from sending a part of the log to the standby's ack. */
  shipDelayMs?: { avg: number; p50: number; p99: number };
  /** Mode hybrid: how often the application was frozen while the row was measured. */
  pauses?: number;
  /** Mode hybrid: where what a request takes longer than on `stock` goes. */
  overheadUs?: OverheadUs;
  outageMs?: { p50: number; max: number };
  /** Of the outage: from the host's being known to be gone to the first reply. */
  afterDetectionMs?: { p50: number; max: number };
  /** Of that, medians: until the application is restored, and the restore alone. */
  takeoverMs?: { total: number; restore: number };
  /** Mode hybrid, medians over the kills: what was replayed, and how long it had taken to happen. */
  replay?: Replay;
  /** What has to be known to read the row. */
  note?: string;
}

/** The same for each request of the row, in microseconds of average latency. */
export interface OverheadUs {
  total: number;
  /** `recorded` against `stock`. */
  recording: number;
  /** `gate-only` against `stock`. */
  gate: number;
  /** Until the standby has acknowledged what a reply waits for. */
  shipping: number;
  /** How much longer a reply is held than that. */
  holding: number;
  pause: number;
  unexplained: number;
}

export interface Replay {
  kills: number;
  events: number;
  outputs: number;
  ms: number;
  /** Since the checkpoint was committed, so rather too little. */
  recordedMs: number;
  attempts: number;
}

/** One row of the memory section. `configuration` is the way of dumping, or `failover`. */
export interface MemoryRow {
  configuration: string;
  workload: string;
  memoryMiB: number;
  threads: number;
  connections: number;
  /** Of the service's pages, each epoch: as asked for. */
  dirtyFraction?: number;
  /** How many the figures are of. */
  epochs?: number;
  pauseMs?: { p50: number; p99: number };
  pausePartsMs?: Record<string, number>;
  packMs?: number;
  pagesRead?: number;
  /** Pages whose content differs from the epoch before, and what was shipped for them: medians. */
  dirtyBytesPerEpoch?: number;
  bytesPerEpoch?: number;
  shippedPerDirty?: number;
  outageMs?: { p50: number; max: number };
  /** As in a BenchRow. */
  afterDetectionMs?: { p50: number; max: number };
  takeoverMs?: { total: number; restore: number };
  kills?: number;
}

const memoryKey = (row: MemoryRow) =>
  [
    row.configuration,
    row.workload,
    row.memoryMiB,
    row.threads,
    row.connections,
    row.dirtyFraction,
  ].join(" ");

/** Parts may be measured one after the other: a later row takes the place of one of the same kind. */
export function replaceMemoryRows(old: MemoryRow[], rows: MemoryRow[]): MemoryRow[] {
  const replaced = new Set(rows.map(memoryKey));
  return [...old.filter((row) => !replaced.has(memoryKey(row))), ...rows];
}

export interface Machine {
  cpu: string;
  cores: number;
  memoryMiB: number;
  kernel: string;
  node: string;
  docker: string;
}

/** CPU of the product's processes, in percent of one core, while a protected service has nothing to do. */
export interface IdleCpu {
  agentPercent: number;
  gatePercent: number;
  helpersPercent: number;
}

export interface BenchResult {
  machine: Machine;
  commit: string;
  idle?: IdleCpu;
  rows: BenchRow[];
  /** By memory.ts. */
  memory?: MemoryRow[];
}

export function median(values: number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = Math.floor(sorted.length / 2);
  if (sorted.length === 0) return Number.NaN;
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}

/** One row for each configuration, workload and number of connections, in the order of their first turns. */
export function mediansOfTurns(rows: BenchRow[]): BenchRow[] {
  const turnsOf = new Map<string, BenchRow[]>();
  for (const row of rows) {
    const key = [row.configuration, row.epochMs, row.workload, row.connections].join(" ");
    turnsOf.set(key, [...(turnsOf.get(key) ?? []), row]);
  }
  return [...turnsOf.values()].map((turns) => {
    if (turns.length === 1) return turns[0]!;
    const sorted = turns.toSorted((a, b) => a.throughputRps - b.throughputRps);
    const [min, max] = [sorted[0]!.throughputRps, sorted.at(-1)!.throughputRps];
    const middle = sorted[Math.floor(sorted.length / 2)]!;
    return { ...middle, throughputRangeRps: { min, max, turns: turns.length } };
  });
}

export const round = (value: number, digits = 1): number => Number(value.toFixed(digits));
