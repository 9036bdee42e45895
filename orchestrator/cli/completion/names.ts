/** Names for completion. Quick, or none: a shell waits for this while a person types. */
import { execFile } from "node:child_process";
import { promisify } from "node:util";
import { listPolicies } from "../../../policies/load.js";
import type { AgentClient } from "../../agent/api-client.js";
import type { Names } from "./complete.js";

const PATIENCE_MS = 1_000;

export function namesFrom(client: AgentClient, policiesDir: string): Names {
  return {
    pairs: () =>
      orNone(async () => {
        const pairs = await client.list(AbortSignal.timeout(PATIENCE_MS));
        return pairs.map(({ name }) => name);
      }),
    containers: () =>
      orNone(async () => {
        const options = { timeout: PATIENCE_MS };
        const { stdout } = await promisify(execFile)(
          "docker",
          ["ps", "--format", "{{.Names}}"],
          options,
        );
        return stdout.split("\n").filter((name) => name !== "");
      }),
    policies: () =>
      orNone(async () => {
        const policies = await listPolicies(policiesDir);
        return policies.map(({ policy }) => policy.metadata.name);
      }),
  };
}

/** Nobody can be told of an error in the middle of a word; the command itself will tell. */
async function orNone(find: () => Promise<string[]>): Promise<string[]> {
  try {
    return await find();
  } catch {
    return [];
  }
}
