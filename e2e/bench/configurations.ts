/** The configurations that are compared: how each brings the same service up at the same address. */
import type { PairView } from "../../orchestrator/agent/api-types.js";
import { clearHosts } from "../runner/clear.js";
import type { Host, Hosts } from "../runner/hosts.js";
import { poll } from "../runner/poll.js";
import type { PolicyOverrides, Service } from "../runner/service.js";
import { CheckpointLoop } from "./docker-checkpoint.js";
import { LocalLog } from "./local-log.js";

/** A service that is up, and how to ask about it. */
export interface Running {
  service: Service;
  host: Host;
  note?: string;
  /** Where it is recorded: of the event log, so far. */
  logBytes?: () => Promise<number>;
  /** Of a protected service. */
  view?: () => Promise<PairView>;
  /** Ends what goes on beside the service. */
  finish?: () => Promise<string | undefined>;
}

export interface Configuration {
  name: string;
  epochMs?: number;
  /** The outage is measured, whatever the epoch. */
  kills?: boolean;
  start(service: Service): Promise<Running>;
}

const primary = "alpha";
const standby = "beta";

export async function asOnTheMachine(hosts: Hosts): Promise<void> {
  for (const host of hosts.hosts) if (!(await hosts.isOn(host))) await hosts.boot(host);
  await clearHosts(hosts);
}

/** Puts a veth of the container on the host's LAN bridge: what Docker's own networking does, without its NAT. */
export async function plugIntoLan(service: Service, host: Host, pid: number): Promise<void> {
  const script = [
    `ip link add ftbench0 type veth peer name eth0 netns ${pid}`,
    "ip link set ftbench0 master br0 up",
    `nsenter -t ${pid} -n sh -ec 'ip link set lo up; ip addr add ${service.address}/24 dev eth0; ip link set eth0 up'`,
  ].join("\n");
  const result = await service.hosts.exec(host, ["sh", "-ec", script]);
  if (result.exitCode !== 0) throw new Error(`veth of the stock container: ${result.stderr}`);
}

const stock: Configuration = {
  name: "stock",
  start: async (service) => {
    await service.run(primary);
    const format = ["inspect", "-f", "{{.State.Pid}}", service.name];
    const pid = Number((await service.docker(primary, format)).stdout.trim());
    await plugIntoLan(service, primary, pid);
    await service.untilListening();
    return { service, host: primary };
  },
};

/** All frames pass through the gate, which releases them at once: an unprotected pair. */
const gateOnly: Configuration = {
  name: "gate-only",
  start: async (service) => {
    return unprotected(service, {});
  },
};

async function unprotected(service: Service, mode: PolicyOverrides): Promise<Running> {
  await service.run(primary);
  const policy = { failover: "manual", onStandbyLoss: "run-unprotected", reprotect: "manual" };
  await service.protect(primary, standby, { ...policy, ...mode });
  await service.hosts.kill(standby);
  const wanted = (view: PairView) => view.state === "unprotected";
  await service.ftctl.until(primary, service.name, "unprotected", wanted, 30_000);
  await service.untilListening();
  return { service, host: primary };
}

/** Recorded, and nothing else: no gate, and a log that nobody ships. */
const recorded: Configuration = {
  name: "recorded",
  start: async (service) => {
    const log = await LocalLog.make(service.hosts, primary);
    await service.run(primary, log.dockerArgs);
    await log.keepTrimmed();
    const format = ["inspect", "-f", "{{.State.Pid}}", service.name];
    const pid = Number((await service.docker(primary, format)).stdout.trim());
    await plugIntoLan(service, primary, pid);
    await service.untilListening();
    await log.mustRecord();
    return { service, host: primary, logBytes: () => log.bytes(), finish: () => log.remove() };
  },
};

/** Recorded behind a gate that releases at once: mode hybrid without a standby. */
const recordedGate: Configuration = {
  name: "recorded-gate",
  start: async (service) => {
    const running = await unprotected(service, { mode: "hybrid" });
    return { ...running, note: "mode hybrid without a standby" };
  },
};

const hybridOver = (wire: "shared" | "dedicated"): Configuration => ({
  name: wire === "shared" ? "hybrid" : "hybrid-dedicated-wire",
  kills: wire === "shared",
  start: async (service) => {
    await service.run(primary);
    await service.protect(primary, standby, { mode: "hybrid", transfer: { wire } });
    const covers = (view: PairView) => view.log?.covers === true;
    await service.ftctl.until(primary, service.name, "a log that covers output", covers, 30_000);
    await service.untilListening();
    const view = () => service.ftctl.status(primary, service.name);
    return { service, host: primary, view, logBytes: async () => (await view()).log?.bytes ?? 0 };
  },
});

export const checkpoint = (epochMs: number): Configuration => ({
  name: "checkpoint",
  epochMs,
  start: async (service) => {
    await service.run(primary);
    await service.protect(primary, standby, { epoch: { intervalMs: epochMs } });
    await service.untilListening();
    return {
      service,
      host: primary,
      view: () => service.ftctl.status(primary, service.name),
    };
  },
});

/** For comparison: Docker's own checkpoints, one after the other, with no guarantee at all. */
const dockerCheckpoint: Configuration = {
  name: "docker-checkpoint-loop",
  start: async (service) => {
    const loop = await CheckpointLoop.start(service, primary);
    await service.untilListening();
    return {
      service,
      host: primary,
      finish: async () => {
        const { count, averageMs } = await loop.stop();
        return `${count} checkpoints, ${Math.round(averageMs)} ms each; nothing is held, shipped or restorable in order`;
      },
    };
  },
};

export function configurations(epochs: number[]): Configuration[] {
  return [
    ...[stock, gateOnly, recorded, recordedGate],
    ...[...epochs.map(checkpoint), hybridOver("shared"), hybridOver("dedicated"), dockerCheckpoint],
  ];
}

/** The application's first process, as this machine sees it. */
export async function applicationPid(running: Running): Promise<number> {
  const pattern: Record<string, RegExp> = {
    redis: /^(\S*\/)?redis-server /,
    memcached: /^(\S*\/)?memcached /,
    nginx: /^nginx: master/,
    lighttpd: /^(\S*\/)?lighttpd /,
  };
  const wanted = pattern[running.service.spec.workload];
  if (!wanted) throw new Error(`no application pattern for ${running.service.spec.workload}`);
  return poll("the application's process", 10_000, async () => {
    return running.service.hosts.pids(running.host, wanted)[0];
  });
}
