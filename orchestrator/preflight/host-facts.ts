/**
 * What preflight knows of a host: plain JSON, gathered by that host's own agent and sent to the one that decides.
 * Probes are thin; everything that judges is in host-checks.ts and pair-checks.ts.
 */
import { readFile, stat, statfs } from "node:fs/promises";
import { join } from "node:path";
import { gunzipSync } from "node:zlib";
import { execa } from "execa";
import type { Clock } from "../clock.js";
import type { Engine } from "../docker/engine.js";
import { FtError } from "../errors/error.js";
import { decodeLineValue } from "../network/line-client.js";

const COMMAND_TIMEOUT_MS = 5_000;

export interface UplinkFacts {
  exists: boolean;
  isBridge: boolean;
  up: boolean;
  mtu: number;
  /** IPv4 addresses of the host on it, with prefix length. */
  addresses: string[];
  /** iptables sees frames that only cross a bridge. */
  bridgeCallsIptables: boolean;
}

export interface SpaceFacts {
  runDirFreeBytes: number;
  stateDirFreeBytes: number;
  dockerFreeBytes: number;
  memoryAvailableBytes: number;
}

export interface HostFacts {
  host: string;
  kernelRelease: string;
  /** `CONFIG_*` of the running kernel; empty if it does not say. */
  kernelConfig: Record<string, string>;
  hasTun: boolean;
  /** How written memory will be found, as a probe has shown; with the reason if it is not. */
  tracking: { mode: "wp-async" | "soft-dirty" | "full"; reason?: string };
  cpuModel: string;
  cpuFlags: string[];
  /** Of the CRIU toolkit; absent: not installed. */
  criuVersion?: string;
  /** The build of libftrec.so; absent: there is none, or none that says so. */
  recorderBuild?: string;
  docker?: { version: string; storageDriver: string; cgroupVersion: string; liveRestore: boolean };
  /** Why Docker could not be asked. */
  dockerProblem?: string;
  hasImage: boolean;
  uplink?: UplinkFacts;
  /** `undefined`: could not be found out. */
  addressInUse?: boolean;
  space: SpaceFacts;
  wallMs: number;
  /** Host side of the bind mounts asked for: what is there. */
  bindSources: Record<string, "folder" | "file" | "socket" | "device" | "missing">;
  /** Containers of the service's name that are not this pair's. */
  nameTaken: boolean;
}

export interface HostQuestions {
  imageId: string;
  containerName: string;
  uplink?: string;
  /** Without prefix length. */
  address?: string;
  bindSources: string[];
  /** Ask the LAN whether somebody has the service address. */
  probeAddress: boolean;
  /** Role of the asked host: the standby must have the name free. */
  role: "primary" | "standby";
}

export interface HostEnvironment {
  host: string;
  engine: Engine;
  clock: Clock;
  runDir: string;
  stateDir: string;
  criuVersion: string | undefined;
  /** build/ */
  nativeDir: string;
  /** As agent.yaml has it. */
  tracking: "auto" | "soft-dirty" | "full";
}

export async function gatherHostFacts(
  environment: HostEnvironment,
  questions: HostQuestions,
): Promise<HostFacts> {
  const release = (await readFile("/proc/sys/kernel/osrelease", "utf8")).trim();
  const cpuinfo = parseCpuinfo(await readFile("/proc/cpuinfo", "utf8"));
  const docker = await dockerFacts(environment, questions);
  return {
    host: environment.host,
    kernelRelease: release,
    kernelConfig: parseKernelConfig(await kernelConfigText(release)),
    hasTun: await exists("/dev/net/tun"),
    tracking: await trackingFacts(environment),
    cpuModel: cpuinfo.model,
    cpuFlags: cpuinfo.flags,
    ...(environment.criuVersion === undefined ? {} : { criuVersion: environment.criuVersion }),
    ...(await recorderFacts(environment.nativeDir)),
    ...docker.facts,
    ...(questions.uplink === undefined ? {} : { uplink: await uplinkFacts(questions.uplink) }),
    ...(await addressFacts(questions)),
    space: await spaceFacts(environment, docker.rootDir),
    wallMs: environment.clock.wallMs(),
    bindSources: await bindSourceFacts(questions.bindSources),
  };
}

