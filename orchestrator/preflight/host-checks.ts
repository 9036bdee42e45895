/** Checks of one host, and of two hosts against each other. Pure. */
import type { CheckResult } from "../agent/api-types.js";
import { type Finding, failed, results, some, warning } from "./findings.js";
import type { HostFacts } from "./host-facts.js";

export const CRIU_VERSION_MIN = "4.2";
const KERNEL_MIN = "5.15";
/** Measured (docs/SPECIFICATION.md, "Pause against memory"): what a pause grows by where all memory is copied. */
const WHOLE_MS_PER_100_MIB = 50;
const CLOCK_SKEW_MS_MAX = 2_000;
const DOCKER_FREE_BYTES_MIN = 2 ** 30;
/** Images of two epochs, the blob of one, and what the standby restores from. */
const RUN_DIR_FACTOR = 3;

const KERNEL_REQUIRED = ["CHECKPOINT_RESTORE", "NET_NS", "PID_NS", "UNIX_DIAG", "INET_DIAG"];

/** -1, 0 or 1; compares the leading numbers only: `6.1.0-13-amd64` is 6.1.0. */
export function compareVersions(a: string, b: string): number {
  const numbers = (text: string) =>
    (/^\D*(\d+(?:\.\d+)*)/.exec(text)?.[1] ?? "0").split(".").map(Number);
  const [left, right] = [numbers(a), numbers(b)];
  for (let i = 0; i < Math.max(left.length, right.length); i += 1) {
    const difference = (left[i] ?? 0) - (right[i] ?? 0);
    if (difference !== 0) return Math.sign(difference);
  }
  return 0;
}

export interface HostNeeds {
  /** Memory of the container's processes now. */
  memoryBytes: number;
  /** IPv4 address of the service with its prefix length. */
  address?: string;
  uplink?: string;
  mtu: number;
}

export function hostChecks(facts: HostFacts, needs: HostNeeds): CheckResult[] {
  const check = (name: string, findings: Finding[], ok: string) =>
    results(name, facts.host, findings, ok);
  return [
    ...check("kernel", kernelFindings(facts), `Linux ${facts.kernelRelease}`),
    ...check("memory-tracking", trackingFindings(facts, needs), TRACKED),
    ...check("criu", criuFindings(facts), `CRIU ${facts.criuVersion}`),
    ...check("docker", dockerFindings(facts), `Docker ${facts.docker?.version}, overlay2`),
    ...check("uplink", uplinkFindings(facts, needs), `bridge ${needs.uplink ?? ""}`),
    ...check("service-address", addressFindings(facts, needs), addressReason(facts, needs)),
    ...check("space", spaceFindings(facts, needs), spaceReason(facts)),
  ];
}

function kernelFindings(facts: HostFacts): Finding[] {
  const found: Finding[] = [];
  if (compareVersions(facts.kernelRelease, KERNEL_MIN) < 0) {
    found.push(
      failed(`Linux ${facts.kernelRelease} is older than ${KERNEL_MIN}`, "Update the kernel."),
    );
  }
  const known = Object.keys(facts.kernelConfig).length > 0;
  for (const option of known ? KERNEL_REQUIRED : []) {
    if (!/^[ym]$/.test(facts.kernelConfig[`CONFIG_${option}`] ?? "")) {
      found.push(failed(`the kernel lacks CONFIG_${option}`, "Use the distribution's kernel."));
    }
  }
  if (!facts.hasTun) found.push(failed("/dev/net/tun is missing", "modprobe tun"));
  return found;
}

const TRACKED =
  "wp-async: only pages written since the last checkpoint are copied, as a probe has shown";

