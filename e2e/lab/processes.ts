/**
 * Finds the lab's processes by the namespaces they live in, never by name: what runs in a host's namespaces
 * belongs to the lab, and nothing else does.
 */
import { readdirSync, readFileSync, readlinkSync, statSync } from "node:fs";
import { netnsExists, netnsPath } from "./network.js";
import { until } from "./run.js";

/** What `read` returns, or undefined if the process has gone meanwhile. */
function ifThere<T>(read: () => T): T | undefined {
  try {
    return read();
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code;
    if (code === "ENOENT" || code === "ESRCH" || code === "EACCES") return undefined;
    throw error;
  }
}

export function pidsIn(proc: string): number[] {
  return (ifThere(() => readdirSync(proc)) ?? []).filter((name) => /^\d+$/.test(name)).map(Number);
}

/** Pids in every namespace from ours inwards. */
export function nestedPids(status: string): number[] {
  const line = /^NSpid:\s*(.*)$/m.exec(status)?.[1] ?? "";
  return line.split(/\s+/).filter(Boolean).map(Number);
}

export function pidsInNetns(netns: string): number[] {
  if (!netnsExists(netns)) return [];
  const inode = statSync(netnsPath(netns)).ino;
  return pidsIn("/proc").filter(
    (pid) => ifThere(() => statSync(`/proc/${pid}/ns/net`).ino) === inode,
  );
}

/** The first process of a host: in its network namespace, and number 1 of a pid namespace below ours. */
export function findInit(netns: string): number | undefined {
  return pidsInNetns(netns).find((pid) => {
    const nested = nestedPids(ifThere(() => readFileSync(`/proc/${pid}/status`, "utf8")) ?? "");
    return nested.length === 2 && nested[1] === 1;
  });
}

/** Every process of a host, its containers' included, by the pids of the machine. */
export function pidsOfHost(initPid: number): number[] {
  const hostProc = `/proc/${initPid}/root/proc`;
  const namespaces = new Set(
    pidsIn(hostProc).map((pid) => ifThere(() => readlinkSync(`${hostProc}/${pid}/ns/pid`))),
  );
  namespaces.delete(undefined);
  return pidsIn("/proc").filter((pid) => {
    const link = ifThere(() => readlinkSync(`/proc/${pid}/ns/pid`));
    return link !== undefined && namespaces.has(link);
  });
}

export function commandOf(pid: number): string {
  const line = ifThere(() => readFileSync(`/proc/${pid}/cmdline`, "utf8")) ?? "";
  return line.split("\0").filter(Boolean).join(" ");
}

export function alive(pid: number): boolean {
  return ifThere(() => statSync(`/proc/${pid}`)) !== undefined;
}

/** SIGKILL; true if there was something to kill. */
export function killNow(pid: number): boolean {
  try {
    process.kill(pid, "SIGKILL");
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ESRCH") return false;
    throw error;
  }
}

/** The kernel lets a pid namespace's first process go only after all others: its end is the end of all. */
export async function killTree(initPid: number, timeoutMs: number): Promise<void> {
  killNow(initPid);
  await until(`end of process ${initPid} and all below it`, timeoutMs, () => !alive(initPid), 2);
}

export async function killAllInNetns(netns: string, timeoutMs: number): Promise<void> {
  const init = findInit(netns);
  if (init !== undefined) await killTree(init, timeoutMs);
  await until(`end of the processes in ${netns}`, timeoutMs, () => {
    const left = pidsInNetns(netns);
    for (const pid of left) killNow(pid);
    return left.length === 0;
  });
}