export async function recorderFacts(nativeDir: string): Promise<Pick<HostFacts, "recorderBuild">> {
  const library = join(nativeDir, "lib/libftrec.so");
  const options = { reject: false, timeout: COMMAND_TIMEOUT_MS };
  const said = await execa(join(nativeDir, "bin/ftlog"), ["build", library], options);
  return said.exitCode === 0 ? { recorderBuild: said.stdout.trim() } : {};
}

async function dockerFacts(environment: HostEnvironment, questions: HostQuestions) {
  const { engine } = environment;
  try {
    const [version, info, image, holder] = await Promise.all([
      engine.version(),
      engine.info(),
      engine.image(questions.imageId),
      engine.find(questions.containerName),
    ]);
    const docker = {
      version: version.version,
      storageDriver: info.storageDriver,
      cgroupVersion: info.cgroupVersion,
      liveRestore: info.liveRestore,
    };
    const nameTaken = questions.role === "standby" && holder !== undefined;
    const hasImage = image?.id === questions.imageId;
    return { facts: { docker, hasImage, nameTaken }, rootDir: info.rootDir };
  } catch (error) {
    if (!(error instanceof FtError)) throw error;
    const facts = { dockerProblem: error.message, hasImage: false, nameTaken: false };
    return { facts, rootDir: undefined };
  }
}

async function kernelConfigText(release: string): Promise<string> {
  const packed = await readOptional("/proc/config.gz");
  if (packed !== undefined) return gunzipSync(packed).toString("utf8");
  return (await readOptional(`/boot/config-${release}`))?.toString("utf8") ?? "";
}

/** Not by the kernel's version: memory is registered, written and asked for (native/track/probe.c). */
async function trackingFacts(environment: HostEnvironment): Promise<HostFacts["tracking"]> {
  if (environment.tracking === "full") {
    return { mode: "full", reason: "agent.yaml has tracking: full" };
  }
  const probe = await execa(
    join(environment.nativeDir, "bin/ftprobe"),
    ["tracking", environment.tracking],
    {
      reject: false,
      timeout: COMMAND_TIMEOUT_MS,
    },
  );
  return parseTracking(probe.failed ? "" : probe.stdout);
}

/** `ok tracking=full reason=…`: why it is nothing better. */
export function parseTracking(line: string): HostFacts["tracking"] {
  const mode = /^ok tracking=(wp-async|soft-dirty|full)(?: reason=(\S+))?$/.exec(line.trim());
  if (mode?.[1] === "wp-async") return { mode: "wp-async" };
  const reason = mode === null ? "the probe of the kernel did not answer" : mode[2];
  const found = mode?.[1] === "soft-dirty" ? "soft-dirty" : "full";
  return { mode: found, ...(reason === undefined ? {} : { reason: decodeLineValue(reason) }) };
}

export function parseKernelConfig(text: string): Record<string, string> {
  const config: Record<string, string> = {};
  for (const match of text.matchAll(/^(CONFIG_\w+)=(.*)$/gm)) config[match[1]!] = match[2]!;
  return config;
}

export function parseCpuinfo(text: string): { model: string; flags: string[] } {
  const field = (name: string) =>
    new RegExp(`^${name}\\s*:\\s*(.*)$`, "m").exec(text)?.[1]?.trim() ?? "";
  const flags = (field("flags") || field("Features")).split(/\s+/).filter(Boolean);
  return { model: field("model name"), flags };
}

