/** Checks of a container's configuration: what Docker and the kernel say about how it was set up. Pure. */
import type { CheckResult } from "../agent/api-types.js";
import { type PolicyMount, writableVolumes } from "../docker/capture-roots.js";
import { label } from "../docker/container-spec.js";
import type { ContainerInspect } from "../docker/docker-types.js";
import { containerName } from "../docker/docker-types.js";
import { isBelow, type Mount } from "../docker/mountinfo.js";
import { type Finding, failed, results, some, warning } from "./findings.js";

export interface ContainerFacts {
  inspect: ContainerInspect;
  /** Of its first process; empty if it does not run. */
  mounts: Mount[];
  policyMounts: PolicyMount[];
  /** What lies behind each bind mount on this host, by source. */
  bindSources: Record<string, "folder" | "file" | "socket" | "device" | "missing">;
}

export function containerChecks(facts: ContainerFacts, host: string): CheckResult[] {
  const { inspect } = facts;
  const check = (name: string, findings: Finding[], ok: string) =>
    results(name, host, findings, ok);
  return [
    ...check("container", stateFindings(inspect), `${containerName(inspect)} runs`),
    ...check("privileges", privilegeFindings(inspect), "not privileged"),
    ...check("namespaces", namespaceFindings(inspect), "all its own"),
    ...check("terminal", terminalFindings(inspect), "none"),
    ...check("devices", deviceFindings(inspect), "none"),
    ...check("container-network", networkFindings(inspect), "one network, no published ports"),
    ...check("mounts", mountFindings(facts), "all can be protected"),
    ...check("volumes", volumeFindings(facts), "the policy decides about each"),
    ...check("storage", storageFindings(inspect), "overlay2"),
    ...check("management", managementFindings(inspect), "by nobody else"),
  ];
}

function stateFindings(inspect: ContainerInspect): Finding[] {
  const found: Finding[] = [];
  const name = containerName(inspect);
  const pair = inspect.Config.Labels?.[label.pair];
  if (pair !== undefined) found.push(failed(`it belongs to pair ${pair} already`, "ftctl status"));
  if (!inspect.State.Running) found.push(failed("it does not run", `docker start ${name}`));
  if (inspect.State.Paused) found.push(failed("it is paused", `docker unpause ${name}`));
  if (inspect.HostConfig.AutoRemove) {
    const why =
      "it was started with --rm: Docker deletes it when it is stopped, so nothing could be undone";
    found.push(failed(why, "Start it without --rm."));
  }
  const runtime = inspect.HostConfig.Runtime ?? "runc";
  if (!["", "runc", "crun", "io.containerd.runc.v2"].includes(runtime)) {
    found.push(
      failed(
        `its runtime is ${runtime}`,
        "Only runc and crun share the host's kernel as CRIU needs.",
      ),
    );
  }
  return found;
}

function privilegeFindings(inspect: ContainerInspect): Finding[] {
  if (!inspect.HostConfig.Privileged) return [];
  return [
    failed(
      "it is privileged",
      "Give it the capabilities it needs (--cap-add) instead of --privileged.",
    ),
  ];
}

function namespaceFindings(inspect: ContainerInspect): Finding[] {
  const host = inspect.HostConfig;
  const modes: [string, string, string | undefined][] = [
    ["pid", "--pid", host.PidMode],
    ["network", "--network", host.NetworkMode],
    ["ipc", "--ipc", host.IpcMode],
    ["uts", "--uts", host.UTSMode],
    ["user", "--userns", host.UsernsMode],
  ];
  return modes
    .filter(([, , mode]) => mode === "host" || mode?.startsWith("container:"))
    .map(([name, flag, mode]) => {
      const whose =
        mode === "host" ? "the host's" : `that of ${mode?.slice("container:".length, 40)}`;
      return failed(`its ${name} namespace is ${whose}`, `Start it without ${flag} ${mode}.`);
    });
}

function terminalFindings(inspect: ContainerInspect): Finding[] {
  if (inspect.Config.Tty)
    return [failed("it has a terminal (docker run -t)", "Start it without -t.")];
  if (!inspect.Config.OpenStdin) return [];
  return [
    warning("its standard input is open (docker run -i): after a failover it reads end of file"),
  ];
}

function deviceFindings(inspect: ContainerInspect): Finding[] {
  const devices = (inspect.HostConfig.Devices ?? []) as { PathInContainer?: string }[];
  const found = devices.map((device) =>
    failed(
      `it has the device ${device.PathInContainer}`,
      "A device's state cannot be checkpointed; start it without.",
    ),
  );
  if ((inspect.HostConfig.DeviceRequests ?? []).length > 0)
    found.push(failed("it uses a GPU (--gpus)"));
  return found;
}

