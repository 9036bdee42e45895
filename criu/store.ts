/** The agent's end of `ftstore`: the standby's checkpoints of one pair. docs/epoch-format.md tells what it is given. */
import { type ChildProcess, spawn } from "node:child_process";
import { closeSync, openSync } from "node:fs";
import { join } from "node:path";
import { FtError } from "../orchestrator/errors/error.js";
import { limits } from "../orchestrator/limits.js";
import { LineClient, LineFailure, type LineFields } from "../orchestrator/network/line-client.js";
import { endChild } from "./child.js";

export interface CheckpointStoreOptions {
  program: string;
  pair: string;
  /** Its state, on a tmpfs. */
  dir: string;
  /** Where blobs arrive; the same file system as `dir`, since a commit is a rename. */
  spool: string;
  /** Of the standby's ftinit: files are applied through its root. */
  rootPid: number;
  roots: string;
  subject: string;
  /** It died or hung, without having been told to stop. */
  onGone: (error: FtError) => void;
}

export interface StoreStatus {
  /** Last committed; 0 = none. */
  epoch: number;
  generation: number;
  /** Only a full epoch with all its files continues. */
  needFull: boolean;
  /** Committed, but not applied yet. */
  journalEpochs: number;
  journalBytes: number;
  imageBytes: number;
  /** Operations that this host cannot do (devices, attributes, behind a mount). */
  skipped: number;
  /** Why committed epochs cannot be applied at the moment. */
  trouble: string | undefined;
}

/** Codes of ftstore, and what they are called outside. */
const CODES: Record<string, { code: string; hint?: string }> = {
  corrupt: {
    code: "CHECKPOINT_CORRUPT",
    hint: "It is refused whole; the primary sends a full one.",
  },
  version: { code: "CHECKPOINT_VERSION", hint: "Install the same version of ftctl on both hosts." },
  base: { code: "CHECKPOINT_OUT_OF_ORDER" },
  order: { code: "CHECKPOINT_OUT_OF_ORDER" },
  generation: { code: "STALE_GENERATION" },
  space: {
    code: "STORE_FULL",
    hint: "Make room on the tmpfs of the run dir, or give it more memory; the message names what is full.",
  },
  root: {
    code: "STANDBY_GONE",
    hint: "The standby container is made anew, and a full checkpoint follows.",
  },
};

export class CheckpointStore {
  private lastEpoch = 0;
  private lastGeneration = 0;

  private constructor(
    private readonly line: LineClient,
    private readonly child: ChildProcess,
    private readonly options: CheckpointStoreOptions,
  ) {}

  /** Starts ftstore on what `dir` holds: an epoch that was committed before is there again. */
  static async start(options: CheckpointStoreOptions): Promise<CheckpointStore> {
    const log = openSync(join(options.dir, "..", "ftstore.log"), "a", 0o600);
    const child = spawn(options.program, storeArguments(options), { stdio: ["pipe", "pipe", log] });
    closeSync(log);
    child.on("error", () => {}); // seen as a closed pipe
    const line = new LineClient(child.stdout!, child.stdin!, {
      subject: `ftstore of ${options.subject}`,
      timeoutMs: limits.storeCommandTimeoutMs,
    });
    const store = new CheckpointStore(line, child, options);
    try {
      const hello = await store.ask("hello", {});
      store.lastEpoch = hello.number("epoch");
      store.lastGeneration = hello.number("generation");
      // `stop` closes the line without an error.
      line.on("close", (error) => error && options.onGone(error));
      return store;
    } catch (error) {
      await store.stop();
      throw error;
    }
  }

  /** Last committed epoch; 0 = none. */
  get epoch(): number {
    return this.lastEpoch;
  }
  get generation(): number {
    return this.lastGeneration;
  }

  /** Verifies the blob whole and commits it atomically; the file is taken away. */
  async commit(request: {
    epoch: number;
    path: string;
  }): Promise<{ bytes: number; verifyMs: number; commitMs: number }> {
    const reply = await this.ask("commit", request);
    if (request.epoch > 0) this.lastEpoch = request.epoch;
    return {
      bytes: reply.number("bytes"),
      verifyMs: reply.number("verify_us") / 1000,
      commitMs: (reply.number("verify_us") + reply.number("commit_us")) / 1000,
    };
  }

  /** The same images ahead of a takeover that may not come; the next commit makes them void. Refused if it would take long. */
  async prepare(images: string, lazyFrom?: number): Promise<void> {
    const fields: Record<string, string | number> = { images };
    if (lazyFrom !== undefined) fields["lazy-from"] = lazyFrom;
    await this.ask("prepare", fields);
  }

  /**
   * The last committed epoch as images in `images` and as files in the container; every image checked. From `lazyFrom` bytes of
   * memory on it is left out of the images, for `restore` to have it given later; undefined: never.
   */
  async materialize(
    images: string,
    lazyFrom?: number,
    prepared = false,
  ): Promise<{ epoch: number; generation: number; lazyBytes: number }> {
    const fields: Record<string, string | number> = { images };
    if (lazyFrom !== undefined) fields["lazy-from"] = lazyFrom;
    if (prepared) fields.prepared = 1;
    const reply = await this.ask("materialize", fields, limits.storeMaterializeTimeoutMs);
    return {
      epoch: reply.number("epoch"),
      generation: reply.number("generation"),
      lazyBytes: reply.number("lazy_bytes"),
    };
  }

  /**
   * Another container root to apply files to. `needFull`: what was committed is void, as its files are not in this
   * container; the next epoch must be a full one.
   */
  async attach(rootPid: number): Promise<{ needFull: boolean }> {
    const reply = await this.ask("attach", { "root-pid": rootPid });
    this.lastEpoch = reply.number("epoch");
    return { needFull: reply.flag("need_full") };
  }

  async status(): Promise<StoreStatus> {
    const reply = await this.ask("status", {});
    return {
      epoch: reply.number("epoch"),
      generation: reply.number("generation"),
      needFull: reply.flag("need_full"),
      journalEpochs: reply.number("journal_epochs"),
      journalBytes: reply.number("journal_bytes"),
      imageBytes: reply.number("image_bytes"),
      skipped: reply.number("skipped"),
      trouble: reply.textOr("detail", undefined),
    };
  }

  /** Forgets everything but the generation. */
  async discard(): Promise<void> {
    await this.ask("discard", {});
    this.lastEpoch = 0;
  }

  async stop(): Promise<void> {
    this.line.close();
    await endChild(this.child);
  }

  private async ask(
    verb: string,
    fields: Record<string, string | number>,
    timeoutMs?: number,
  ): Promise<LineFields> {
    try {
      return await this.line.request(verb, fields, timeoutMs);
    } catch (error) {
      if (!(error instanceof LineFailure)) throw error;
      const { code, hint } = CODES[error.slug] ?? { code: "STORE_FAILED" };
      throw new FtError({
        code,
        subject: this.options.subject,
        message: `${verb}: ${error.fields.textOr("detail", error.slug)}`,
        hint,
        cause: error,
      });
    }
  }
}

export function storeArguments(options: CheckpointStoreOptions): string[] {
  const fields: Record<string, string | number> = {
    pair: options.pair,
    dir: options.dir,
    spool: options.spool,
    "root-pid": options.rootPid,
    roots: options.roots,
  };
  return Object.entries(fields).flatMap(([name, value]) => [`--${name}`, String(value)]);
}
