/**
 * `ftctl apply -f`: makes what the files say true, and nothing when it is true already.
 *
 *   - A policy is stored in the host's folder of policies, where `--policy NAME` and the container label
 *     `ftctl.policy=NAME` find it.
 *   - The containers in its `spec.containers` are protected with it. One that is protected with other
 *     settings is left alone unless `--replace` is given, because the change restarts it.
 */
import { readdir, stat } from "node:fs/promises";
import { join } from "node:path";
import { isDeepStrictEqual } from "node:util";
import { applyLabels, type Labels } from "../../../policies/labels.js";
import type { LoadedPolicy } from "../../../policies/load.js";
import { resolvePolicy } from "../../../policies/resolve.js";
import type { ProtectionPolicy } from "../../../policies/schema.js";
import type { PairView } from "../../agent/api-types.js";
import { ExitCode, FtError } from "../../errors/error.js";
import { limits } from "../../limits.js";
import type { CommandSpec, Context } from "../context.js";
import { rows, type Tone, type View } from "../output/result.js";
import { loadFileOrStdin } from "./policy-source.js";
import { type PolicyChange, storePolicy } from "./policy-store.js";
import { each, type Several } from "./several.js";

interface Applied {
  object: string;
  action: PolicyChange;
}

interface ApplyOptions {
  file: string[];
  replace?: boolean;
  dryRun?: boolean;
}

const TONES: Record<PolicyChange, Tone> = { created: "good", configured: "good", unchanged: "dim" };

const view: View<Applied> = {
  name: (row) => row.object,
  lines: true,
  describe: (row, paint) => `${row.object} ${paint(TONES[row.action], row.action)}\n`,
  columns: [
    { header: "OBJECT", cell: (row) => row.object },
    { header: "ACTION", cell: (row) => row.action },
  ],
};

export const applyCommand: CommandSpec<ApplyOptions> = {
  name: "apply",
  summary: "Store policies and protect the containers that they list; repeatable",
  timeoutMs: limits.imageTransferTimeoutMs + limits.controlSlowCallTimeoutMs,
  examples: [
    "ftctl apply -f policies/",
    "cat web.yaml | ftctl apply -f - -y",
    "ftctl apply -f web.yaml --dry-run",
  ],
  configure(command) {
    command.requiredOption("-f, --file <file...>", "policy files or folders of them; - is stdin");
    command.option("--replace", "protect anew what is protected with other settings (restarts it)");
    command.option("--dry-run", "say what would be done and do nothing");
  },
  async run(context, _args, options) {
    // Everything is read and valid before anything changes.
    const policies = await readAll(context, options.file);
    const stored = await each(context, [...policies.keys()], async (name) => {
      const loaded = policies.get(name) as LoadedPolicy;
      const { policiesDir } = context.settings;
      const action = await storePolicy(policiesDir, loaded, options.dryRun === true);
      return { object: `policy/${name}`, action };
    });
    const containers = await applyContainers(context, policies, options);
    const failures = [...stored.failures, ...containers.failures];
    return rows({ view, rows: [...stored.rows, ...containers.rows], failures });
  },
};

async function readAll(context: Context, paths: string[]): Promise<Map<string, LoadedPolicy>> {
  const found = new Map<string, LoadedPolicy>();
  for (const path of paths) {
    for (const file of await filesOf(path)) {
      for (const loaded of await loadFileOrStdin(context, file)) {
        const { name } = loaded.policy.metadata;
        const other = found.get(name);
        if (other !== undefined) throw givenTwice(name, other.place, loaded.place);
        found.set(name, loaded);
      }
    }
  }
  return found;
}

async function filesOf(path: string): Promise<string[]> {
  if (path === "-") return [path];
  const info = await stat(path).catch(() => undefined);
  // What cannot be looked at is told by the loader, in its words.
  if (!info?.isDirectory()) return [path];
  const names = (await readdir(path)).filter((name) => /^[^.].*\.ya?ml$/.test(name)).sort();
  return names.map((name) => join(path, name));
}

