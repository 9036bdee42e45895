/**
 * Talks to the ftinit of a container. Its socket lives in the container's network namespace and it hears only
 * processes outside the container's pid namespace, so each request is a short-lived `ftinit --ask` on the host.
 */
import { once } from "node:events";
import { createInterface } from "node:readline";
import { execa, type ResultPromise } from "execa";
import { FtError } from "../errors/error.js";
import { LineFailure, LineFields, parseLine } from "../network/line-client.js";

/** Longer than ftinit's own bound for an exec. */
const ASK_TIMEOUT_MS = 20_000;
const OUTPUT_BYTES_MAX = 1 << 16;

export interface InitStatus {
  state: "waiting" | "running" | "exited";
  /** Of the application, in the container's pid namespace; 0 while waiting. */
  pid: number;
  /** Exit code, once it has exited. */
  status: number;
}

export interface ApplicationExit {
  pid: number;
  /** As Docker shows it: the application's own exit code, or 128 + the signal. */
  status: number;
  signal: number;
}

export interface ExitWatch {
  /** `undefined`: ftinit itself went away without a word (the container was killed). */
  readonly exited: Promise<ApplicationExit | undefined>;
  stop(): void;
}

export interface InitClientOptions {
  /** Host path of the ftinit program. */
  program: string;
  /** Host pid of the container's first process. */
  hostPid: number;
  /** What errors are about: `container redis`. */
  subject: string;
}

export class InitClient {
  readonly #options: InitClientOptions;

  constructor(options: InitClientOptions) {
    this.#options = options;
  }

  get hostPid(): number {
    return this.#options.hostPid;
  }

  async hello(): Promise<void> {
    const reply = await this.#ask("hello");
    if (reply.text("program") === "ftinit" && reply.number("protocol") === 1) return;
    throw new FtError({
      code: "VERSION_MISMATCH",
      subject: this.#options.subject,
      message: `its first process speaks protocol ${reply.text("protocol")}, not 1`,
      hint: "Unprotect the container and protect it again with this version.",
    });
  }

  async status(): Promise<InitStatus> {
    const reply = await this.#ask("status");
    const state = reply.text("state") as InitStatus["state"];
    return { state, pid: reply.number("pid"), status: reply.number("status") };
  }

  /** Starts the application; returns its pid in the container. */
  async start(): Promise<number> {
    return (await this.#ask("start")).number("pid");
  }

  /** Makes a restored child the application. */
  async adopt(pid: number): Promise<void> {
    await this.#ask("adopt", `pid=${pid}`);
  }

  /** Resolves once the subscription stands: no exit after that is missed. */
  async watchExit(): Promise<ExitWatch> {
    const child = this.#spawn(["subscribe"], undefined);
    const exited = readExit(child, this.#options.subject);
    const stop = () => void child.kill("SIGKILL");
    await exited.subscribed.catch((error) => {
      stop();
      throw error;
    });
    return { exited: exited.exit, stop };
  }

  #spawn(words: string[], timeoutMs: number | undefined): AskProcess {
    const args = ["--ask", String(this.#options.hostPid), ...words];
    return execa(this.#options.program, args, {
      reject: false,
      stdin: "ignore",
      maxBuffer: OUTPUT_BYTES_MAX,
      ...(timeoutMs === undefined ? {} : { timeout: timeoutMs }),
    }) as AskProcess;
  }

  async #ask(verb: string, ...fields: string[]): Promise<LineFields> {
    const result = await this.#spawn([verb, ...fields], ASK_TIMEOUT_MS);
    if (result.timedOut) throw this.#error("CONTROL_TIMEOUT", `no reply to ${verb} from ftinit`);
    const line = parseLine(result.stdout.split("\n")[0] ?? "");
    if (result.code === "ENOENT" || result.code === "EACCES") {
      const message = `cannot run ${this.#options.program} (${result.code})`;
      throw this.#error("INIT_PROGRAM_MISSING", message);
    }
    if (line === undefined || (line.kind !== "ok" && line.kind !== "fail")) {
      const why = result.stderr || result.shortMessage || result.stdout;
      throw this.#error("CONTROL_PROTOCOL", `ftinit gave no reply to ${verb}: ${why}`);
    }
    const reply = new LineFields(this.#options.subject, line.values);
    if (line.kind === "fail") throw new LineFailure(this.#options.subject, verb, reply);
    return reply;
  }

  #error(code: string, message: string): FtError {
    return new FtError({ code, subject: this.#options.subject, message });
  }
}

type AskProcess = ResultPromise<{ reject: false }> & {
  stdout: NodeJS.ReadableStream;
};

interface ExitReader {
  /** Rejects if ftinit refused, or went away before it agreed. */
  subscribed: Promise<void>;
  exit: Promise<ApplicationExit | undefined>;
}

function readExit(child: AskProcess, subject: string): ExitReader {
  let exited: ApplicationExit | undefined;
  let agreed = () => {};
  let refused = (_why: FtError) => {};
  const subscribed = new Promise<void>((resolve, reject) => {
    agreed = resolve;
    refused = reject;
  });
  const lines = createInterface({ input: child.stdout });
  lines.on("line", (text) => {
    const line = parseLine(text);
    if (line === undefined) return;
    const fields = new LineFields(subject, line.values);
    if (line.kind === "ok") agreed();
    if (line.kind === "fail") refused(new LineFailure(subject, "subscribe", fields));
    if (line.kind === "event" && line.name === "exited") exited = exitOf(fields);
  });
  const exit = Promise.all([child, once(lines, "close")]).then(() => {
    refused(new FtError({ code: "CONTROL_CLOSED", subject, message: "ftinit did not answer" }));
    return exited;
  });
  return { subscribed, exit };
}

function exitOf(fields: LineFields): ApplicationExit {
  return {
    pid: fields.number("pid"),
    status: fields.number("status"),
    signal: fields.number("signal"),
  };
}
