/**
 * Throw-away namespaces with ftinit as their first process and ftprobe as its command: what a container is to
 * CRIU, without Docker. For preflight's probe and for tests.
 */
import { spawn } from "node:child_process";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { execa } from "execa";

const WAIT_MS = 5_000;
const POLL_MS = 10;

export interface SandboxOptions {
  /** build/ */
  nativeDir: string;
  /** More for unshare(1): `--time --monotonic 1000`. */
  unshare?: string[];
  /** In place of ftprobe; it prints numbers, too. */
  program?: string;
  /** For ftprobe. */
  probeArguments?: string[];
  /** In place of ftprobe, with its arguments. */
  command?: string[];
  /** For ftinit to be there, and for a number (5000). */
  waitMsMax?: number;
}

export interface Sandbox {
  initPid: number;
  start(): Promise<void>;
  /** The first and the last number that the probe printed; 0 before. */
  first(): number;
  counted(): number;
  /** Its last line, whatever it is. */
  said(): string;
  countsBeyond(number: number): Promise<void>;
  close(): Promise<void>;
}

export async function openSandbox(options: SandboxOptions): Promise<Sandbox> {
  const init = join(options.nativeDir, "bin/ftinit");
  const waitMsMax = options.waitMsMax ?? WAIT_MS;
  const probe = options.program ?? join(options.nativeDir, "bin/ftprobe");
  // What CRIU finds open must be of the sandbox: /dev/null from its own mounts, and, for the output, a pipe
  // as Docker gives one (Node gives sockets).
  const inside = 'ip link set lo up && exec "$0" -- "$@" </dev/null 2>/dev/null';
  const namespaces = [
    "-m",
    "-n",
    "-i",
    "-u",
    "-p",
    "--fork",
    "--mount-proc",
    "--kill-child",
    ...(options.unshare ?? []),
  ];
  const shell = spawn(
    "sh",
    [
      "-c",
      '"$@" | cat',
      "sh",
      "unshare",
      ...namespaces,
      "--",
      "sh",
      "-c",
      inside,
      init,
      ...(options.command ?? [probe, ...(options.probeArguments ?? [])]),
    ],
    { stdio: ["ignore", "pipe", "ignore"], detached: true },
  );
  let text = "";
  shell.stdout.on("data", (chunk: Buffer) => {
    // The first and the last lines are all that is asked for.
    text = text.length > 65_536 ? text.slice(0, 64) + text.slice(-1_024) + chunk : text + chunk;
  });
  const ended = new Promise<void>((resolve) => {
    shell.once("close", () => resolve());
    shell.once("error", () => resolve());
  });
  const words = () => text.split("\n").slice(0, -1);
  const lines = () => words().map(Number);
  const ask = (initPid: number, ...words: string[]) =>
    execa(init, ["--ask", String(initPid), ...words], { timeout: waitMsMax, reject: false });
  const close = async () => {
    // The whole process group: shell, unshare, cat, and with unshare all that is in its namespaces.
    if (shell.pid !== undefined && shell.exitCode === null && shell.signalCode === null) {
      process.kill(-shell.pid, "SIGKILL");
    }
    await ended;
  };
  try {
    const initPid = await waitFor("ftinit", waitMsMax, () => findInit(shell.pid));
    await waitFor("ftinit's answer", waitMsMax, async () => {
      const { exitCode } = await ask(initPid, "status");
      return exitCode === 0 || undefined;
    });
    return {
      initPid,
      async start() {
        const { exitCode, stdout } = await ask(initPid, "start");
        if (exitCode !== 0) throw new Error(`the probe could not be started: ${stdout}`);
      },
      first: () => lines()[0] ?? 0,
      counted: () => lines().at(-1) ?? 0,
      said: () => words().at(-1) ?? "",
      countsBeyond: async (number) => {
        await waitFor(
          "the probe's count",
          waitMsMax,
          async () => (lines().at(-1) ?? 0) > number || undefined,
        );
      },
      close,
    };
  } catch (error) {
    await close();
    throw error;
  }
}

/** The descendant of `pid` that is ftinit already. */
async function findInit(pid: number | undefined): Promise<number | undefined> {
  const children = await readFile(`/proc/${pid}/task/${pid}/children`, "utf8").catch(() => "");
  for (const child of children.split(" ").filter(Boolean).map(Number)) {
    const name = await readFile(`/proc/${child}/comm`, "utf8").catch(() => "");
    const found = name === "ftinit\n" ? child : await findInit(child);
    if (found !== undefined) return found;
  }
  return undefined;
}

async function waitFor<T>(
  what: string,
  msMax: number,
  ask: () => Promise<T | undefined>,
): Promise<T> {
  const deadline = performance.now() + msMax;
  for (;;) {
    const answer = await ask();
    if (answer !== undefined) return answer;
    if (performance.now() > deadline) throw new Error(`waited in vain for ${what}`);
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
}
