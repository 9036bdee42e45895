/**
 * Preflight's proof: dumps and restores a small process with an established TCP connection, with the very
 * programs that epochs use, in throw-away namespaces. `criu check` is not to be trusted: versions exist that
 * pass it and cannot dump a socket on a newer kernel.
 */
import { spawn } from "node:child_process";
import { mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { execa } from "execa";
import { asFtError, FtError } from "../orchestrator/errors/error.js";
import { Checkpointer } from "./checkpointer.js";
import { restore } from "./restorer.js";

export interface ProbeOptions {
  /** The toolkit's folder. */
  toolkit: string;
  /** build/ */
  nativeDir: string;
  /** On a tmpfs. */
  runDir: string;
}

export interface ProbeResult {
  pauseMs: number;
  restoreMs: number;
}

const WAIT_MS = 5_000;
const POLL_MS = 10;
const RESTORE_TIMEOUT_MS = 10_000;
const PROBE_PAIR = "000000000000";
const SUBJECT = "CRIU on this host";

export async function probeCriu(options: ProbeOptions): Promise<ProbeResult> {
  await mkdir(options.runDir, { recursive: true, mode: 0o700 });
  const work = await mkdtemp(join(options.runDir, "probe-"));
  const sandboxes: Sandbox[] = [];
  const enter = async () => {
    const sandbox = await openSandbox(options);
    sandboxes.push(sandbox);
    return sandbox;
  };
  try {
    return await dumpAndRestore(options, work, enter);
  } catch (cause) {
    throw probeFailure(cause);
  } finally {
    for (const sandbox of sandboxes) await sandbox.close();
    await rm(work, { recursive: true, force: true });
  }
}

async function dumpAndRestore(
  options: ProbeOptions,
  work: string,
  enter: () => Promise<Sandbox>,
): Promise<ProbeResult> {
  const common = {
    toolkit: options.toolkit,
    hook: join(options.nativeDir, "lib/libfthook.so"),
    kdat: join(options.runDir, "kdat"),
    subject: SUBJECT,
  };
  const original = await enter();
  await original.start();
  await original.countsBeyond(0);
  const roots = join(work, "roots");
  await writeFile(roots, "");
  const checkpointer = await Checkpointer.start({
    ...common,
    program: join(options.nativeDir, "bin/ftdump"),
    pair: PROBE_PAIR,
    initPid: original.initPid,
    work,
    gate: "none",
    roots,
    freezeMsMax: 2_000,
  });
  try {
    const blob = join(work, "blob");
    const dump = await checkpointer.dump({ epoch: 1, base: 0, generation: 1, path: blob });
    const counted = original.counted();
    await original.close();
    const copy = await enter();
    const restored = await restore({
      ...common,
      program: join(options.nativeDir, "bin/ftrestore"),
      initPid: copy.initPid,
      images: join(work, "images-1"), // the first dump's, kept as long as ftdump runs
      log: join(work, "restore.log"),
      timeoutMs: RESTORE_TIMEOUT_MS,
    });
    // It goes on where it was dumped, through the same connection: never from the start.
    await copy.countsBeyond(0);
    if (copy.first() > counted + 1) throw new Error("the restored process skipped a number");
    if (copy.first() <= 1) throw new Error("the restored process began anew");
    return { pauseMs: dump.pauseMs, restoreMs: restored.restoreMs };
  } finally {
    await checkpointer.stop();
  }
}

function probeFailure(cause: unknown): FtError {
  const { message, quoted, log } = asFtError(cause, SUBJECT);
  return new FtError({
    code: "CRIU_PROBE_FAILED",
    subject: SUBJECT,
    message: `a process with a TCP connection could not be dumped and restored: ${message}`,
    hint: "Install the toolkit again (CRIU 4.2 or newer); on a kernel newer than CRIU, wait for an update of it.",
    quoted,
    log,
    cause,
  });
}

/** New namespaces with ftinit as their first process, and the probe as its command. */
interface Sandbox {
  initPid: number;
  start(): Promise<void>;
  /** The first and the last number that the probe printed; 0 before. */
  first(): number;
  counted(): number;
  countsBeyond(number: number): Promise<void>;
  close(): Promise<void>;
}

async function openSandbox(options: ProbeOptions): Promise<Sandbox> {
  const init = join(options.nativeDir, "bin/ftinit");
  const probe = join(options.nativeDir, "bin/ftprobe");
  // What CRIU finds open must be of the sandbox: /dev/null from its own mounts, and, for the output, a pipe
  // as Docker gives one (Node gives sockets).
  const inside = 'ip link set lo up && exec "$0" -- "$1" </dev/null 2>/dev/null';
  const namespaces = ["-m", "-n", "-i", "-u", "-p", "--fork", "--mount-proc", "--kill-child"];
  const shell = spawn(
    "sh",
    ["-c", '"$@" | cat', "sh", "unshare", ...namespaces, "--", "sh", "-c", inside, init, probe],
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
  const lines = () => text.split("\n").slice(0, -1).map(Number);
  const ask = (initPid: number, ...words: string[]) =>
    execa(init, ["--ask", String(initPid), ...words], { timeout: WAIT_MS, reject: false });
  const close = async () => {
    // The whole process group: shell, unshare, cat, and with unshare all that is in its namespaces.
    if (shell.pid !== undefined && shell.exitCode === null && shell.signalCode === null) {
      process.kill(-shell.pid, "SIGKILL");
    }
    await ended;
  };
  try {
    const initPid = await waitFor("ftinit", () => findInit(shell.pid));
    await waitFor("ftinit's answer", async () => {
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
      countsBeyond: async (number) => {
        await waitFor("the probe's count", async () => (lines().at(-1) ?? 0) > number || undefined);
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

async function waitFor<T>(what: string, ask: () => Promise<T | undefined>): Promise<T> {
  const deadline = performance.now() + WAIT_MS;
  for (;;) {
    const answer = await ask();
    if (answer !== undefined) return answer;
    if (performance.now() > deadline) throw new Error(`waited in vain for ${what}`);
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
}
