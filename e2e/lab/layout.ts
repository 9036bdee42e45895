/**
 * Names, addresses and paths of a lab. Pure: everything about a lab follows from its name and its hosts, so that
 * a lab whose state was lost can still be found and removed.
 */
import { existsSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { FtError } from "../../orchestrator/errors/error.js";

export const LAN_MASK_BITS = 24;
export const HOSTS_MAX = 9;
const RESERVED = new Set(["lan", "client"]);

export interface HostLayout {
  name: string;
  netns: string;
  /** Address on the service LAN, on the bridge `br0`. */
  lanAddress: string;
  /** Address on the replication link `rep0`. */
  replicationAddress: string;
  /** Far ends of the host's two cables, in the lab's LAN namespace. */
  lanCable: string;
  replicationCable: string;
  bridgeMac: string;
  /** cgroup of the host's containers, below the root of every hierarchy. */
  cgroup: string;
  /** What survives a power loss: the host's disk. */
  dir: string;
}

export interface LabLayout {
  name: string;
  root: string;
  stateFile: string;
  imagesDir: string;
  packagesDir: string;
  lanNetns: string;
  clientNetns: string;
  clientAddress: string;
  hosts: HostLayout[];
}

/** `FTLAB_NAME` lets several labs live on one machine; `FTLAB_CACHE` moves what they share. */
export function labNameFrom(env: NodeJS.ProcessEnv): string {
  const name = env.FTLAB_NAME ?? "ftlab";
  if (!/^[a-z][a-z0-9]{0,15}$/.test(name)) {
    throw usage(`FTLAB_NAME=${name}`, "a lab's name is at most 16 lower case letters and digits");
  }
  return name;
}

export function labLayout(name: string, hosts: string[], env: NodeJS.ProcessEnv): LabLayout {
  checkHosts(hosts);
  const root = `/var/lib/${name}`;
  const cache = env.FTLAB_CACHE ?? "/var/lib/ftlab";
  return {
    name,
    root,
    stateFile: `${root}/lab.json`,
    imagesDir: `${cache}/images`,
    packagesDir: `${cache}/packages`,
    lanNetns: `${name}-lan`,
    clientNetns: `${name}-client`,
    clientAddress: "10.77.0.10",
    hosts: hosts.map((host, index) => hostLayout(name, root, host, index + 1)),
  };
}

function hostLayout(lab: string, root: string, host: string, number: number): HostLayout {
  return {
    name: host,
    netns: `${lab}-${host}`,
    lanAddress: `10.77.0.${number}`,
    replicationAddress: `10.78.0.${number}`,
    lanCable: `${host}-lan`,
    replicationCable: `${host}-rep`,
    bridgeMac: `02:f7:c7:00:00:0${number}`,
    cgroup: `${lab}-${host}`,
    dir: `${root}/${host}`,
  };
}

function checkHosts(hosts: string[]): void {
  if (hosts.length > HOSTS_MAX) throw usage("hosts", `at most ${HOSTS_MAX} hosts`);
  for (const host of hosts) {
    // 11 characters leave room for `-lan` in an interface name.
    if (!/^[a-z][a-z0-9]{0,10}$/.test(host) || RESERVED.has(host)) {
      throw usage(`host ${host}`, "a host's name is at most 11 lower case letters and digits");
    }
  }
  if (new Set(hosts).size !== hosts.length) throw usage("hosts", "two hosts have the same name");
}

export function usage(subject: string, message: string, hint?: string): FtError {
  return new FtError({ code: "USAGE", subject, message, hint, exitCode: 2 });
}

/** The checkout this program runs from, whether as source or compiled into dist/. */
export function checkoutRoot(): string {
  let dir = dirname(fileURLToPath(import.meta.url));
  while (!existsSync(join(dir, "package.json"))) {
    const parent = dirname(dir);
    if (parent === dir) throw new Error("no package.json above the program");
    dir = parent;
  }
  return dir;
}
