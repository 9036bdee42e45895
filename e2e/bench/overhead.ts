/** Where the latency goes that mode hybrid adds: each part from the configuration that has it and little else. */
import { type BenchRow, type OverheadUs, round } from "./rows.js";

/** Rows of mode hybrid with their overhead split, where the rows to compare with are there. */
export function withOverheads(rows: BenchRow[]): BenchRow[] {
  return rows.map((row) => {
    if (!row.configuration.startsWith("hybrid")) return row;
    const overheadUs = overheadOf(row, rows);
    return overheadUs ? { ...row, overheadUs } : row;
  });
}

function overheadOf(row: BenchRow, rows: BenchRow[]): OverheadUs | undefined {
  const averageOf = (configuration: string) =>
    rows.find(
      (other) =>
        other.configuration === configuration &&
        other.workload === row.workload &&
        other.connections === row.connections,
    )?.latencyUs.avg;
  const [stock, gateOnly, recorded] = ["stock", "gate-only", "recorded"].map(averageOf);
  if (stock === undefined || gateOnly === undefined || recorded === undefined) return undefined;
  const total = row.latencyUs.avg - stock;
  const held = (row.outputDelayMs?.avg ?? 0) * 1000;
  const shipping = Math.min(held, (row.shipDelayMs?.avg ?? 0) * 1000);
  const parts = {
    recording: recorded - stock,
    gate: gateOnly - stock,
    shipping,
    holding: held - shipping,
    pause: pauseUs(row),
  };
  const explained = Object.values(parts).reduce((sum, part) => sum + part, 0);
  const all = { total, ...parts, unexplained: total - explained };
  return Object.fromEntries(
    Object.entries(all).map(([name, us]) => [name, round(us)]),
  ) as unknown as OverheadUs;
}

/**
 * A freeze delays the request of every connection that is under way by about its length; spread over all requests of the row.
 */
function pauseUs({ pauses = 0, pauseMs, connections, throughputRps, seconds }: BenchRow): number {
  const requests = throughputRps * (seconds ?? 0);
  if (!pauseMs || requests === 0) return 0;
  return (pauses * pauseMs.p50 * 1000 * connections) / requests;
}
