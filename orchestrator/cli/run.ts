/**
 * From arguments to exit code: parse, run the command, print what it hands back. The only place that
 * prints results and errors.
 */
import { AgentClient } from "../agent/api-client.js";
import type { Clock } from "../clock.js";
import { asFtError, ExitCode, FtError } from "../errors/error.js";
import type { Cluster } from "./cluster.js";
import { COMMANDS } from "./commands/index.js";
import { complete, printCandidates } from "./completion/complete.js";
import { namesFrom } from "./completion/names.js";
import type { Context } from "./context.js";
import { confirm, type Io, readAll, write } from "./io.js";
import { renderError } from "./output/errors.js";
import { paintWith } from "./output/paint.js";
import { printStream, renderRows, renderText } from "./output/print.js";
import { ProgressLine } from "./output/progress.js";
import type { CommandResult } from "./output/result.js";
import { complaintOf, type Invocation, makeProgram } from "./program.js";
import { type GlobalFlags, type Settings, settingsFrom } from "./settings.js";

export const INTERRUPTED = 130;

export interface Parts {
  io: Io;
  clock: Clock;
  cluster: Cluster;
  /** Aborted by Ctrl-C and SIGTERM. */
  interrupt: AbortSignal;
}

export async function runCli(argv: string[], parts: Parts): Promise<number> {
  const { io } = parts;
  if (argv[0] === "__complete") return completion(argv.slice(argv[1] === "--" ? 2 : 1), io);
  const out: string[] = [];
  let invocation: Invocation | undefined;
  const { command } = makeProgram(
    COMMANDS,
    (text) => out.push(text),
    (found) => {
      invocation = found;
    },
  );
  let settings: Settings;
  try {
    await command.parseAsync(argv, { from: "user" });
    settings = settingsFrom(command.opts<GlobalFlags>(), io.env, io.stdout.isTTY === true);
  } catch (thrown) {
    const error = thrown instanceof FtError ? thrown : complaintOf(thrown, argv);
    await write(io.stdout, out.join(""));
    if (error === undefined) return ExitCode.ok;
    return fail(io, error, jsonAsked(argv, io.env));
  }
  if (invocation === undefined) return ExitCode.ok;
  return invoke(invocation, settings, parts);
}

async function invoke(
  { spec, args, options }: Invocation,
  settings: Settings,
  parts: Parts,
): Promise<number> {
  const { io } = parts;
  const signal = endOf(spec.name, settings.timeoutMs ?? spec.timeoutMs, parts.interrupt);
  const progress = progressLine(io, settings);
  const context = makeContext(parts, settings, signal, progress);
  try {
    const running = spec.run?.(context, args, options);
    const result = await (spec.endsItself ? running : Promise.race([running, ended(signal)]));
    progress.clear();
    if (result === undefined) return ExitCode.ok;
    return await show(result, settings, io);
  } catch (thrown) {
    progress.clear();
    if (parts.interrupt.aborted) return INTERRUPTED;
    const reason: unknown = signal.aborted ? signal.reason : thrown;
    return fail(io, asFtError(reason, `ftctl ${spec.name}`), settings.output === "json");
  }
}

function makeContext(
  { io, clock, cluster }: Parts,
  settings: Settings,
  signal: AbortSignal,
  progress: ProgressLine,
): Context {
  return {
    settings,
    client: new AgentClient(settings.socketPath),
    cluster,
    clock,
    env: io.env,
    signal,
    progress: (subject) => progress.of(subject),
    confirm: async (subject, question) => {
      progress.clear();
      if (!settings.yes) await confirm(io, signal, subject, question);
    },
    readStdin: () => readAll(io.stdin, signal),
    stdinIsTerminal: io.stdin.isTTY === true,
  };
}

function progressLine(io: Io, settings: Settings): ProgressLine {
  const isTerminal = io.stderr.isTTY === true;
  // With -o json, stderr carries JSON errors alone, unless a person is looking.
  const enabled = !settings.quiet && (isTerminal || settings.output !== "json");
  const sink = {
    write: (text: string) => void io.stderr.write(text),
    isTerminal,
    columns: io.stderr.columns ?? 80,
  };
  return new ProgressLine(sink, enabled);
}

/** Aborted by the interrupt, or by the time-out with the error that says so. */
function endOf(command: string, timeoutMs: number | undefined, interrupt: AbortSignal) {
  if (!timeoutMs) return interrupt;
  const timeOut = new AbortController();
  const error = new FtError({
    code: "TIME_OUT",
    subject: `ftctl ${command}`,
    message: `no answer within ${timeoutMs / 1000} s`,
    hint: "What was asked may still go on: see `ftctl events`. --timeout gives it longer.",
    exitCode: ExitCode.timeOut,
  });
  setTimeout(() => timeOut.abort(error), timeoutMs).unref();
  return AbortSignal.any([interrupt, timeOut.signal]);
}

/** Rejects when the command has to end, whatever it is waiting for. */
function ended(signal: AbortSignal): Promise<never> {
  return new Promise((_resolve, reject) => {
    if (signal.aborted) reject(signal.reason);
    signal.addEventListener("abort", () => reject(signal.reason), { once: true });
  });
}

async function show(result: CommandResult, settings: Settings, io: Io): Promise<number> {
  const paint = paintWith(settings.colors);
  const { output } = settings;
  if (result.kind === "text") {
    await write(io.stdout, renderText(result, output));
    return result.exitCode ?? ExitCode.ok;
  }
  if (result.kind === "stream") {
    const sink = {
      write: (text: string) => write(io.stdout, text),
      isTerminal: io.stdout.isTTY === true,
    };
    await printStream(result, output, paint, sink);
    return ExitCode.ok;
  }
  const failures = result.failures ?? [];
  // When the only object failed, an empty list would say that there is none.
  if (result.rows.length > 0 || failures.length === 0) {
    await write(io.stdout, renderRows(result, output, paint));
  }
  const forPeople = output === undefined || output === "table" || output === "wide";
  if (forPeople && result.rows.length === 0 && result.empty) {
    await write(io.stderr, `${result.empty}\n`);
  }
  if (output === undefined && result.advice && !settings.quiet) {
    await write(io.stderr, `${result.advice}\n`);
  }
  let worst = result.exitCode ?? ExitCode.ok;
  for (const error of failures) worst = Math.max(worst, await fail(io, error, output === "json"));
  return worst;
}

async function fail(io: Io, error: FtError, asJson: boolean): Promise<number> {
  const paint = paintWith(io.stderr.isTTY === true && !io.env.NO_COLOR && io.env.TERM !== "dumb");
  await write(io.stderr, asJson ? `${JSON.stringify(error)}\n` : renderError(error, paint));
  return error.exitCode;
}

/** Before the arguments could be parsed: whether JSON was meant. */
function jsonAsked(argv: string[], env: NodeJS.ProcessEnv): boolean {
  const flag = argv.findIndex((word) => word === "-o" || word === "--output");
  if (flag >= 0) return argv[flag + 1] === "json";
  return argv.some((word) => /^(-o|--output=)json$/.test(word)) || env.FTCTL_OUTPUT === "json";
}

async function completion(words: string[], io: Io): Promise<number> {
  const { command, specs } = makeProgram(
    COMMANDS,
    () => {},
    () => {},
  );
  const settings = settingsFrom({}, io.env, false);
  const names = namesFrom(new AgentClient(settings.socketPath), settings.policiesDir);
  await write(io.stdout, printCandidates(await complete(command, specs, words, names)));
  return ExitCode.ok;
}
