/** One host of the lab: a set of namespaces held by one process, whose death is the host's power loss. */
import { spawn } from "node:child_process";
import { closeSync, existsSync, mkdirSync, openSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { FtError } from "../../orchestrator/errors/error.js";
import { hostLeaf } from "./cgroups.js";
import type { HostLayout } from "./layout.js";
import { checkoutRoot } from "./layout.js";
import { netnsPath } from "./network.js";
import { findInit } from "./processes.js";
import { run, until } from "./run.js";

const BOOT_TIMEOUT_MS = 10_000;
const DAEMON_TIMEOUT_MS = 10_000;

/** Folders of the machine that a host's own disk hides; made if the machine lacks them. */
export const HIDDEN_FOLDERS = ["/var/lib/docker", "/var/lib/ftctl", "/etc/ftctl", "/etc/docker"];

/** Starts the host's first process and waits until its file systems stand. Returns its pid. */
export async function powerOn(host: HostLayout): Promise<number> {
  mkdirSync(host.dir, { recursive: true });
  const script = join(checkoutRoot(), "e2e/lab/host-init.sh");
  const log = openSync(join(host.dir, "init.log"), "a");
  const namespaces = ["--mount", "--uts", "--ipc", "--pid", "--fork", "--mount-proc"];
  const child = spawn(
    "nsenter",
    [
      `--net=${netnsPath(host.netns)}`,
      "unshare",
      ...namespaces,
      "--kill-child",
      "sh",
      script,
      host.dir,
      host.name,
      hostLeaf(host.cgroup) ?? "-",
    ],
    { detached: true, stdio: ["ignore", log, log], cwd: "/" },
  );
  closeSync(log);
  let exited: number | null | undefined;
  child.on("exit", (code) => {
    exited = code;
  });
  child.on("error", () => {
    exited = -1;
  });
  child.unref();
  let init: number | undefined;
  await until(`start of host ${host.name}`, BOOT_TIMEOUT_MS, () => {
    if (exited !== undefined) throw notStarted(host, `its first process ended (${exited})`);
    init = findInit(host.netns);
    return init !== undefined && existsSync(inHost(init, "/run/ftlab-ready"));
  });
  return init!;
}

function notStarted(host: HostLayout, message: string): FtError {
  return new FtError({
    code: "LAB_HOST_NOT_STARTED",
    subject: `host ${host.name}`,
    message,
    log: join(host.dir, "init.log"),
  });
}

/** A path of the host as the machine can open it; also good for unix sockets. */
export function inHost(init: number, path: string): string {
  return `/proc/${init}/root${path}`;
}

export function enter(init: number, argv: string[]): string[] {
  return [
    "nsenter",
    "--target",
    String(init),
    "--mount",
    "--uts",
    "--ipc",
    "--pid",
    "--net",
    ...argv,
  ];
}

/** `argv` as a daemon of the host: a child of its first process, its pid in `/run/<name>.pid`. */
export async function startDaemon(
  host: HostLayout,
  init: number,
  name: string,
  argv: string[],
  env: Record<string, string>,
): Promise<void> {
  const script = [
    '[ "$3" = - ] || echo 0 > "$3/cgroup.procs"',
    // The file of the one before would be taken for the new one's.
    'log=$1 pidfile=$2; shift 3; cd /; rm -f "$pidfile"',
    // The pid file is whole before anyone can look: written aside, then renamed.
    'exec setsid -f sh -c \'echo $$ > "$0.new" && mv "$0.new" "$0" && exec "$@"\' "$pidfile" "$@" >> "$log" 2>&1 < /dev/null',
  ].join("\n");
  const leaf = hostLeaf(host.cgroup) ?? "-";
  const args = [join(host.dir, `${name}.log`), `/run/${name}.pid`, leaf, ...argv];
  const [program = "", ...rest] = enter(init, ["sh", "-ec", script, "sh", ...args]);
  await run(program, rest, { env });
  await until(`pid of ${name} on ${host.name}`, DAEMON_TIMEOUT_MS, () =>
    existsSync(inHost(init, `/run/${name}.pid`)),
  );
}

/** Signals the daemon whose pid file this is; false if it is not running. */
export async function signalDaemon(init: number, name: string, signal: string): Promise<boolean> {
  const script = '[ -e "$1" ] && kill "-$2" "$(cat "$1")" 2>/dev/null || exit 3';
  const argv = enter(init, ["sh", "-c", script, "sh", `/run/${name}.pid`, signal]);
  const out = await run(argv[0]!, [...argv.slice(1)], { allowed: [3] });
  return out !== undefined && (await daemonRuns(init, name));
}

/** Whether the daemon lives: the leader of a thread group that is ending counts until the last of its threads has gone. */
export async function daemonRuns(init: number, name: string): Promise<boolean> {
  const pid = textOf(inHost(init, `/run/${name}.pid`))?.trim();
  if (pid === undefined || !/^[1-9]\d*$/.test(pid)) return false;
  return lives(textOf(inHost(init, `/proc/${pid}/status`)));
}

/** What one reading of `/proc/<pid>/status` says; a second look could already find the process reaped. */
export function lives(status: string | undefined): boolean {
  if (status === undefined) return false;
  const state = /^State:\s*(\S)/m.exec(status)?.[1];
  const threads = Number(/^Threads:\s*(\d+)/m.exec(status)?.[1] ?? 0);
  if (state === undefined || state === "X") return false;
  return state !== "Z" || threads > 1;
}

/** Undefined when it is not there, or goes while it is read. */
function textOf(path: string): string | undefined {
  try {
    return readFileSync(path, "utf8");
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === "ENOENT" || code === "ESRCH" || code === "ENOTDIR") return undefined;
    throw error;
  }
}

export async function waitForEnd(init: number, name: string, timeoutMs: number): Promise<void> {
  await until(`end of ${name}`, timeoutMs, async () => !(await daemonRuns(init, name)));
}
