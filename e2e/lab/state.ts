/** What a lab remembers between commands: only what its namespaces cannot tell. Written whole or not at all. */
import { existsSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";
import { z } from "zod";
import { FtError } from "../../orchestrator/errors/error.js";

const LabState = z.strictObject({
  version: z.literal(1),
  hosts: z.array(z.string()).min(1),
  agents: z.boolean(),
  /** Folders made on the machine for the hosts to mount over; removed with the lab. */
  foldersMade: z.array(z.string()),
});
export type LabState = z.infer<typeof LabState>;

export function readState(file: string): LabState | undefined {
  if (!existsSync(file)) return undefined;
  try {
    return LabState.parse(JSON.parse(readFileSync(file, "utf8")));
  } catch (cause) {
    throw new FtError({
      code: "LAB_STATE_BAD",
      subject: file,
      message: "is not a lab's state",
      hint: "ftlab down removes what is left of the lab",
      cause,
    });
  }
}

export function writeState(file: string, state: LabState): void {
  mkdirSync(dirname(file), { recursive: true });
  writeFileSync(`${file}.new`, `${JSON.stringify(LabState.parse(state), null, 2)}\n`);
  renameSync(`${file}.new`, file);
}

export function removeState(file: string): void {
  rmSync(file, { force: true });
}
