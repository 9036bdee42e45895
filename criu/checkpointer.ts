/**
 * Takes the checkpoints of one container: drives `ftdump` (native/dump), a child of ours.
 *
 * Invariants: one dump at a time; when `dump` settles, the tasks run and the gate is thawed, whatever the outcome.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { closeSync, openSync } from "node:fs";
import { join } from "node:path";
import { asFtError, FtError } from "../orchestrator/errors/error.js";
import { limits } from "../orchestrator/limits.js";
import { LineClient, type LineFields } from "../orchestrator/network/line-client.js";
import { endChild } from "./child.js";
import { engineFailure } from "./engine-failure.js";

export interface CheckpointerOptions {
  /** build/bin/ftdump */
  program: string;
  pair: string;
  /** Host pid of the container's ftinit. */
  initPid: number;
  toolkit: string;
  /** build/lib/libfthook.so */
  hook: string;
  /** A folder of its own on a tmpfs. */
  work: string;
  /** The gate's control socket, or `none`. */
  gate: string;
  /** The file that lists what belongs to the epoch. */
  roots: string;
  /** The tasks are never frozen longer; the epoch fails instead. */
  freezeMsMax: number;
  /** Of changed files in one epoch; a frozen capture beyond it fails, a presync goes on in another part. */
  filesBytesMax?: number;
  subject: string;
  /** Shared cache of CRIU's kernel probes, on a tmpfs; default: in `work`. */
  kdat?: string;
  exclude?: string[];
  logKeep?: number;
  /** What shortens the pause and is to be done the plain way. */
  without?: Shortcut[];
  /** `onFrozen` is told; who hears of it wakes up while the application stands, on a core that the dump needs. */
  tellFrozen?: boolean;
  /** `auto`: only pages written since the last epoch are dumped, where the kernel can tell, in the best way it has; `wp-async`: in that way or not; `full` (default): all. */
  tracking?: "auto" | "wp-async" | "soft-dirty" | "full";
  /** Of changed pages, on their way (default: `none`). */
  compression?: Compression;
  environment?: NodeJS.ProcessEnv;
}

export type Compression = "none" | "lz4" | "zstd";

export const shortcuts = [
  "splices",
  "pages",
  "smaps",
  "mark",
  "late",
  "flags",
  "quick",
  "images",
  "descriptors",
  "texts",
] as const;
export type Shortcut = (typeof shortcuts)[number];

/** Where the pause went, in the order of a dump of one process (native/hook/phases.h). */
export const pausePhases = [
  "seize",
  "mark",
  "collect",
  "maps",
  "infect",
  "files",
  "check",
  "pages",
  "core",
  "wait",
  "detach",
] as const;
export type PausePhase = (typeof pausePhases)[number];

export interface DumpResult {
  epoch: number;
  pauseMs: number;
  /** CLOCK_MONOTONIC of this host. */
  frozenAtMs: number;
  freezeMs: number;
  criuMs: number;
  filesMs: number;
  packMs: number;
  wallMs: number;
  bytes: number;
  imageBytes: number;
  changedBlocks: number;
  filesChanged: number;
  filesBytes: number;
  processes: number;
  threads: number;
  full: boolean;
  pausePartsMs: Record<PausePhase, number>;
  /** CRIU's own, of the pause: what it computed, and what it waited for a core. */
  criuCpuMs: number;
  criuDelayMs: number;
  /** Shortcuts that were on and could not be taken. */
  plain: Shortcut[];
  /** Tries before this one whose freeze was late and in vain: what CRIU had read before it had changed. */
  lateInVain: number;
  /** How written memory is found: `wp-async`, `soft-dirty` on older kernels, or `full` when everything is dumped. */
  tracking: string;
  /** Why all memory, or that of some process, is dumped whole. */
  wholeWhy?: string;
  /** Why files were walked in this epoch, where the kernel did not tell which of them changed. */
  filesWalked?: string;
  /** Processes whose memory is tracked. */
  tracked: number;
  /** Of private memory: present, read while frozen, and shipped. */
  pages: number;
  pagesDumped: number;
  pagesChanged: number;
  /** Of the pages shipped as content: before and after packing. */
  pagesRawBytes: number;
  pagesSentBytes: number;
}

export interface DumpRequest {
  epoch: number;
  base: number;
  generation: number;
  path: string;
}

type Watcher = (epoch: number, pauseMs: number) => void;

export class Checkpointer {
  readonly #child: ChildProcess;
  readonly #client: LineClient;
  readonly #subject: string;
  #onFrozen: Watcher = () => {};
  #onThawed: Watcher = () => {};
  #onGone: (error: FtError) => void = () => {};

