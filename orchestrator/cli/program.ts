/** The tree of commands for commander, from the table of commands. */
import { Command, CommanderError, Option } from "commander";
import type { FtError } from "../errors/error.js";
import type { CommandSpec } from "./context.js";
import { OUTPUT_FORMATS } from "./output/result.js";
import { usage } from "./settings.js";
import { ownVersion } from "./version.js";

export interface Invocation {
  spec: CommandSpec;
  args: string[];
  options: object;
}

export interface Program {
  command: Command;
  specs: Map<Command, CommandSpec>;
}

/** `onInvoke` is told which command was given; help goes to `writeOut`. */
export function makeProgram(
  specs: readonly CommandSpec[],
  writeOut: (text: string) => void,
  onInvoke: (invocation: Invocation) => void,
): Program {
  const command = new Command("ftctl");
  const map = new Map<Command, CommandSpec>();
  quiet(command, writeOut);
  command
    .description("Containers that survive the death of their host.")
    .version(ownVersion(), "-V, --version")
    .configureHelp({ showGlobalOptions: true })
    .addHelpText("after", AFTER_HELP);
  addGlobalOptions(command);
  for (const spec of specs) addCommand(command, spec, map, writeOut, onInvoke);
  return { command, specs: map };
}

function addGlobalOptions(command: Command): void {
  const formats = OUTPUT_FORMATS.join("|");
  command
    .addOption(new Option("-o, --output <format>", formats))
    .option("-y, --yes", "answer questions with yes")
    .option("-q, --quiet", "no progress")
    .option("--timeout <duration>", "give up after this, with exit code 124 (30s, 5m; 0: never)")
    .option("--config <file>", "configuration (default: /etc/ftctl/agent.yaml)")
    .option("--socket <file>", "socket of the agent (default: <run dir>/agent.sock)")
    .option("--state-dir <dir>", "what outlives a reboot (default: /var/lib/ftctl)")
    .option("--run-dir <dir>", "what does not (default: /run/ftctl)");
}

function addCommand(
  parent: Command,
  spec: CommandSpec,
  map: Map<Command, CommandSpec>,
  writeOut: (text: string) => void,
  onInvoke: (invocation: Invocation) => void,
): void {
  const command = parent.command(spec.name).summary(spec.summary).description(spec.summary);
  quiet(command, writeOut);
  command.configureHelp({ showGlobalOptions: true });
  map.set(command, spec);
  spec.configure?.(command);
  if (spec.examples !== undefined) {
    command.addHelpText("after", `\nExamples:\n  ${spec.examples.join("\n  ")}`);
  }
  for (const child of spec.subcommands ?? []) addCommand(command, child, map, writeOut, onInvoke);
  if (spec.run === undefined) return;
  command.action(() => {
    onInvoke({ spec, args: command.processedArgs.flat(), options: command.opts() });
  });
}

/** Nothing is printed and nothing exits but by our own hand. */
function quiet(command: Command, writeOut: (text: string) => void): void {
  command.exitOverride();
  command.configureOutput({ writeOut, writeErr: () => {} });
}

/** Commander's complaint as an error of ours; undefined when it only printed help or version. */
export function complaintOf(error: unknown, argv: string[]): FtError | undefined {
  if (!(error instanceof CommanderError)) throw error;
  if (error.exitCode === 0) return undefined;
  const subject = `ftctl ${argv[0] ?? ""}`.trim();
  if (error.code === "commander.help") {
    return usage(subject, "a command is missing", `\`${helpFor(argv)}\` lists them.`);
  }
  const [message = "", ...rest] = error.message.replace(/^error: /, "").split("\n");
  const suggestion = rest.join(" ").replace(/[()]/g, "").trim();
  const help = error.code === "commander.unknownCommand" ? "ftctl --help" : helpFor(argv);
  const hint = [suggestion, `See \`${help}\`.`].filter((part) => part !== "").join(" ");
  return usage(subject, message, hint);
}

function helpFor(argv: string[]): string {
  const first = argv.find((word) => !word.startsWith("-"));
  return first === undefined ? "ftctl --help" : `ftctl ${first} --help`;
}

const AFTER_HELP = `
Exit codes: 0 ok, 1 error, 2 usage, 3 not found, 4 preflight failed, 5 degraded,
6 refused for safety, 7 peer unreachable, 124 time-out, 130 interrupted. Of several, the highest.

Settings: flag, then FTCTL_CONFIG, FTCTL_SOCKET, FTCTL_STATE_DIR, FTCTL_RUN_DIR, FTCTL_OUTPUT,
FTCTL_TIMEOUT, FTCTL_YES, FTCTL_QUIET, then the configuration file. NO_COLOR turns colours off.`;
