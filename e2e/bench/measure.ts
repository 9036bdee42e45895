/** One row: a configuration, a workload, a number of connections. */

import { brokenPromises, verdictOf } from "../checkers/verdict.js";
import { outageMsAround } from "../clients/latency.js";
import type { Host } from "../runner/hosts.js";
import { poll } from "../runner/poll.js";
import type { Service } from "../runner/service.js";
import { applicationPid, type Configuration, type Running } from "./configurations.js";
import { cgroupCpuUs, residentMiB } from "./cpu.js";
import { type BenchWorkload, measureLoad } from "./load-generator.js";
import { type BenchRow, median, round } from "./rows.js";

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
  const memoryMiB = residentMiB(pid);
  return {
    configuration: configuration.name,
    ...(configuration.epochMs === undefined ? {} : { epochMs: configuration.epochMs }),
    workload: service.spec.workload,
    connections,
    memoryMiB: round(memoryMiB),
    throughputRps: round(figures.requests / figures.seconds),
    latencyUs: { avg: round(figures.avg), p50: figures.p50, p99: figures.p99 },
    serverCpuUsPerOp: round(cpuUs / served, 2),
    ...(await epochFigures(running, memoryMiB)),
  };
}

async function epochFigures(running: Running, memoryMiB: number): Promise<Partial<BenchRow>> {
  const view = await running.view?.();
  if (!view) return {};
  const { pauseMs, pausePartsMs, outputDelayMs, bytesPerEpoch } = view;
  return {
    ...(pauseMs ? { pauseMs: { p50: round(pauseMs.p50, 2), p99: round(pauseMs.p99, 2) } } : {}),
    ...(pausePartsMs ? { pausePartsMs } : {}),
    ...(outputDelayMs
      ? {
          outputDelayMs: {
            avg: round(outputDelayMs.avg),
            p50: round(outputDelayMs.p50),
            p99: round(outputDelayMs.p99),
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

/** Kills the host under the load of checking clients, `kills` times, there and back. */
export async function measureOutage(
  service: Service,
  connections: number,
  kills: number,
): Promise<{ p50: number; max: number }> {
  const outagesMs: number[] = [];
  for (let i = 0; i < kills; i += 1) {
    const { primary, standby } = await direction(service);
    const client = await service.load({ connections, stallMsMax: 60_000 });
    try {
      await client.makesProgress(connections * 10, 30_000);
      const killedUs = await service.hosts.kill(primary);
      await client.makesProgress(connections * 10, 60_000);
      const report = await client.stop();
      const broken = brokenPromises(verdictOf(report, await client.verify()));
      if (broken.length > 0) throw new Error(`kill ${i + 1}: ${broken.join("; ")}`);
      outagesMs.push(outageMsAround(report.gaps, killedUs));
    } finally {
      client.dispose();
    }
    await service.untilTakenOver(standby, 30_000);
    await service.hosts.boot(primary);
  }
  return { p50: round(median(outagesMs)), max: round(Math.max(...outagesMs)) };
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
