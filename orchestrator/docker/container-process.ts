/** A running container as the host sees it: pids inside and outside, and where its CPU time is counted. */
import { readdir, readFile, readlink } from "node:fs/promises";
import { FtError } from "../errors/error.js";
import { parseMountinfo } from "./mountinfo.js";

export interface ApplicationPids {
  /** In the container's pid namespace, as CRIU and ftinit name it. */
  inside: number;
  /** On the host. */
  outside: number;
}

/** NSpid of a /proc/PID/status: from the reader's namespace inwards. */
export function namespacePids(status: string): number[] {
  const line = /^NSpid:\s*(.*)$/m.exec(status);
  return (line?.[1] ?? "").split(/\s+/).filter(Boolean).map(Number);
}

/** Host pids of the children of all threads of a process. */
export async function childrenOf(pid: number, proc = "/proc"): Promise<number[]> {
  const tasks = await readdir(`${proc}/${pid}/task`);
  const lists = await Promise.all(
    tasks.map((task) => readOr(`${proc}/${pid}/task/${task}/children`, "")),
  );
  return lists.join(" ").split(/\s+/).filter(Boolean).map(Number);
}

/** Of ftinit's children, the one it calls `inside`. */
export async function applicationPids(
  initPid: number,
  inside: number,
  proc = "/proc",
): Promise<ApplicationPids> {
  for (const outside of await childrenOf(initPid, proc)) {
    const pids = namespacePids(await readOr(`${proc}/${outside}/status`, ""));
    if (pids.at(-1) === inside) return { inside, outside };
  }
  throw new FtError({
    code: "APPLICATION_GONE",
    subject: `container process ${initPid}`,
    message: `no child has pid ${inside} in the container`,
  });
}

/** Every process of a container, by its pid namespace, whoever started it. Host pids. */
export async function processesOf(initPid: number, proc = "/proc"): Promise<number[]> {
  const namespace = await linkOr(`${proc}/${initPid}/ns/pid`);
  if (namespace === undefined) return [];
  const pids = (await readdir(proc)).filter((name) => /^\d+$/.test(name)).map(Number);
  const links = await Promise.all(
    pids.map(async (pid) => [pid, await linkOr(`${proc}/${pid}/ns/pid`)] as const),
  );
  return links.filter(([, link]) => link === namespace).map(([pid]) => pid);
}

/** The file that counts the container's CPU time: `cpu.stat` (v2) or `cpuacct.usage` (v1). */
export async function cpuTimePath(pid: number, proc = "/proc"): Promise<string> {
  const cgroup = await readFile(`${proc}/${pid}/cgroup`, "utf8");
  const mountinfo = await readFile(`${proc}/self/mountinfo`, "utf8");
  const path = cpuTimePathFrom(cgroup, mountinfo);
  if (path !== undefined) return path;
  throw new FtError({
    code: "CGROUP_NOT_FOUND",
    subject: `process ${pid}`,
    message: "no mounted control group counts its CPU time",
  });
}

export function cpuTimePathFrom(cgroup: string, mountinfo: string): string | undefined {
  const mounts = parseMountinfo(mountinfo);
  const groups = cgroup
    .split("\n")
    .map((line) => /^\d+:([^:]*):(.*)$/.exec(line))
    .filter((match) => match !== null)
    .map((match) => ({ controllers: match[1]!.split(","), path: match[2]! }));
  const v1 = groups.find((group) => group.controllers.includes("cpuacct"));
  const v1Mount = mounts.find((m) => m.type === "cgroup" && m.superOptions.includes("cpuacct"));
  if (v1 !== undefined && v1Mount !== undefined)
    return `${v1Mount.target}${below(v1.path, v1Mount.root)}/cpuacct.usage`;
  const v2 = groups.find((group) => group.controllers[0] === "");
  const v2Mount = mounts.find((m) => m.type === "cgroup2");
  if (v2 === undefined || v2Mount === undefined) return undefined;
  return `${v2Mount.target}${below(v2.path, v2Mount.root)}/cpu.stat`;
}

function below(path: string, root: string): string {
  if (root === "/") return path === "/" ? "" : path;
  return path.startsWith(root) ? path.slice(root.length) : path;
}

async function readOr(path: string, missing: string): Promise<string> {
  try {
    return await readFile(path, "utf8");
  } catch (error) {
    if (isGone(error)) return missing;
    throw error;
  }
}

async function linkOr(path: string): Promise<string | undefined> {
  try {
    return await readlink(path);
  } catch (error) {
    if (isGone(error) || (error as NodeJS.ErrnoException).code === "EACCES") return undefined;
    throw error;
  }
}

/** A process may end between being listed and being read. */
function isGone(error: unknown): boolean {
  const code = (error as NodeJS.ErrnoException).code;
  return code === "ENOENT" || code === "ESRCH";
}
