/** The policy of a command line: `-f FILE`, `--policy NAME`, or neither (labels and default decide). */
import type { Command } from "commander";
import {
  findPolicy,
  type LoadedPolicy,
  loadPolicyFile,
  parsePolicies,
} from "../../../policies/load.js";
import type { Context } from "../context.js";
import { usage } from "../settings.js";

export interface PolicyOptions {
  file?: string;
  policy?: string;
}

export function addPolicyOptions(command: Command): void {
  command
    .option("-f, --file <file>", "policy file (YAML); - is stdin")
    .option(
      "--policy <name>",
      "policy by name: the host's own or a built-in (`ftctl policy show`)",
    );
}

export async function loadFileOrStdin(context: Context, file: string): Promise<LoadedPolicy[]> {
  if (file !== "-") return loadPolicyFile(file);
  return parsePolicies(await context.readStdin(), "stdin");
}

export async function chosenPolicy(
  context: Context,
  { file, policy }: PolicyOptions,
): Promise<{ policy?: unknown; policyName?: string }> {
  if (file === undefined && policy === undefined) return {};
  const loaded =
    file === undefined
      ? await findPolicy(policy as string, context.settings.policiesDir)
      : onlyOne(await loadFileOrStdin(context, file), file, policy);
  return { policy: loaded.policy, policyName: loaded.policy.metadata.name };
}

function onlyOne(documents: LoadedPolicy[], file: string, name: string | undefined): LoadedPolicy {
  const names = documents.map(({ policy }) => policy.metadata.name);
  const matching = documents.filter(
    ({ policy }) => name === undefined || policy.metadata.name === name,
  );
  const [first] = matching;
  if (first !== undefined && matching.length === 1) return first;
  throw usage(
    `policy file ${file}`,
    name === undefined
      ? `has ${documents.length} policies: ${names.join(", ")}`
      : `has ${matching.length} policies of the name ${name}`,
    "Choose one with --policy NAME, or use `ftctl apply -f`.",
  );
}
