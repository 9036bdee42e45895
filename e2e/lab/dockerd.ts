/** The Docker of one lab host: own data root, exec root, socket, configuration and control group. */
import { existsSync, mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type Docker from "dockerode";
import { asFtError, FtError } from "../../orchestrator/errors/error.js";
import { inHost, signalDaemon, startDaemon, waitForEnd } from "./host.js";
import type { HostLayout } from "./layout.js";
import { until } from "./run.js";

export const DOCKER_SOCKET = "/run/docker.sock";
const START_TIMEOUT_MS = 60_000;
const STOP_TIMEOUT_MS = 20_000;

/** The same Docker at a path that the machine and the lab's other hosts see too: a host's /run is its own. */
export function sharedSocket(host: HostLayout): string {
  return join(host.dir, "docker.sock");
}

/**
 * Written as a file, so that the machine's own configuration cannot mix in. The containerd image store is off (it is
 * the default from Docker 29 on): a writable layer must be a plain overlay.
 */
export function daemonConfig(host: HostLayout): Record<string, unknown> {
  return {
    "data-root": "/var/lib/docker",
    "exec-root": "/run/docker",
    pidfile: "/run/dockerd-own.pid",
    hosts: [`unix://${DOCKER_SOCKET}`, `unix://${sharedSocket(host)}`],
    "storage-driver": "overlay2",
    features: { "containerd-snapshotter": false },
    bridge: "none",
    iptables: false,
    ip6tables: false,
    "ip-forward": false,
    "ip-masq": false,
    "userland-proxy": false,
    "live-restore": true,
    "cgroup-parent": `/${host.cgroup}`,
    "exec-opts": ["native.cgroupdriver=cgroupfs"],
    "log-driver": "json-file",
  };
}

export async function startDockerd(host: HostLayout, init: number): Promise<void> {
  const folder = join(host.dir, "etc/docker");
  mkdirSync(folder, { recursive: true });
  writeFileSync(join(folder, "daemon.json"), `${JSON.stringify(daemonConfig(host), null, 2)}\n`);
  await startDaemon(host, init, "dockerd", ["dockerd"], {});
  const docker = await dockerOf(init);
  let last: unknown;
  await until(`start of Docker on ${host.name}`, START_TIMEOUT_MS, async () => {
    try {
      await docker.ping();
      return true;
    } catch (error) {
      last = error;
      return false;
    }
  }).catch((error: unknown) => {
    throw new FtError({
      code: "LAB_DOCKER_NOT_STARTED",
      subject: `host ${host.name}`,
      message: `${asFtError(error, host.name).message}: ${asFtError(last, host.name).message}`,
      log: join(host.dir, "dockerd.log"),
    });
  });
}

/** The host's Docker, called from the machine through the host's root. */
export async function dockerOf(init: number): Promise<Docker> {
  // Loaded when needed: most commands of the lab never talk to Docker.
  const { default: Client } = await import("dockerode");
  return new Client({ socketPath: inHost(init, DOCKER_SOCKET) });
}

export async function killDockerd(init: number): Promise<void> {
  await signalDaemon(init, "dockerd", "KILL");
  await waitForEnd(init, "dockerd", STOP_TIMEOUT_MS);
}

export function hasSocket(init: number): boolean {
  return existsSync(inHost(init, DOCKER_SOCKET));
}
