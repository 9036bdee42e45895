/** One row: a configuration, a workload, a number of connections. */

import type { PairView, Percentiles } from "../../orchestrator/agent/api-types.js";
import { brokenPromises, verdictOf } from "../checkers/verdict.js";
import { type Gap, monotonicUs, outageMsAround } from "../clients/latency.js";
import type { Host } from "../runner/hosts.js";
import { poll } from "../runner/poll.js";
import type { Service } from "../runner/service.js";
import { applicationPid, type Configuration, type Running } from "./configurations.js";
import { cgroupCpuUs, residentMiB } from "./cpu.js";
import { type BenchWorkload, measureLoad } from "./load-generator.js";
import { type BenchRow, median, type Replay, round } from "./rows.js";

export interface MeasureOptions {
  program: string;
  warmUpMs: number;
  durationMs: number;
}

export async function measureRow(
  configuration: Configuration,
  running: Running,
  connections: number,
  options: MeasureOptions,
): Promise<BenchRow> {
  const { service } = running;
  const pid = await applicationPid(running);
  const before = await running.view?.();
  const logBytesBefore = (await running.logBytes?.()) ?? 0;
  const cpuBeforeUs = cgroupCpuUs(pid);
  const figures = await measureLoad(service.hosts, options.program, {
    address: service.address,
    port: service.spec.port,
    workload: service.spec.workload as BenchWorkload,
    connections,
    warmUpMs: options.warmUpMs,
    durationMs: options.durationMs,
  });
  // The warm-up's requests cost CPU too; their share is taken from the rate measured after it.
  const served = figures.requests * (1 + options.warmUpMs / (figures.seconds * 1000));
  const cpuUs = cgroupCpuUs(pid) - cpuBeforeUs;
  const logBytes = ((await running.logBytes?.()) ?? 0) - logBytesBefore;
  const memoryMiB = residentMiB(pid);
  return {
    configuration: configuration.name,
    ...(configuration.epochMs === undefined ? {} : { epochMs: configuration.epochMs }),
    workload: service.spec.workload,
    connections,
    memoryMiB: round(memoryMiB),
    throughputRps: round(figures.requests / figures.seconds),
    seconds: round(figures.seconds, 2),
    latencyUs: { avg: round(figures.avg), p50: figures.p50, p99: figures.p99 },
    serverCpuUsPerOp: round(cpuUs / served, 2),
    ...(running.logBytes ? { logBytesPerOp: round(logBytes / served) } : {}),
    ...epochFigures(before, await running.view?.(), memoryMiB, figures.requests / served),
  };
}

function epochFigures(
  before: PairView | undefined,
  view: PairView | undefined,
  memoryMiB: number,
  measuredPart: number,
): Partial<BenchRow> {
  if (!before || !view) return {};
  const { pauseMs, pausePartsMs, outputDelayMs, bytesPerEpoch, log } = view;
  return {
    ...(log?.delayMs
      ? {
          pauses: round((view.epochsCommitted - before.epochsCommitted) * measuredPart, 1),
          shipDelayMs: {
            avg: round(averageSince(before.log?.delayMs, log.delayMs), 3),
            p50: round(log.delayMs.p50, 3),
            p99: round(log.delayMs.p99, 3),
          },
        }
      : {}),
    ...(pauseMs ? { pauseMs: { p50: round(pauseMs.p50, 2), p99: round(pauseMs.p99, 2) } } : {}),
    ...(pausePartsMs ? { pausePartsMs } : {}),
    ...(outputDelayMs
      ? {
          outputDelayMs: {
            avg: round(averageSince(before.outputDelayMs, outputDelayMs), 3),
            p50: round(outputDelayMs.p50, 3),
            p99: round(outputDelayMs.p99, 3),
          },
        }
      : {}),
    ...(bytesPerEpoch
      ? {
          bytesPerEpoch: Math.round(bytesPerEpoch.p50),
          dirtyFraction: round(bytesPerEpoch.p50 / (memoryMiB * 2 ** 20), 4),
        }
      : {}),
  };
}