function trackingFindings({ tracking }: HostFacts, { memoryBytes }: HostNeeds): Finding[] {
  if (tracking.mode === "wp-async") return [];
  if (tracking.mode === "soft-dirty") {
    return [
      warning(
        `soft-dirty: only pages written since the last checkpoint are copied, but each checkpoint looks at all pages: ${tracking.reason ?? "agent.yaml has tracking: soft-dirty"}`,
        "Use Linux 6.7 or newer for shorter pauses; until then all memory is copied in mode hybrid.",
      ),
    ];
  }
  const mib = memoryBytes / 2 ** 20;
  const cost = `about ${WHOLE_MS_PER_100_MIB} ms of pause per 100 MiB`;
  const here =
    mib === 0
      ? ""
      : `, ${Math.ceil((mib / 100) * WHOLE_MS_PER_100_MIB)} ms for the ${mebibytes(memoryBytes)} here`;
  return [
    warning(
      `full: every checkpoint copies all memory, ${cost}${here}: ${tracking.reason ?? "not known why"}`,
      "Fine for a small service. Otherwise use Linux 6.7 or newer with CONFIG_USERFAULTFD, and tracking: auto.",
    ),
  ];
}

function criuFindings(facts: HostFacts): Finding[] {
  if (facts.criuVersion === undefined) {
    return [failed("no CRIU toolkit is installed", "Run: ftctl init (or make toolkit).")];
  }
  if (compareVersions(facts.criuVersion, CRIU_VERSION_MIN) >= 0) return [];
  return [
    failed(
      `CRIU ${facts.criuVersion} is older than ${CRIU_VERSION_MIN}`,
      "Install the toolkit again.",
    ),
  ];
}

function dockerFindings(facts: HostFacts): Finding[] {
  const docker = facts.docker;
  if (docker === undefined) {
    return [failed(`Docker cannot be asked: ${facts.dockerProblem}`, "systemctl status docker")];
  }
  const found: Finding[] = [];
  if (docker.storageDriver !== "overlay2") {
    found.push(
      failed(
        `Docker's storage driver is ${docker.storageDriver}, not overlay2`,
        'In /etc/docker/daemon.json: "storage-driver": "overlay2" and "features": {"containerd-snapshotter": false}.',
      ),
    );
  }
  if (!docker.liveRestore) {
    found.push(
      warning(
        "live-restore is off: a restart of dockerd stops every container, protected ones too",
        'In /etc/docker/daemon.json: "live-restore": true.',
      ),
    );
  }
  return found;
}

function uplinkFindings(facts: HostFacts, needs: HostNeeds): Finding[] {
  const { uplink } = facts;
  if (needs.uplink === undefined || uplink === undefined) return [];
  if (!uplink.exists) {
    return [
      failed(
        `there is no interface ${needs.uplink}`,
        "Make a bridge of that name with the LAN's interface in it, or name another uplink in the policy.",
      ),
    ];
  }
  if (!uplink.isBridge) {
    return [
      failed(
        `${needs.uplink} is not a bridge`,
        "Put the interface into a bridge and name the bridge.",
      ),
    ];
  }
  const found: Finding[] = [];
  if (!uplink.up)
    found.push(failed(`bridge ${needs.uplink} is down`, `ip link set ${needs.uplink} up`));
  if (uplink.mtu < needs.mtu) {
    found.push(
      failed(`bridge ${needs.uplink} has MTU ${uplink.mtu}, the policy asks for ${needs.mtu}`),
    );
  }
  if (uplink.bridgeCallsIptables) {
    found.push(
      warning(
        "iptables also filters frames that only cross the bridge; Docker's rules drop them",
        "sysctl net.bridge.bridge-nf-call-iptables=0",
      ),
    );
  }
  return found;
}

function addressFindings(facts: HostFacts, needs: HostNeeds): Finding[] {
  const [ip] = (needs.address ?? "").split("/");
  if (!ip) return [];
  if ((facts.uplink?.addresses ?? []).some((address) => address.startsWith(`${ip}/`))) {
    return [failed(`${ip} is an address of this host`, "Give the service an address of its own.")];
  }
  if (facts.addressInUse === true) {
    return [failed(`somebody on the LAN already answers for ${ip}`, "Choose a free address.")];
  }
  const subnets = facts.uplink?.addresses ?? [];
  const elsewhere = subnets.length > 0 && !subnets.some((address) => sameSubnet(address, ip));
  if (!elsewhere) return [];
  return [
    warning(`this host's address on the bridge (${some(subnets)}) is in another subnet than ${ip}`),
  ];
}