async function applyContainers(
  context: Context,
  policies: Map<string, LoadedPolicy>,
  options: ApplyOptions,
): Promise<Several<Applied>> {
  const policyOf = new Map<string, ProtectionPolicy>();
  for (const { policy, place } of policies.values()) {
    for (const container of policy.spec.containers ?? []) {
      const other = policyOf.get(container);
      if (other !== undefined) throw listedTwice(container, other, place);
      policyOf.set(container, policy);
    }
  }
  if (policyOf.size === 0) return { rows: [], failures: [] };
  const pairs = await context.client.list(context.signal);
  return each(context, [...policyOf.keys()], async (container) => {
    const policy = policyOf.get(container) as ProtectionPolicy;
    const pair = pairs.find(({ name }) => name === container);
    const action = await applyContainer(context, container, policy, pair, options);
    return { object: `container/${container}`, action };
  });
}

async function applyContainer(
  context: Context,
  container: string,
  policy: ProtectionPolicy,
  pair: PairView | undefined,
  options: ApplyOptions,
): Promise<PolicyChange> {
  const { client, signal } = context;
  if (pair !== undefined) {
    if (isSame(policy, await client.inspect(pair.id, signal), container)) return "unchanged";
    if (options.replace !== true) throw changeNeedsReplace(container, policy);
  }
  const action = pair === undefined ? "created" : "configured";
  if (options.dryRun) return action;
  await context.confirm(
    `container ${container}`,
    `Protecting ${container} restarts it: its clients are disconnected. Go on?`,
  );
  const operation = { signal, onProgress: context.progress(container) };
  if (pair !== undefined) await client.unprotect({ pair: pair.id }, operation);
  const request = { container, policy, policyName: policy.metadata.name };
  await client.protect(request, operation);
  return action;
}

/**
 * Whether a pair already has the settings that this policy would give it. The standby is left out: after a
 * failover the hosts have changed places, and that is no change of the policy.
 */
function isSame(policy: ProtectionPolicy, inspected: Record<string, unknown>, container: string) {
  const record = inspected.record as
    | { id: string; policy: Record<string, unknown>; plainSpec?: { Labels?: Labels } }
    | undefined;
  if (record?.policy === undefined) return false;
  const effective = applyLabels(policy, record.plainSpec?.Labels ?? {}, container);
  const wanted = resolvePolicy(effective, { container, pairId: record.id, onlyPeer: "any" });
  return isDeepStrictEqual(comparable(wanted), comparable(record.policy));
}

function comparable(policy: object): unknown {
  return JSON.parse(JSON.stringify({ ...policy, standby: undefined }));
}

function givenTwice(name: string, first: string, second: string): FtError {
  return new FtError({
    code: "POLICY_GIVEN_TWICE",
    subject: `policy ${name}`,
    message: `is in ${first} and in ${second}`,
    hint: "Every policy needs a name of its own.",
    exitCode: ExitCode.usage,
  });
}

function listedTwice(container: string, other: ProtectionPolicy, place: string): FtError {
  return new FtError({
    code: "POLICY_GIVEN_TWICE",
    subject: `container ${container}`,
    message: `is listed in policy ${other.metadata.name} and again in ${place}`,
    hint: "A container has one policy: take it out of the other spec.containers.",
    exitCode: ExitCode.usage,
  });
}

function changeNeedsReplace(container: string, policy: ProtectionPolicy): FtError {
  return new FtError({
    code: "POLICY_CHANGE_NEEDS_REPLACE",
    subject: `container ${container}`,
    message: `is protected with other settings than policy ${policy.metadata.name} now has; changing them restarts it`,
    hint: "Add --replace to unprotect it and protect it anew.",
    exitCode: ExitCode.refused,
  });
}
