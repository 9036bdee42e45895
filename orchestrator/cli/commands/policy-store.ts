/** The host's own policies: one file a policy, `<name>.yaml`, replaced whole or not at all. */
import { mkdir, open, rename, unlink } from "node:fs/promises";
import { join } from "node:path";
import { isDeepStrictEqual } from "node:util";
import { stringify } from "yaml";
import { type LoadedPolicy, listPolicies, parsePolicies } from "../../../policies/load.js";
import { ExitCode, FtError } from "../../errors/error.js";

export type PolicyChange = "created" | "configured" | "unchanged";

export async function storePolicy(
  policiesDir: string,
  loaded: LoadedPolicy,
  dryRun: boolean,
): Promise<PolicyChange> {
  const { name } = loaded.policy.metadata;
  const path = join(policiesDir, `${name}.yaml`);
  const known = await listPolicies(policiesDir);
  const existing = known.find((one) => one.origin === "file" && one.policy.metadata.name === name);
  if (existing !== undefined && existing.path !== path) throw nameTaken(name, existing.path);
  // Meaning counts, not comments: two texts of the same policy are the same policy.
  if (existing !== undefined && isDeepStrictEqual(existing.policy, loaded.policy)) {
    return "unchanged";
  }
  if (!dryRun) await replace(policiesDir, path, textOf(loaded));
  return existing === undefined ? "created" : "configured";
}

/** With its comments if it is alone in its file. */
function textOf({ text, place, input }: LoadedPolicy): string {
  return parsePolicies(text, place).length === 1 ? text : stringify(input);
}

async function replace(dir: string, path: string, text: string): Promise<void> {
  const temporary = `${path}.${process.pid}.tmp`;
  try {
    await mkdir(dir, { recursive: true, mode: 0o755 });
    const file = await open(temporary, "w", 0o644);
    try {
      await file.writeFile(text);
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(temporary, path);
  } catch (cause) {
    // The one that is in use is whole; what is left of the new one is removed as far as possible.
    await unlink(temporary).catch(() => {});
    throw new FtError({
      code: "POLICY_NOT_STORED",
      subject: `policy file ${path}`,
      message: `cannot be written: ${(cause as Error).message}`,
      hint: "Run ftctl as root, or give another folder with --config.",
      cause,
    });
  }
}

function nameTaken(name: string, path: string): FtError {
  return new FtError({
    code: "POLICY_NAME_TAKEN",
    subject: `policy ${name}`,
    message: `is already defined in ${path}`,
    hint: "Change or remove that file, or give this policy another name.",
    exitCode: ExitCode.refused,
  });
}