function addressReason(facts: HostFacts, needs: HostNeeds): string {
  const tried = facts.addressInUse === false ? "nobody answers for it" : "not asked on the LAN";
  return needs.address === undefined ? "not given" : `${needs.address}: ${tried}`;
}

function sameSubnet(address: string, ip: string): boolean {
  const [own = "", prefix = "32"] = address.split("/");
  const number = (text: string) =>
    text.split(".").reduce((sum, part) => sum * 256 + Number(part), 0);
  const size = 2 ** (32 - Number(prefix));
  return Math.floor(number(own) / size) === Math.floor(number(ip) / size);
}

const mebibytes = (bytes: number) => `${Math.round(bytes / 2 ** 20)} MiB`;

function spaceFindings(facts: HostFacts, needs: HostNeeds): Finding[] {
  const found: Finding[] = [];
  const wanted = needs.memoryBytes * RUN_DIR_FACTOR;
  const { runDirFreeBytes, memoryAvailableBytes, dockerFreeBytes } = facts.space;
  const room = Math.min(runDirFreeBytes, memoryAvailableBytes);
  if (room < wanted) {
    found.push(
      failed(
        `checkpoints of ${mebibytes(needs.memoryBytes)} of memory need about ${mebibytes(wanted)} of tmpfs, ${mebibytes(room)} are free`,
        "Make the tmpfs of the runtime folder larger, or give the host more memory.",
      ),
    );
  }
  if (facts.docker !== undefined && dockerFreeBytes < DOCKER_FREE_BYTES_MIN) {
    found.push(
      warning(`Docker's disk has only ${mebibytes(dockerFreeBytes)} left`, "docker system prune"),
    );
  }
  return found;
}

function spaceReason(facts: HostFacts): string {
  const { runDirFreeBytes, dockerFreeBytes } = facts.space;
  return `${mebibytes(runDirFreeBytes)} of tmpfs and ${mebibytes(dockerFreeBytes)} of disk are free`;
}

/** Flags of the kernel's own and of its mitigations: no program's instructions depend on them. */
const KERNELS_FLAGS =
  /^(arat|arch_capabilities|constant_tsc|nonstop_tsc|nopl|rep_good|tsc_\w+|ibrs\w*|ibpb\w*|stibp\w*|ssbd|virt_ssbd|md_clear|flush_l1d|pti|kaiser|vmx|svm|ept\w*|vpid|vnmi|npt|lbrv|hypervisor|cpuid\w*|aperfmperf|acpi|apic|x2apic|mtrr|pat|pge|pse\w*|dtherm|ida|pln|pts|hwp\w*|epb|tm|tm2|est|xtopology|extd_apicid|perfctr_\w+|topoext|invpcid\w*|overflow_recov|succor|debug_swap|sev\w*|sme|amd_\w+|intel_\w+|spec_ctrl|split_lock_detect|bus_lock_detect|la57|smep|smap|umip|nx|art|arch_perfmon|pebs|bts|pdcm|pdpe1gb|mce|mca|de|vme|ss|ht|pbe|cat_\w+|cdp_\w+|cqm\w*|rdt_a|dts|decodeassists|flushbyasid|nrip_save|pausefilter|pfthreshold|tsc_scale|v_vmsave_vmload|vgif|vmcb_clean|vmmcall|wbnoinvd)$/;

/** @param recorded  mode hybrid */
export function pairChecks(
  primary: HostFacts,
  standby: HostFacts,
  recorded = false,
): CheckResult[] {
  const check = (name: string, findings: Finding[], ok: string) =>
    results(name, standby.host, findings, ok);
  const image = standby.hasImage ? "the standby has it" : "it will be shipped";
  return [
    ...check("cpu-features", cpuFindings(primary, standby), "the standby has all of the primary's"),
    ...check("kernel-versions", kernelDifference(primary, standby), "alike"),
    ...check("docker-versions", dockerDifference(primary, standby), "alike"),
    ...check("image", [], image),
    ...(recorded ? check("recorder", recorderFindings(primary, standby), "the same build") : []),
    ...check("container-name", nameFindings(standby), "free on the standby"),
    ...check("bind-sources", bindFindings(primary, standby), "present on the standby"),
    ...check("clock", clockFindings(primary, standby), "the hosts' clocks agree"),
  ];
}

