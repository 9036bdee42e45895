/** Candidates for the word under the cursor. Pure: names of pairs, containers and policies are asked through `Names`. */
import type { Command, Option } from "commander";
import type { CommandSpec } from "../context.js";
import { OUTPUT_FORMATS } from "../output/result.js";
import { SHELLS } from "./scripts.js";

export interface Candidate {
  word: string;
  description: string;
}

export interface Candidates {
  words: Candidate[];
  files: boolean;
}

export interface Names {
  pairs(): Promise<string[]>;
  containers(): Promise<string[]>;
  policies(): Promise<string[]>;
}

const NONE: Candidates = { words: [], files: false };
const FILES: Candidates = { words: [], files: true };

/** `words` are those after `ftctl`; the last one, possibly empty, is being typed. */
export async function complete(
  program: Command,
  specs: ReadonlyMap<Command, CommandSpec>,
  words: string[],
  names: Names,
): Promise<Candidates> {
  const current = words.at(-1) ?? "";
  const { command, argument, awaiting } = walk(program, words.slice(0, -1));
  const spec = specs.get(command);
  const found =
    awaiting !== undefined
      ? await optionValues(awaiting, names)
      : current.startsWith("-")
        ? optionNames(program, command)
        : await argumentsOf(command, spec, argument, names);
  return { ...found, words: found.words.filter(({ word }) => word.startsWith(current)) };
}

/** Follows the words before the cursor down to a subcommand; counts its arguments. */
function walk(program: Command, before: string[]) {
  let command = program;
  let argument = 0;
  let awaiting: Option | undefined;
  for (const word of before) {
    if (awaiting !== undefined) {
      awaiting = undefined;
      continue;
    }
    if (word.startsWith("-")) {
      const option = allOptions(program, command).find(({ long, short }) =>
        [long, short].includes(word),
      );
      if (option?.required || option?.optional) awaiting = option;
      continue;
    }
    const child = argument === 0 ? command.commands.find((c) => c.name() === word) : undefined;
    if (child === undefined) argument += 1;
    else command = child;
  }
  return { command, argument, awaiting };
}

function allOptions(program: Command, command: Command): Option[] {
  const own = command === program ? [] : command.options;
  return [...own, ...program.options];
}

function optionNames(program: Command, command: Command): Candidates {
  const words = allOptions(program, command)
    .filter((option) => !option.hidden)
    .map((option) => ({
      word: option.long ?? option.short ?? "",
      description: option.description,
    }));
  return { words: [...words, { word: "--help", description: "display help" }], files: false };
}

async function optionValues(option: Option, names: Names): Promise<Candidates> {
  switch (option.attributeName()) {
    case "output":
      return plain([...OUTPUT_FORMATS]);
    case "policy":
      return plain(await names.policies());
    case "file":
    case "config":
    case "socket":
    case "stateDir":
    case "runDir":
      return FILES;
    default:
      return NONE;
  }
}

async function argumentsOf(
  command: Command,
  spec: CommandSpec | undefined,
  argument: number,
  names: Names,
): Promise<Candidates> {
  if (command.commands.length > 0 && argument === 0) {
    const visible = command.commands.filter((child) => !child.name().startsWith("__"));
    const words = visible.map((child) => ({
      word: child.name(),
      description: child.summary() || child.description(),
    }));
    return { words, files: false };
  }
  switch (spec?.completes) {
    case "pair":
      return plain(await names.pairs());
    case "container":
      return plain(await names.containers());
    case "policy":
      return plain(await names.policies());
    case "shell":
      return plain(argument === 0 ? [...SHELLS] : []);
    case "file":
      return FILES;
    default:
      return NONE;
  }
}

function plain(words: string[]): Candidates {
  return { words: words.map((word) => ({ word, description: "" })), files: false };
}

export function printCandidates({ words, files }: Candidates): string {
  const lines = words.map(({ word, description }) => `${word}\t${description.split("\n")[0]}`);
  return [...lines, ...(files ? [":files"] : [])].map((line) => `${line}\n`).join("");
}
