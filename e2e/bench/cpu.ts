/** CPU time and memory of a container's processes, as the kernel counts them. */
import { readdirSync, readFileSync } from "node:fs";

/** CPU time, in microseconds, that the control group of a process has used. */
export function cgroupCpuUs(pid: number): number {
  const lines = readFileSync(`/proc/${pid}/cgroup`, "utf8").trim().split("\n");
  for (const line of lines) {
    const [, controllers = "", path = ""] = /^\d+:([^:]*):(.*)$/.exec(line) ?? [];
    if (controllers.split(",").includes("cpuacct")) {
      const file = `/sys/fs/cgroup/${controllers}${path}/cpuacct.usage`;
      return Number(readFileSync(file, "utf8")) / 1000;
    }
  }
  const unified = /^0::(.*)$/m.exec(lines.join("\n"))?.[1] ?? "/";
  const text = readFileSync(`/sys/fs/cgroup${unified}/cpu.stat`, "utf8");
  return Number(/^usage_usec (\d+)/m.exec(text)?.[1] ?? Number.NaN);
}

/** CPU time of one process and its threads, in microseconds. */
export function processCpuUs(pid: number): number {
  const fields = readFileSync(`/proc/${pid}/stat`, "utf8").split(") ")[1]?.split(" ") ?? [];
  const ticksPerSecond = 100;
  return ((Number(fields[11]) + Number(fields[12])) / ticksPerSecond) * 1e6;
}

/** Resident memory of a process and all its descendants, in MiB. */
export function residentMiB(pid: number): number {
  let kib = 0;
  for (const each of withDescendants(pid)) {
    const status = readStatus(each);
    kib += Number(/^RssAnon:\s+(\d+)/m.exec(status)?.[1] ?? 0);
    kib += Number(/^RssShmem:\s+(\d+)/m.exec(status)?.[1] ?? 0);
  }
  return kib / 1024;
}

function withDescendants(pid: number): number[] {
  const children = new Map<number, number[]>();
  for (const name of readdirSync("/proc")) {
    if (!/^\d+$/.test(name)) continue;
    const parent = Number(/^PPid:\s+(\d+)/m.exec(readStatus(Number(name)))?.[1] ?? 0);
    children.set(parent, [...(children.get(parent) ?? []), Number(name)]);
  }
  const found = [pid];
  for (const each of found) found.push(...(children.get(each) ?? []));
  return found;
}

function readStatus(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/status`, "utf8");
  } catch {
    // It ended meanwhile.
    return "";
  }
}
