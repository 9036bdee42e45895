/** What a crash in the middle of `protect`, or of its undo, can leave running: a gate whose pair has no record. */
import { readdir, rm } from "node:fs/promises";
import { join } from "node:path";
import type { Logger } from "pino";
import { Gate } from "../network/gate.js";
import { pairPaths } from "./paths.js";

/** Ends them before pairs are taken up: each holds an address for heartbeats and an interface. Returns their pairs. */
export async function endLeftGates(
  runDir: string,
  known: (pair: string) => boolean,
  log: Logger,
): Promise<string[]> {
  const ended: string[] = [];
  for (const pair of await foldersIn(join(runDir, "pairs"))) {
    if (known(pair)) continue;
    const { dir, gateSocket } = pairPaths(runDir, pair);
    try {
      if (await Gate.quitAt(pair, gateSocket)) ended.push(pair);
      await rm(dir, { recursive: true, force: true });
    } catch (error) {
      log.error({ err: error, pair }, "a gate without a pair could not be ended");
    }
  }
  return ended;
}

async function foldersIn(dir: string): Promise<string[]> {
  try {
    return await readdir(dir);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return [];
    throw error;
  }
}