/** By netlink, not /sys: an agent may run in another network namespace than the one /sys was mounted in. */
async function uplinkFacts(name: string): Promise<UplinkFacts> {
  const ip = (...args: string[]) =>
    execa("ip", ["-j", ...args, "dev", name], { reject: false, timeout: COMMAND_TIMEOUT_MS });
  const [link, addresses] = await Promise.all([
    ip("-d", "link", "show"),
    ip("-4", "address", "show"),
  ]);
  const calls = await readOptional("/proc/sys/net/bridge/bridge-nf-call-iptables");
  return {
    ...parseLink(link.failed ? "" : link.stdout),
    addresses: parseAddresses(addresses.failed ? "" : addresses.stdout),
    bridgeCallsIptables: calls?.toString("utf8").trim() === "1",
  };
}

/** `ip -j -d link show dev X`; empty: there is no such interface. */
export function parseLink(json: string): Pick<UplinkFacts, "exists" | "isBridge" | "up" | "mtu"> {
  const links = JSON.parse(json || "[]") as {
    mtu: number;
    flags: string[];
    linkinfo?: { info_kind?: string };
  }[];
  const link = links.find((entry) => entry.flags !== undefined);
  return {
    exists: link !== undefined,
    isBridge: link?.linkinfo?.info_kind === "bridge",
    up: link?.flags.includes("UP") ?? false,
    mtu: link?.mtu ?? 0,
  };
}

/** `ip -j address`. */
export function parseAddresses(json: string): string[] {
  const links = JSON.parse(json || "[]") as {
    addr_info?: { local: string; prefixlen: number }[];
  }[];
  return links.flatMap((link) =>
    (link.addr_info ?? []).map((address) => `${address.local}/${address.prefixlen}`),
  );
}

async function addressFacts(questions: HostQuestions): Promise<{ addressInUse?: boolean }> {
  const { uplink, address, probeAddress } = questions;
  if (!probeAddress || uplink === undefined || address === undefined) return {};
  // Another program of the same name means other things by the same options.
  const version = await execa("arping", ["-V"], { reject: false, timeout: COMMAND_TIMEOUT_MS });
  if (!/iputils/.test(`${version.stdout}${version.stderr}`)) return {};
  const args = ["-D", "-q", "-c", "2", "-w", "2", "-I", uplink, address];
  const probe = await execa("arping", args, { reject: false, timeout: COMMAND_TIMEOUT_MS });
  if (probe.exitCode !== 0 && probe.exitCode !== 1) return {};
  return { addressInUse: probe.exitCode === 1 };
}

async function spaceFacts(
  environment: HostEnvironment,
  dockerRoot: string | undefined,
): Promise<SpaceFacts> {
  const meminfo = await readFile("/proc/meminfo", "utf8");
  return {
    runDirFreeBytes: await freeBytes(environment.runDir),
    stateDirFreeBytes: await freeBytes(environment.stateDir),
    dockerFreeBytes: dockerRoot === undefined ? 0 : await freeBytes(dockerRoot),
    memoryAvailableBytes: Number(/^MemAvailable:\s+(\d+)/m.exec(meminfo)?.[1] ?? 0) * 1024,
  };
}

async function freeBytes(path: string): Promise<number> {
  try {
    const fs = await statfs(path);
    return fs.bavail * fs.bsize;
  } catch (error) {
    // The agent makes its folders before it answers; one that is missing has no room.
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return 0;
    throw error;
  }
}

async function bindSourceFacts(sources: string[]): Promise<HostFacts["bindSources"]> {
  const entries = await Promise.all(
    sources.map(async (source) => [source, await kindOf(source)] as const),
  );
  return Object.fromEntries(entries);
}

export async function kindOf(
  path: string,
): Promise<"folder" | "file" | "socket" | "device" | "missing"> {
  try {
    const found = await stat(path);
    if (found.isDirectory()) return "folder";
    if (found.isSocket()) return "socket";
    return found.isFile() ? "file" : "device";
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code;
    if (code === "ENOENT" || code === "ENOTDIR") return "missing";
    throw error;
  }
}

async function exists(path: string): Promise<boolean> {
  return (await kindOf(path)) !== "missing";
}

async function readOptional(path: string): Promise<Buffer | undefined> {
  try {
    return await readFile(path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw error;
  }
}