function cpuFindings(primary: HostFacts, standby: HostFacts): Finding[] {
  const has = new Set(standby.cpuFlags);
  const missing = primary.cpuFlags.filter((flag) => !has.has(flag) && !KERNELS_FLAGS.test(flag));
  if (missing.length > 0) {
    return [
      failed(
        `the standby's CPU lacks ${some(missing, 8)}, which programs on the primary may use`,
        "Take a host with the same CPU, or give both virtual machines the same CPU model.",
      ),
    ];
  }
  const extra = standby.cpuFlags.filter(
    (flag) => !primary.cpuFlags.includes(flag) && !KERNELS_FLAGS.test(flag),
  );
  if (extra.length === 0) return [];
  return [
    warning(
      `the standby's CPU also has ${some(extra, 8)}: after a failover the service may not come back to ${primary.host}`,
    ),
  ];
}

function kernelDifference(primary: HostFacts, standby: HostFacts): Finding[] {
  if (primary.kernelRelease === standby.kernelRelease) return [];
  return [
    warning(
      `${primary.host} runs Linux ${primary.kernelRelease}, ${standby.host} ${standby.kernelRelease}: only equal kernels are tested`,
    ),
  ];
}

function dockerDifference(primary: HostFacts, standby: HostFacts): Finding[] {
  const [a, b] = [primary.docker, standby.docker];
  if (a === undefined || b === undefined) return [];
  if (a.cgroupVersion !== b.cgroupVersion) {
    return [
      failed(
        `control groups are version ${a.cgroupVersion} on one host and ${b.cgroupVersion} on the other`,
      ),
    ];
  }
  if (a.version === b.version) return [];
  return [warning(`Docker ${a.version} on ${primary.host}, ${b.version} on ${standby.host}`)];
}

type RecorderOf = Pick<HostFacts, "host" | "recorderBuild">;

/** What one build has recorded is in the application's memory, and only the same can go on from it. */
export function recorderFindings(primary: RecorderOf, standby: RecorderOf): Finding[] {
  const [a, b] = [primary.recorderBuild, standby.recorderBuild];
  if (a !== undefined && a === b) return [];
  const said = (build: string | undefined) => build?.slice(0, 12) ?? "none";
  return [
    failed(
      `libftrec.so is of another build (${said(a)} on ${primary.host}, ${said(b)} on ${standby.host}): a replay would not understand the recorder's state`,
      "Install the same ftctl on both hosts.",
    ),
  ];
}

function nameFindings(standby: HostFacts): Finding[] {
  if (!standby.nameTaken) return [];
  return [
    failed("a container of the service's name exists on the standby", "Rename or remove it there."),
  ];
}

function bindFindings(primary: HostFacts, standby: HostFacts): Finding[] {
  return Object.entries(primary.bindSources)
    .filter(([path, kind]) => standby.bindSources[path] !== kind)
    .map(([path, kind]) =>
      failed(
        `the bind mount's source ${path} is a ${kind} on ${primary.host} and ${standby.bindSources[path] ?? "missing"} on ${standby.host}`,
        "Make it there too, with the same content; or, for a folder, let the policy replicate it.",
      ),
    );
}

function clockFindings(primary: HostFacts, standby: HostFacts): Finding[] {
  const skewMs = Math.abs(primary.wallMs - standby.wallMs);
  if (skewMs <= CLOCK_SKEW_MS_MAX) return [];
  return [
    warning(
      `the hosts' clocks are ${Math.round(skewMs / 1000)} s apart: after a failover the service sees time jump`,
      "Run a time service (chrony, systemd-timesyncd) on both hosts.",
    ),
  ];
}
