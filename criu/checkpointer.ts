/** The agent's end of `ftdump`: takes the checkpoints of one container. docs/ARCHITECTURE.md has the way of one epoch. */
import { type ChildProcess, spawn } from "node:child_process";
import { closeSync, openSync } from "node:fs";
import { join } from "node:path";
import { FtError } from "../orchestrator/errors/error.js";
import { limits } from "../orchestrator/limits.js";
import { LineClient, LineFailure, type LineFields } from "../orchestrator/network/line-client.js";
import { endChild } from "./child.js";

export interface CheckpointerOptions {
  program: string;
  pair: string;
  /** Of ftinit, on the host. */
  initPid: number;
  toolkit: string;
  hook: string;
  /** Folder on a tmpfs: images, logs. */
  work: string;
  /** The gate's socket; `none` in tests. */
  gate: string;
  roots: string;
  freezeMsMax: number;
  subject: string;
}

export interface Checkpoint {
  epoch: number;
  pauseMs: number;
  /** Until all tasks stood still. */
  freezeMs: number;
  criuMs: number;
  filesMs: number;
  packMs: number;
  /** From the request to the packed blob. */
  wallMs: number;
  bytes: number;
  imageBytes: number;
  changedBlocks: number;
  filesChanged: number;
  processes: number;
  threads: number;
  full: boolean;
}

export class Checkpointer {
  private first = true;

  private constructor(
    private readonly line: LineClient,
    private readonly child: ChildProcess,
    private readonly subject: string,
  ) {}

  static async start(options: CheckpointerOptions): Promise<Checkpointer> {
    const log = openSync(join(options.work, "ftdump.log"), "a", 0o600);
    const child = spawn(options.program, checkpointerArguments(options), {
      stdio: ["pipe", "pipe", log],
    });
    closeSync(log);
    child.on("error", () => {}); // seen as a closed pipe
    const { subject } = options;
    const line = new LineClient(child.stdout!, child.stdin!, {
      subject: `ftdump of ${subject}`,
      timeoutMs: limits.dumpTimeoutMs,
    });
    const checkpointer = new Checkpointer(line, child, subject);
    try {
      await line.request("hello");
      return checkpointer;
    } catch (cause) {
      await checkpointer.stop();
      throw new FtError({
        code: "CHECKPOINT_FAILED",
        subject,
        message: "ftdump did not start",
        log: join(options.work, "ftdump.log"),
        cause,
      });
    }
  }

  /** Resolves when the tasks run again and the blob is complete. They run again too when it rejects. */
  async dump(request: {
    epoch: number;
    base: number;
    generation: number;
    path: string;
  }): Promise<Checkpoint> {
    const timeoutMs = this.first ? limits.firstDumpTimeoutMs : limits.dumpTimeoutMs;
    const reply = await this.ask("dump", request, timeoutMs);
    this.first = false;
    return checkpointOf(reply);
  }

  /** Files only, while the application runs. `more`: a blob is bounded, and there was more. */
  async presync(request: {
    path: string;
    generation: number;
  }): Promise<{ bytes: number; more: boolean }> {
    const reply = await this.ask("presync", { epoch: 0, ...request }, limits.firstDumpTimeoutMs);
    return { bytes: reply.number("bytes"), more: reply.flag("more") };
  }

  async acked(epoch: number): Promise<void> {
    await this.ask("acked", { epoch }, limits.dumpTimeoutMs);
  }

  /** Ends ftdump; it thaws what it froze first. */
  async stop(): Promise<void> {
    this.line.close();
    await endChild(this.child);
  }

  private async ask(
    verb: string,
    fields: Record<string, string | number>,
    timeoutMs: number,
  ): Promise<LineFields> {
    try {
      return await this.line.request(verb, fields, timeoutMs);
    } catch (error) {
      throw error instanceof LineFailure ? checkpointFailed(this.subject, error) : error;
    }
  }
}

export function checkpointerArguments(options: CheckpointerOptions): string[] {
  const fields: Record<string, string | number> = {
    pair: options.pair,
    "init-pid": options.initPid,
    toolkit: options.toolkit,
    hook: options.hook,
    work: options.work,
    gate: options.gate,
    roots: options.roots,
    "freeze-ms-max": options.freezeMsMax,
  };
  return Object.entries(fields).flatMap(([name, value]) => [`--${name}`, String(value)]);
}

function checkpointOf(reply: LineFields): Checkpoint {
  const ms = (name: string) => reply.number(`${name}_us`) / 1000;
  return {
    epoch: reply.number("epoch"),
    pauseMs: ms("pause"),
    freezeMs: ms("freeze"),
    criuMs: ms("criu"),
    filesMs: ms("files"),
    packMs: ms("pack"),
    wallMs: ms("wall"),
    bytes: reply.number("bytes"),
    imageBytes: reply.number("image_bytes"),
    changedBlocks: reply.number("changed_blocks"),
    filesChanged: reply.number("files_changed"),
    processes: reply.number("processes"),
    threads: reply.number("threads"),
    full: reply.flag("full"),
  };
}

/** CRIU's own error lines are quoted around the failure. */
function checkpointFailed(subject: string, failure: LineFailure): FtError {
  const [first = "", ...quoted] = failure.fields.textOr("detail", "").split("\n").filter(Boolean);
  return new FtError({
    code: "CHECKPOINT_FAILED",
    subject,
    message: `${failure.fields.textOr("stage", "dump")}: ${first}`,
    hint: "The application runs on and its output waits; `ftctl check` names what cannot be dumped.",
    log: failure.fields.textOr("log", undefined),
    quoted,
    cause: failure,
  });
}
