/**
 * What the processes of a running container hold, read from the host's /proc: plain data for workload-checks.ts.
 * Processes come and go meanwhile; one that has ended is left out.
 */
import { readdir, readFile, readlink, stat } from "node:fs/promises";
import { execa } from "execa";
import { namespacePids, processesOf } from "../docker/container-process.js";
import { type Runtime, runtimeOf } from "./runtime.js";
import {
  type MptcpSocket,
  type NetlinkSocket,
  parseInodes,
  parseNetlink,
  parseProtocols,
  parseSsMptcp,
  parseSsUnix,
  type UnixSocket,
} from "./sockets.js";

const COMMAND_TIMEOUT_MS = 10_000;
/** Descriptors looked at in one process; a limit on the time that a check may take. */
const DESCRIPTORS_MAX = 65_536;

export interface Descriptor {
  fd: number;
  /** As /proc/PID/fd shows it: `socket:[4711]`, `anon_inode:[io_uring]`, `/dev/pts/0`. */
  target: string;
  /** Of a deleted file that is still open. */
  deletedBytes?: number;
}

export interface ProcessFacts {
  pid: number;
  /** In the container. */
  inside: number;
  comm: string;
  /** The program's file; empty if it cannot be read. */
  program: string;
  threads: number;
  parent: number;
  tracer: number;
  rssBytes: number;
  /** Descends from the container's first process; `docker exec` makes others. */
  inTree: boolean;
  /** Namespaces in which it is not in the first process's: `mnt`, `user`… */
  foreignNamespaces: string[];
  descriptors: Descriptor[];
  /** Paths of its mappings that are not ordinary files. */
  oddMappings: string[];
  runtime: Runtime;
  /** Paths of what it may write to and others see: files, /dev/shm, memfd. Not memory without a name. */
  sharedMappings: string[];
}

export interface IpcFacts {
  sharedMemory: number;
  semaphores: number;
  messageQueues: number;
  posixQueues: string[];
}

export interface WorkloadFacts {
  initPid: number;
  processes: ProcessFacts[];
  unix: UnixSocket[];
  mptcp: MptcpSocket[];
  packet: number[];
  raw: number[];
  netlink: NetlinkSocket[];
  /** Sockets in use in the container's network namespace, by protocol. */
  protocols: Record<string, number>;
  ipc: IpcFacts;
}

export async function gatherWorkloadFacts(initPid: number): Promise<WorkloadFacts> {
  const net = (table: string) => readTable(`/proc/${initPid}/net/${table}`);
  const [processes, unix, mptcp, ipc] = await Promise.all([
    gatherProcesses(initPid),
    inNamespace(initPid, "--net", ["ss", "-HOnaxp"]),
    inNamespace(initPid, "--net", ["ss", "-HOnaepM"]),
    gatherIpc(initPid),
  ]);
  return {
    initPid,
    processes,
    unix: parseSsUnix(unix),
    mptcp: parseSsMptcp(mptcp),
    packet: parseInodes(await net("packet")),
    raw: [...parseInodes(await net("raw")), ...parseInodes(await net("raw6"))],
    netlink: parseNetlink(await net("netlink")),
    protocols: Object.fromEntries(parseProtocols(await net("protocols"))),
    ipc,
  };
}

async function inNamespace(pid: number, namespace: string, command: string[]): Promise<string> {
  const result = await execa("nsenter", ["-t", String(pid), namespace, "--", ...command], {
    timeout: COMMAND_TIMEOUT_MS,
    env: { LC_ALL: "C" },
  });
  return result.stdout;
}

async function gatherIpc(initPid: number): Promise<IpcFacts> {
  const kinds = ["shm", "sem", "msg"].map((kind) => `/proc/sysvipc/${kind}`);
  const text = await inNamespace(initPid, "--ipc", ["cat", ...kinds]);
  return { ...parseSysvipc(text), posixQueues: await list(`/proc/${initPid}/root/dev/mqueue`) };
}

/** The three tables of /proc/sysvipc one after another, each with its head. */
export function parseSysvipc(text: string): Omit<IpcFacts, "posixQueues"> {
  const counts = { shmid: 0, semid: 0, msqid: 0 };
  let table: keyof typeof counts | undefined;
  for (const line of text.split("\n").filter((line) => line.trim() !== "")) {
    const head = /\b(shmid|semid|msqid)\b/.exec(line);
    if (head !== null) table = head[1] as keyof typeof counts;
    else if (table !== undefined) counts[table] += 1;
  }
  return { sharedMemory: counts.shmid, semaphores: counts.semid, messageQueues: counts.msqid };
}

async function gatherProcesses(initPid: number): Promise<ProcessFacts[]> {
  const parents = await parentsOfAll();
  const tree = descendants(initPid, parents);
  const home = await namespacesOf(initPid);
  // A container in the host's pid namespace would bring in the whole host; it is refused for that anyway.
  const shared = home[NAMESPACES.indexOf("pid")] === (await linkOr("/proc/self/ns/pid"));
  const pids = new Set([...tree, ...(shared ? [] : await processesOf(initPid))]);
  const all = [...pids].map((pid) => gatherProcess(pid, tree.has(pid), home));
  return (await Promise.all(all)).filter((process) => process !== undefined);
}

