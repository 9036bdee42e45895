/** What protection costs when nothing happens: epochs at the idle interval only. */
import { pause } from "../runner/poll.js";
import type { Service } from "../runner/service.js";
import { checkpoint } from "./configurations.js";
import { processCpuUs } from "./cpu.js";
import { type IdleCpu, round } from "./rows.js";

const settleMs = 3_000;

/** Of the primary's host, which has the more to do. */
export async function measureIdle(service: Service, durationMs: number): Promise<IdleCpu> {
  const { host } = await checkpoint(25).start(service);
  await pause(settleMs);
  const groups = {
    agentPercent: service.hosts.pids(host, /ftctl.* agent|cli\/main\.js agent/),
    gatePercent: service.hosts.pids(host, /(^|\/)ftgate /),
    helpersPercent: service.hosts.pids(host, /(^|\/)(ftdump|ftstore) /),
  };
  const cpuUs = (pids: number[]) => pids.reduce((sum, pid) => sum + processCpuUs(pid), 0);
  const before = Object.values(groups).map(cpuUs);
  const beganMs = performance.now();
  await pause(durationMs);
  const wallUs = (performance.now() - beganMs) * 1000;
  const [agentPercent = 0, gatePercent = 0, helpersPercent = 0] = Object.values(groups).map(
    (pids, i) => round(((cpuUs(pids) - before[i]!) / wallUs) * 100, 2),
  );
  return { agentPercent, gatePercent, helpersPercent };
}
