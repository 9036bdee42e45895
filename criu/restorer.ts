/** Brings the materialized epoch to life in a waiting container: runs `ftrestore` (native/restore) once. */
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { execa } from "execa";
import { FtError } from "../orchestrator/errors/error.js";
import { LineFailure, LineFields, parseLine } from "../orchestrator/network/line-client.js";
import { engineFailure } from "./engine-failure.js";
import { WaitingProgram } from "./waiting-program.js";

export interface RestoreOptions {
  /** build/bin/ftrestore */
  program: string;
  /** Host pid of the waiting ftinit. */
  initPid: number;
  toolkit: string;
  hook: string;
  images: string;
  log: string;
  subject: string;
  timeoutMs: number;
  /** Shared cache of CRIU's kernel probes, on a tmpfs; default: beside the log. */
  kdat?: string;
  /** Output not acknowledged is sent again at once up to this many segments: the `initcwnd` of the routes. */
  tcpSegments?: number;
  /** Default: this process's own. */
  environment?: NodeJS.ProcessEnv;
  /** `clear`: only ends what an earlier restore left; `keep`: ftinit is not told of it yet. */
  only?: "clear" | "keep";
}

export interface RestoreResult {
  /** Inside the container. */
  pid: number;
  restoreMs: number;
  criuMs: number;
  /** Connections whose output is sent again. */
  tcpResent: number;
  /** Memory that ftfeed gives while the application runs already; 0: all is there. */
  lazyBytes: number;
  /** The process that gives it. */
  feederPid: number;
}

/** Over ftrestore's own limit, which ends CRIU and says so. */
const GRACE_MS = 2_000;

export async function restore(
  options: RestoreOptions,
  waiting: WaitingProgram = waitingRestore(options),
): Promise<RestoreResult> {
  const names = { code: "RESTORE_FAILED", subject: options.subject } as const;
  const text = await run(options, waiting);
  const line = parseLine(text.trimEnd());
  if (line === undefined || (line.kind !== "ok" && line.kind !== "fail")) {
    throw new FtError({
      ...names,
      message: `ftrestore said nothing of use: ${text.trimEnd() || "it ended without a word"}`,
      log: options.log,
    });
  }
  const fields = new LineFields(options.subject, line.values);
  if (line.kind === "fail") {
    throw engineFailure(names, new LineFailure(options.subject, "restore", fields));
  }
  return {
    pid: fields.number("pid"),
    restoreMs: fields.number("restore_us") / 1e3,
    criuMs: fields.number("criu_us") / 1e3,
    tcpResent: fields.number("tcp_resent"),
    lazyBytes: fields.number("lazy_bytes"),
    feederPid: fields.number("feeder"),
  };
}

/** Started ahead; `restore` with the same options and this tells it to go. */
export function waitingRestore(options: RestoreOptions): WaitingProgram {
  return new WaitingProgram(options.program, [...restoreArguments(options), "--wait"], {
    ...(options.environment === undefined ? {} : { environment: options.environment }),
  });
}

async function run(options: RestoreOptions, waiting: WaitingProgram): Promise<string> {
  waiting.tell("go");
  const line = await waiting.next(options.timeoutMs + GRACE_MS);
  // It answers when all is done; that it has ended is part of that.
  await waiting.outcome();
  return line ?? "";
}

/**
 * Waits until a restored application's memory is all there: at once true, if nothing was left out. False: it is not, after so long.
 */
export async function memoryIsThere(
  nativeDir: string,
  initPid: number,
  waitMs: number,
): Promise<boolean> {
  const { exitCode } = await execa(
    join(nativeDir, "bin/ftfeed"),
    ["--init-pid", String(initPid), "--wait-ms", String(waitMs)],
    { reject: false, timeout: waitMs + GRACE_MS },
  );
  return exitCode === 0;
}

/** What a feeder left in its state file when it ended the application; undefined: it has not. */
export async function memoryLoss(stateFile: string): Promise<string | undefined> {
  const text = await readFile(stateFile, "utf8").catch(() => "");
  const line = parseLine(text.trimEnd());
  if (line?.kind !== "fail") return undefined;
  const fields = new LineFields("ftfeed", line.values);
  return `${fields.textOr("code", "unknown")}: ${fields.textOr("detail", "")}`;
}

export function restoreArguments(options: RestoreOptions): string[] {
  const fields: Record<string, string | number | undefined> = {
    "init-pid": options.initPid,
    toolkit: options.toolkit,
    hook: options.hook,
    images: options.images,
    log: options.log,
    "timeout-ms": options.timeoutMs,
    kdat: options.kdat,
    "tcp-segments": options.tcpSegments,
  };
  const flag = { clear: ["--clear"], keep: ["--no-adopt"], all: [] }[options.only ?? "all"];
  const given = Object.entries(fields).flatMap(([name, value]) =>
    value === undefined ? [] : [`--${name}`, String(value)],
  );
  return [...given, ...flag];
}