/** Of what came after `before`, where it is known of how many values the two averages are. */
export function averageSince(before: Percentiles | undefined, after: Percentiles): number {
  const count = (after.count ?? 0) - (before?.count ?? 0);
  if (count <= 0) return after.avg;
  return (after.avg * (after.count ?? 0) - (before?.avg ?? 0) * (before?.count ?? 0)) / count;
}

/** One kill, for those who want to know where the outage went. */
export interface Kill {
  gaps: Gap[];
  killedUs: number;
  /** The same by the wall clock. */
  killedAtMs: number;
  takeover: NonNullable<PairView["takeover"]>;
}

/** Kills the host under the load of checking clients, `kills` times, there and back. */
export async function measureOutage(
  service: Service,
  connections: number,
  kills: number,
  tell: (kill: Kill) => void = () => {},
): Promise<Pick<BenchRow, "outageMs" | "afterDetectionMs" | "takeoverMs" | "replay">> {
  const outagesMs: number[] = [];
  const takeovers: { afterMs: number; totalMs: number; restoreMs: number }[] = [];
  const replays: Omit<Replay, "kills">[] = [];
  for (let i = 0; i < kills; i += 1) {
    const { primary, standby } = await direction(service);
    const client = await service.load({ connections, stallMsMax: 60_000 });
    try {
      await client.makesProgress(connections * 10, 30_000);
      const before = await untilCovered(service, primary);
      const askedMs = performance.now();
      const killedUs = await service.hosts.kill(primary);
      const recordedMs = (before.committedAgeMs ?? 0) + performance.now() - askedMs;
      await client.makesProgress(connections * 10, 60_000);
      const report = await client.stop();
      const broken = brokenPromises(verdictOf(report, await client.verify()));
      if (broken.length > 0) throw new Error(`kill ${i + 1}: ${broken.join("; ")}`);
      const outageMs = outageMsAround(report.gaps, killedUs);
      outagesMs.push(outageMs);
      const { takeover } = await service.untilTakenOver(standby, 30_000);
      const replay = takeover?.replay;
      if (takeover) takeovers.push({ ...takeover, afterMs: outageMs - takeover.detectionMs });
      if (replay) replays.push({ ...replay, recordedMs });
      const killedAtMs = Date.now() - (monotonicUs() - killedUs) / 1000;
      if (takeover) tell({ gaps: report.gaps, killedUs, killedAtMs, takeover });
    } finally {
      client.dispose();
    }
    await service.untilTakenOver(standby, 30_000);
    await service.hosts.boot(primary);
  }
  const of = (field: keyof Omit<Replay, "kills">) =>
    round(median(replays.map((replay) => replay[field])));
  return {
    outageMs: { p50: round(median(outagesMs)), max: round(Math.max(...outagesMs)) },
    afterDetectionMs: {
      p50: round(median(takeovers.map(({ afterMs }) => afterMs))),
      max: round(Math.max(...takeovers.map(({ afterMs }) => afterMs))),
    },
    takeoverMs: {
      total: round(median(takeovers.map(({ totalMs }) => totalMs))),
      restore: round(median(takeovers.map(({ restoreMs }) => restoreMs))),
    },
    ...(replays.length === 0
      ? {}
      : {
          replay: {
            kills: replays.length,
            events: of("events"),
            outputs: of("outputs"),
            ms: of("ms"),
            recordedMs: of("recordedMs"),
            attempts: of("attempts"),
          },
        }),
  };
}

/** In mode hybrid until output waits for the log. */
function untilCovered(service: Service, host: Host): Promise<PairView> {
  const wanted = ({ mode, log }: PairView) => mode !== "hybrid" || log?.covers === true;
  return service.ftctl.until(host, service.name, "a log that covers output", wanted, 30_000);
}

/** Which way the pair points now; waits until it is protected. */
async function direction(service: Service): Promise<{ primary: Host; standby: Host }> {
  const [first = "alpha", second = "beta"] = service.hosts.hosts;
  return poll("a protected pair", 60_000, async () => {
    for (const [primary, standby] of [
      [first, second],
      [second, first],
    ] as const) {
      const view = await service.ftctl.status(primary, service.name).catch(() => undefined);
      if (view?.role === "primary" && view.state === "protected") return { primary, standby };
    }
    return undefined;
  });
}
