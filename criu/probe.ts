/**
 * Preflight's proof: dumps and restores a small process with an established TCP connection, with the very
 * programs that epochs use, in throw-away namespaces. `criu check` is not to be trusted: versions exist that
 * pass it and cannot dump a socket on a newer kernel.
 */
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { asFtError, FtError } from "../orchestrator/errors/error.js";
import { Checkpointer } from "./checkpointer.js";
import { openComposer } from "./composer.js";
import { restore } from "./restorer.js";
import { openSandbox, type Sandbox } from "./sandbox.js";

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
  const composer = await openComposer({
    nativeDir: options.nativeDir,
    pair: PROBE_PAIR,
    folder: join(work, "composer"),
    roots,
    subject: SUBJECT,
  });
  try {
    const blob = join(work, "blob");
    const dump = await checkpointer.dump({ epoch: 1, base: 0, generation: 1, path: blob });
    await composer.commit(1, blob);
    const counted = original.counted();
    await original.close();
    const copy = await enter();
    const restored = await restore({
      ...common,
      program: join(options.nativeDir, "bin/ftrestore"),
      initPid: copy.initPid,
      images: await composer.images(),
      log: join(work, "restore.log"),
      timeoutMs: RESTORE_TIMEOUT_MS,
    });
    // It goes on where it was dumped, through the same connection: never from the start.
    await copy.countsBeyond(0);
    if (copy.first() > counted + 1) throw new Error("the restored process skipped a number");
    if (copy.first() <= 1) throw new Error("the restored process began anew");
    return { pauseMs: dump.pauseMs, restoreMs: restored.restoreMs };
  } finally {
    await composer.close();
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