async function parentsOfAll(): Promise<Map<number, number>> {
  const pids = (await readdir("/proc")).filter((name) => /^\d+$/.test(name));
  const entries = await Promise.all(
    pids.map(async (pid) => [Number(pid), parentOf(await readTable(`/proc/${pid}/stat`))] as const),
  );
  return new Map(entries);
}

/** The fourth field; the second, in brackets, may hold spaces and brackets. */
export function parentOf(stat: string): number {
  return Number(
    stat
      .slice(stat.lastIndexOf(")") + 1)
      .trim()
      .split(" ")[1] ?? 0,
  );
}

export function descendants(root: number, parents: Map<number, number>): Set<number> {
  const tree = new Set([root]);
  for (let grew = true; grew; ) {
    grew = false;
    for (const [pid, parent] of parents) {
      if (!tree.has(parent) || tree.has(pid)) continue;
      tree.add(pid);
      grew = true;
    }
  }
  return tree;
}

const NAMESPACES = ["mnt", "net", "ipc", "uts", "pid", "user", "cgroup"];

async function namespacesOf(pid: number): Promise<string[]> {
  return Promise.all(NAMESPACES.map((name) => linkOr(`/proc/${pid}/ns/${name}`)));
}

async function gatherProcess(
  pid: number,
  inTree: boolean,
  home: string[],
): Promise<ProcessFacts | undefined> {
  const status = await readTable(`/proc/${pid}/status`);
  if (status === "") return undefined;
  const own = await namespacesOf(pid);
  const maps = await readTable(`/proc/${pid}/maps`);
  const values = parseStatus(status);
  // A recorder that is there already has a thread of its own.
  const threads = values.threads - (maps.includes("/libftrec.so") ? 1 : 0);
  return {
    pid,
    program: await linkOr(`/proc/${pid}/exe`),
    ...values,
    threads,
    inTree,
    foreignNamespaces: NAMESPACES.filter((_name, i) => own[i] !== "" && own[i] !== home[i]),
    descriptors: await gatherDescriptors(pid),
    oddMappings: parseOddMappings(maps),
    runtime: await runtimeOf(`/proc/${pid}/exe`, maps),
    sharedMappings: parseSharedMappings(maps),
  };
}

export function parseStatus(
  status: string,
): Pick<ProcessFacts, "inside" | "comm" | "threads" | "parent" | "tracer" | "rssBytes"> {
  const field = (name: string) => new RegExp(`^${name}:\\s*(.*)$`, "m").exec(status)?.[1] ?? "";
  return {
    inside: namespacePids(status).at(-1) ?? 0,
    comm: field("Name"),
    threads: Number(field("Threads")) || 1,
    parent: Number(field("PPid")),
    tracer: Number(field("TracerPid")),
    rssBytes: (Number.parseInt(field("VmRSS"), 10) || 0) * 1024,
  };
}

async function gatherDescriptors(pid: number): Promise<Descriptor[]> {
  const fds = (await list(`/proc/${pid}/fd`)).slice(0, DESCRIPTORS_MAX);
  const found = await Promise.all(
    fds.map(async (fd): Promise<Descriptor> => {
      const target = await linkOr(`/proc/${pid}/fd/${fd}`);
      if (!target.startsWith("/") || !target.endsWith(" (deleted)"))
        return { fd: Number(fd), target };
      return { fd: Number(fd), target, deletedBytes: await sizeOr0(`/proc/${pid}/fd/${fd}`) };
    }),
  );
  return found.filter((descriptor) => descriptor.target !== "");
}

/** Mappings of kernel objects, devices and System V memory: their descriptors may be closed long since. */
export function parseOddMappings(maps: string): string[] {
  const odd = new Set<string>();
  for (const line of maps.split("\n")) {
    const path = line.split(/\s+/).slice(5).join(" ");
    if (/^(anon_inode:|\/dev\/(?!shm\/|zero)|\/SYSV|\/secretmem)/.test(path)) odd.add(path);
  }
  return [...odd];
}

export function parseSharedMappings(maps: string): string[] {
  const shared = new Set<string>();
  for (const line of maps.split("\n")) {
    const [, access = "", , , , ...path] = line.split(/\s+/);
    if (!/^.w.s/.test(access) || path.join(" ").startsWith("/dev/zero")) continue;
    shared.add(path.join(" "));
  }
  return [...shared];
}

const GONE = new Set(["ENOENT", "ESRCH", "EACCES", "EINVAL", "ENOTDIR"]);

/** The value when the process, or the thing, has gone meanwhile; anything else is thrown. */
async function orIfGone<T>(value: T, read: () => Promise<T>): Promise<T> {
  try {
    return await read();
  } catch (error) {
    if (GONE.has((error as NodeJS.ErrnoException).code ?? "")) return value;
    throw error;
  }
}

const readTable = (path: string) => orIfGone("", () => readFile(path, "utf8"));
const linkOr = (path: string) => orIfGone("", () => readlink(path));
const list = (path: string) => orIfGone<string[]>([], () => readdir(path));
const sizeOr0 = (path: string) => orIfGone(0, async () => (await stat(path)).size);