function networkFindings(inspect: ContainerInspect): Finding[] {
  const found: Finding[] = [];
  const networks = Object.keys(inspect.NetworkSettings.Networks);
  if (networks.length > 1) {
    found.push(
      failed(
        `it is on ${networks.length} networks (${some(networks)}); protection gives it one`,
        "Leave all but one: docker network disconnect.",
      ),
    );
  }
  const ports = Object.entries(inspect.HostConfig.PortBindings ?? {})
    .filter(([, bindings]) => bindings !== null)
    .map(([port]) => port);
  if (ports.length > 0) {
    found.push(
      warning(
        `its published ports (${some(ports)}) end: clients reach it at the service address`,
        "Point clients at the service address.",
      ),
    );
  }
  if (networks.some((network) => !["bridge", "none", "host"].includes(network))) {
    found.push(
      warning(
        "names of other containers on its Docker network no longer resolve",
        "Use addresses or DNS names, or --add-host.",
      ),
    );
  }
  if ((inspect.HostConfig.Links ?? []).length > 0) found.push(warning("its --link aliases end"));
  return found;
}

const LOCAL_TYPES = new Set(["ext2", "ext3", "ext4", "xfs", "btrfs", "f2fs", "tmpfs", "overlay"]);
const KERNEL_TYPES = new Set(["proc", "sysfs", "devpts", "mqueue", "cgroup", "cgroup2"]);
/** What the runtime itself mounts into every container. */
const RUNTIMES_OWN = [
  "/etc/resolv.conf",
  "/etc/hostname",
  "/etc/hosts",
  "/dev",
  "/proc",
  "/sys",
  "/sbin/docker-init",
  "/.ftctl",
];

function mountFindings(facts: ContainerFacts): Finding[] {
  const { inspect, mounts } = facts;
  const shared = new Set(
    facts.policyMounts.filter((m) => m.action === "shared").map((m) => m.target),
  );
  const configured = new Set([
    "/",
    ...inspect.Mounts.map((mount) => mount.Destination),
    ...Object.keys(inspect.HostConfig.Tmpfs ?? {}),
  ]);
  const found: Finding[] = [];
  for (const mount of mounts) {
    if (!LOCAL_TYPES.has(mount.type) && !KERNEL_TYPES.has(mount.type)) {
      const what = `${mount.target} is a mount of type ${mount.type}`;
      if (shared.has(mount.target)) found.push(warning(`${what}, shared by both hosts`));
      else
        found.push(
          failed(
            what,
            "Take a local volume, or, if both hosts mount it, let the policy say action: shared.",
          ),
        );
    } else if (
      !configured.has(mount.target) &&
      !RUNTIMES_OWN.some((own) => isBelow(mount.target, own))
    ) {
      found.push(
        failed(
          `${mount.target} was mounted inside the container while it ran; the standby would lack it`,
        ),
      );
    }
  }
  for (const mount of inspect.Mounts) {
    if (mount.Type !== "bind") continue;
    const kind = facts.bindSources[mount.Source];
    if (kind === "socket")
      found.push(
        failed(
          `${mount.Destination} is a socket of the host (${mount.Source})`,
          "Its other end stays behind at a failover.",
        ),
      );
    if (kind === "device")
      found.push(failed(`${mount.Destination} is a device of the host (${mount.Source})`));
  }
  return found;
}

function volumeFindings(facts: ContainerFacts): Finding[] {
  const { inspect, policyMounts } = facts;
  const normal = (path: string) => path.replace(/(.)\/+$/, "$1");
  const decided = new Map(policyMounts.map((mount) => [normal(mount.target), mount.action]));
  const found: Finding[] = [];
  for (const target of writableVolumes(inspect)) {
    if (decided.has(target)) continue;
    found.push(
      failed(
        `${target} is writable, but the policy does not say what becomes of it`,
        `Add {target: ${target}, action: replicate} (or shared, or ignore) to spec.files.mounts.`,
      ),
    );
  }
  for (const [target, action] of decided) {
    const mount = inspect.Mounts.find((point) => point.Destination === target);
    if (mount === undefined)
      found.push(failed(`the policy names ${target}, where nothing is mounted`));
    else if (action === "ignore" && mount.RW)
      found.push(warning(`${target} is not replicated: the standby has its own`));
    else if (action === "replicate" && facts.bindSources[mount.Source] === "file") {
      found.push(
        failed(
          `${target} is a single file; only folders are replicated`,
          "Mount the folder that holds it.",
        ),
      );
    }
    if (mount?.Driver !== undefined && mount.Driver !== "" && mount.Driver !== "local") {
      found.push(
        warning(
          `the volume at ${target} has the driver ${mount.Driver}, which the standby needs too`,
        ),
      );
    }
  }
  return found;
}

function storageFindings(inspect: ContainerInspect): Finding[] {
  if (inspect.GraphDriver.Name === "overlay2") return [];
  return [
    failed(
      `its files are kept by ${inspect.GraphDriver.Name || inspect.Driver}, not overlay2`,
      'In /etc/docker/daemon.json: "storage-driver": "overlay2".',
    ),
  ];
}

function managementFindings(inspect: ContainerInspect): Finding[] {
  const labels = Object.keys(inspect.Config.Labels ?? {});
  const by = (prefix: string) => labels.some((name) => name.startsWith(prefix));
  const found: Finding[] = [];
  if (by("com.docker.swarm."))
    found.push(failed("a swarm manages it and would replace it", "Run it outside of the swarm."));
  if (by("io.kubernetes.")) found.push(failed("Kubernetes manages it and would replace it"));
  if (by("com.docker.compose.")) {
    found.push(
      warning(
        "Compose manages it: docker compose up may replace the protected container",
        "Do not run docker compose up for this service while it is protected.",
      ),
    );
  }
  return found;
}
