/** Control groups that a host's containers leave behind when they die with it. */
import { existsSync, readdirSync, readFileSync, rmdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { until } from "./run.js";

/** Mount points of every control group hierarchy, version 1 and 2. */
export function cgroupMounts(mountinfo: string): string[] {
  const mounts = mountinfo.split("\n").flatMap((line) => {
    const [before = "", after = ""] = line.split(" - ");
    const kind = after.split(" ")[0];
    const path = before.split(" ")[4];
    return (kind === "cgroup" || kind === "cgroup2") && path !== undefined ? [path] : [];
  });
  return [...new Set(mounts)];
}

export function leftoverCgroups(name: string): string[] {
  return cgroupMounts(readFileSync("/proc/self/mountinfo", "utf8"))
    .map((mount) => join(mount, name))
    .filter((path) => existsSync(path));
}

export async function removeCgroups(name: string, timeoutMs: number): Promise<void> {
  for (const path of leftoverCgroups(name)) {
    await until(`removal of control group ${path}`, timeoutMs, () => tryRemove(path));
  }
}

function tryRemove(path: string): boolean {
  try {
    for (const entry of readdirSync(path, { withFileTypes: true })) {
      if (entry.isDirectory() && !tryRemove(join(path, entry.name))) return false;
    }
    rmdirSync(path);
    return true;
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code;
    if (code === "ENOENT") return true;
    // Still emptying: the kernel drops the last task of a group a little after its death.
    if (code === "EBUSY") return false;
    throw error;
  }
}

/** On version 2 a host's own processes live in a leaf beside its containers, as systemd would have it. */
export function hostLeaf(name: string, mount = "/sys/fs/cgroup"): string | undefined {
  return existsSync(join(mount, "cgroup.controllers")) ? join(mount, name, "host") : undefined;
}

export function joinLeaf(leaf: string, pid: number): void {
  writeFileSync(join(leaf, "cgroup.procs"), String(pid));
}
