/** What every command gets: settings, the agent, time, and ways to talk to the person at the terminal. */
import type { Command } from "commander";
import type { AgentClient } from "../agent/api-client.js";
import type { Progress } from "../agent/api-types.js";
import type { Clock } from "../clock.js";
import type { Cluster } from "./cluster.js";
import type { CommandResult } from "./output/result.js";
import type { Settings } from "./settings.js";

export interface Context {
  settings: Settings;
  client: AgentClient;
  cluster: Cluster;
  clock: Clock;
  env: NodeJS.ProcessEnv;
  /** Ends the command: time-out, Ctrl-C, or nobody reads stdout any more. */
  signal: AbortSignal;
  progress(subject: string): (progress: Progress) => void;
  /** Asks on a terminal; throws unless the answer is yes or `-y` was given. */
  confirm(subject: string, question: string): Promise<void>;
  /** Stdin as text, up to a bound. */
  readStdin(): Promise<string>;
  stdinIsTerminal: boolean;
}

export interface CommandSpec<Options = object> {
  name: string;
  summary: string;
  /** Below the help: what a person would type. */
  examples?: string[];
  /** What positional arguments are, for completion. */
  completes?: "pair" | "container" | "policy" | "shell" | "file";
  /** Unless --timeout says otherwise; undefined: none. */
  timeoutMs?: number;
  /** Stops in order when interrupted, and in its own time. */
  endsItself?: boolean;
  subcommands?: CommandSpec[];
  configure?(command: Command): void;
  run?(context: Context, args: string[], options: Options): Promise<CommandResult | undefined>;
}
