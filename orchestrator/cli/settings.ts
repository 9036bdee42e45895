/**
 * Where the command line finds things. Strongest first: flag > `FTCTL_*` > file (agent.yaml) > default.
 */
import { readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { parseDocument } from "yaml";
import { ExitCode, FtError } from "../errors/error.js";
import { OUTPUT_FORMATS, type OutputFormat } from "./output/result.js";

export interface Settings {
  /** The agent's configuration; its folder also holds `policies/`. */
  configFile: string;
  configGiven: boolean;
  stateDir: string;
  runDir: string;
  socketPath: string;
  policiesDir: string;
  /** Undefined: what is best to read for this command. */
  output: OutputFormat | undefined;
  /** Undefined: the command's own; 0: none. */
  timeoutMs: number | undefined;
  yes: boolean;
  quiet: boolean;
  colors: boolean;
}

export interface GlobalFlags {
  config?: string;
  stateDir?: string;
  runDir?: string;
  socket?: string;
  output?: string;
  timeout?: string;
  yes?: boolean;
  quiet?: boolean;
}

const CONFIG_BYTES_MAX = 256 * 1024;

export function settingsFrom(
  flags: GlobalFlags,
  env: NodeJS.ProcessEnv,
  stdoutIsTerminal: boolean,
): Settings {
  const given = flags.config ?? nonEmpty(env.FTCTL_CONFIG);
  const configFile = given ?? "/etc/ftctl/agent.yaml";
  const file = readConfig(configFile, given !== undefined);
  const setting = (flag: string | undefined, variable: string, key: string, fallback: string) =>
    flag ?? nonEmpty(env[variable]) ?? file(key) ?? fallback;
  const runDir = setting(flags.runDir, "FTCTL_RUN_DIR", "runDir", "/run/ftctl");
  const output = flags.output ?? nonEmpty(env.FTCTL_OUTPUT);
  const timeout = flags.timeout ?? nonEmpty(env.FTCTL_TIMEOUT);
  return {
    configFile,
    configGiven: given !== undefined,
    stateDir: setting(flags.stateDir, "FTCTL_STATE_DIR", "stateDir", "/var/lib/ftctl"),
    runDir,
    socketPath: flags.socket ?? nonEmpty(env.FTCTL_SOCKET) ?? join(runDir, "agent.sock"),
    policiesDir:
      nonEmpty(env.FTCTL_POLICIES_DIR) ??
      file("policiesDir") ??
      join(dirname(configFile), "policies"),
    output: output === undefined ? undefined : parseFormat(output),
    timeoutMs: timeout === undefined ? undefined : parseDuration(timeout),
    yes: flags.yes ?? truthy(env.FTCTL_YES),
    quiet: flags.quiet ?? truthy(env.FTCTL_QUIET),
    colors: stdoutIsTerminal && !nonEmpty(env.NO_COLOR) && env.TERM !== "dumb",
  };
}

/** `500ms`, `30s`, `5m`, `1h`, or seconds as a plain number; 0 is no time-out. */
export function parseDuration(text: string): number {
  const match = /^(\d{1,9}(?:\.\d{1,3})?)(ms|s|m|h)?$/.exec(text);
  const factor = { ms: 1, s: 1000, m: 60_000, h: 3_600_000 }[match?.[2] ?? "s"] as number;
  const ms = Math.round(Number(match?.[1]) * factor);
  // Timers hold 31 bits of milliseconds; more would fire at once.
  if (match !== null && ms < 2 ** 31) return ms;
  throw usage(`--timeout ${text}`, "expected a duration such as 500ms, 30s or 5m");
}

function parseFormat(text: string): OutputFormat {
  const format = OUTPUT_FORMATS.find((known) => known === text);
  if (format !== undefined) return format;
  throw usage(`--output ${text}`, `expected one of ${OUTPUT_FORMATS.join(", ")}`);
}

/** The few keys the command line itself needs; the agent validates the whole file. */
function readConfig(path: string, mustExist: boolean): (key: string) => string | undefined {
  let text: string;
  try {
    text = readFileSync(path, "utf8");
  } catch (error) {
    // The agent's file may be readable for root only; without it the defaults hold.
    if (!mustExist) return () => undefined;
    throw configUnreadable(path, (error as Error).message);
  }
  if (text.length > CONFIG_BYTES_MAX) throw configUnreadable(path, "is too large");
  const document = parseDocument(text, { logLevel: "silent", prettyErrors: false });
  const [problem] = document.errors;
  if (problem !== undefined) throw configUnreadable(path, problem.message);
  return (key) => {
    const value: unknown = document.get(key);
    return typeof value === "string" && value !== "" ? value : undefined;
  };
}

function configUnreadable(path: string, why: string): FtError {
  return new FtError({
    code: "CONFIG_INVALID",
    subject: `configuration ${path}`,
    message: `cannot be read: ${why}`,
    exitCode: ExitCode.usage,
  });
}

export function usage(subject: string, message: string, hint?: string): FtError {
  return new FtError({ code: "USAGE", subject, message, hint, exitCode: ExitCode.usage });
}

function nonEmpty(text: string | undefined): string | undefined {
  return text === "" ? undefined : text;
}

function truthy(text: string | undefined): boolean {
  return text !== undefined && !["", "0", "false", "no"].includes(text.toLowerCase());
}