  private constructor(child: ChildProcess, subject: string) {
    this.#child = child;
    this.#subject = subject;
    this.#client = new LineClient(child.stdout!, child.stdin!, {
      subject: `checkpoints of ${subject}`,
      timeoutMs: limits.dumpTimeoutMs,
    });
    // `stop` closes the line without an error.
    this.#client.on("close", (error) => error && this.#onGone(error));
    this.#client.on("event", ({ name, fields }) => {
      if (name === "frozen") this.#onFrozen(fields.number("epoch"), 0);
      if (name === "thawed")
        this.#onThawed(fields.number("epoch"), fields.number("pause_us") / 1e3);
    });
  }

  static async start(options: CheckpointerOptions): Promise<Checkpointer> {
    const log = openSync(join(options.work, "ftdump.log"), "a", 0o600);
    let child: ChildProcess;
    try {
      child = spawn(options.program, dumpArguments(options), {
        stdio: ["pipe", "pipe", log],
        env: options.environment ?? process.env,
      });
    } finally {
      closeSync(log);
    }
    child.on("error", () => {}); // seen as a dumper that does not answer
    const checkpointer = new Checkpointer(child, options.subject);
    try {
      await checkpointer.#client.request("hello");
      return checkpointer;
    } catch (cause) {
      await checkpointer.stop();
      throw new FtError({
        code: "CHECKPOINT_FAILED",
        subject: options.subject,
        message: `ftdump did not start: ${asFtError(cause, options.subject).message}`,
        log: join(options.work, "ftdump.log"),
        cause,
      });
    }
  }

  /** With `tellFrozen`. Resolves when `listener` was told last; replaced, not added. */
  onFrozen(listener: (epoch: number) => void): void {
    this.#onFrozen = listener;
  }

  /** It died or hung, without having been told to stop. */
  onGone(listener: (error: FtError) => void): void {
    this.#onGone = listener;
  }

  onThawed(listener: Watcher): void {
    this.#onThawed = listener;
  }

  get closed(): boolean {
    return this.#client.closed;
  }

  async dump({ epoch, base, generation, path }: DumpRequest): Promise<DumpResult> {
    const timeoutMs = base === 0 ? limits.firstDumpTimeoutMs : limits.dumpTimeoutMs;
    const fields = await this.#ask("dump", { epoch, base, generation, path }, timeoutMs);
    return dumpResult(fields);
  }

  /** Files only, while the application runs. `more`: call it again after it was committed. */
  async presync(request: {
    path: string;
    generation: number;
  }): Promise<{ bytes: number; more: boolean }> {
    const fields = await this.#ask("presync", request, limits.firstDumpTimeoutMs);
    return { bytes: fields.number("bytes"), more: fields.flag("more") };
  }

  /** The standby has committed this epoch; 0 for a presync. */
  async acked(epoch: number): Promise<void> {
    await this.#ask("acked", { epoch });
  }

  /** The standby has lost what it had: the next dump is whole. */
  async reset(): Promise<void> {
    await this.#ask("reset", {});
  }

  /** Ends ftdump, which thaws first. One that hangs is killed: the hook in CRIU thaws then. */
  async stop(): Promise<void> {
    this.#onGone = () => {};
    if (!this.#client.closed) {
      await this.#client.request("quit", {}, limits.gateCommandTimeoutMs).catch(() => {});
      this.#client.close();
    }
    await endChild(this.#child, limits.gateCommandTimeoutMs);
  }

  async #ask(
    verb: string,
    fields: Record<string, string | number>,
    timeoutMs?: number,
  ): Promise<LineFields> {
    try {
      return await this.#client.request(verb, fields, timeoutMs);
    } catch (thrown) {
      // The stream is lost after a time-out: a dumper that hangs must not keep the gate stopped.
      if (this.#client.closed) this.#child.kill("SIGKILL");
      throw engineFailure({ code: "CHECKPOINT_FAILED", subject: this.#subject }, thrown);
    }
  }
}

function dumpResult(fields: LineFields): DumpResult {
  const ms = (name: string) => fields.number(`${name}_us`) / 1e3;
  const wholeWhy = fields.textOr("whole_why", "");
  return {
    epoch: fields.number("epoch"),
    pauseMs: ms("pause"),
    frozenAtMs: ms("frozen_at"),
    freezeMs: ms("freeze"),
    criuMs: ms("criu"),
    filesMs: ms("files"),
    packMs: ms("pack"),
    wallMs: ms("wall"),
    bytes: fields.number("bytes"),
    imageBytes: fields.number("image_bytes"),
    changedBlocks: fields.number("changed_blocks"),
    filesChanged: fields.number("files_changed"),
    filesBytes: fields.number("files_bytes"),
    processes: fields.number("processes"),
    threads: fields.number("threads"),
    full: fields.flag("full"),
    pausePartsMs: Object.fromEntries(
      pausePhases.map((phase) => [phase, ms(`${phase}_phase`)]),
    ) as Record<PausePhase, number>,
    criuCpuMs: ms("criu_cpu"),
    criuDelayMs: ms("criu_delay"),
    plain: fields.textOr("plain", "").split(",").filter(Boolean) as Shortcut[],
    lateInVain: fields.number("late_in_vain"),
    tracking: fields.text("tracking"),
    ...(wholeWhy === "" ? {} : { wholeWhy }),
    ...(fields.has("files_why") ? { filesWalked: fields.text("files_why") } : {}),
    tracked: fields.number("tracked"),
    pages: fields.number("pages"),
    pagesDumped: fields.number("pages_dumped"),
    pagesChanged: fields.number("pages_changed"),
    pagesRawBytes: fields.number("pages_raw_bytes"),
    pagesSentBytes: fields.number("pages_sent_bytes"),
  };
}

export function dumpArguments(options: CheckpointerOptions): string[] {
  const fields: Record<string, string | number | undefined> = {
    pair: options.pair,
    "init-pid": options.initPid,
    toolkit: options.toolkit,
    hook: options.hook,
    work: options.work,
    gate: options.gate,
    roots: options.roots,
    "freeze-ms-max": options.freezeMsMax,
    ...(options.filesBytesMax === undefined ? {} : { "files-bytes-max": options.filesBytesMax }),
    "blob-bytes-max": limits.epochBytesMax,
    "log-keep": options.logKeep,
    kdat: options.kdat,
    tracking: options.tracking,
    compression: options.compression,
  };
  const named = Object.entries(fields).flatMap(([name, value]) =>
    value === undefined ? [] : [`--${name}`, String(value)],
  );
  return [
    ...named,
    ...(options.exclude ?? []).flatMap((path) => ["--exclude", path]),
    ...(options.without ?? []).flatMap((shortcut) => ["--without", shortcut]),
    ...(options.tellFrozen ? ["--tell-frozen"] : []),
  ];
}
