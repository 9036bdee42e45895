/** Binds files/mark.ts to the roots of a pair's container on this host. */
import { readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import { captureRoots } from "../docker/capture-roots.js";
import { parseMountinfo } from "../docker/mountinfo.js";
import { FtError } from "../errors/error.js";
import { type FileRoot, isMarked, markFiles, resetFiles } from "../files/mark.js";
import { limits } from "../limits.js";
import type { Application } from "../pair/ports.js";
import type { PairRecord } from "../pair/record.js";
import type { AgentShared } from "./main.js";
import { pairPaths } from "./paths.js";
import { policyOf } from "./wiring-pair.js";

const bounds = {
  entriesMax: limits.markedFilesMax,
  keptBytesMax: limits.markedBytesMax,
  keptFileBytesMax: limits.markedFileBytesMax,
};

const markFolder = (shared: AgentShared, record: PairRecord, epoch: number) =>
  join(pairPaths(shared.config.runDir, record.id).dir, `files-${epoch}`);

/**
 * The files as this checkpoint has them: marked before the first replay, and so again before every other one.
 * @throws FILES_CHANGED
 */
export async function filesAsOf(
  shared: AgentShared,
  record: PairRecord,
  app: Application,
  epoch: number,
): Promise<void> {
  const folder = markFolder(shared, record, epoch);
  const roots = await rootsOf(shared, record, app);
  if (!isMarked(folder)) return markFiles(roots, folder, bounds);
  const lost = resetFiles(roots, folder, bounds);
  if (lost.length === 0) return;
  throw new FtError({
    code: "FILES_CHANGED",
    subject: record.name,
    message: `a replay before this one has changed files for good: ${lost.slice(0, 5).join(", ")}${lost.length > 5 ? ", …" : ""}`,
    hint: "The files on this host are newer than the checkpoint. The standby's memory is lost; start the container anew from its files, or take the other host's.",
  });
}

export async function forgetFiles(shared: AgentShared, record: PairRecord, epoch: number) {
  await rm(markFolder(shared, record, epoch), { recursive: true, force: true });
}

async function rootsOf(
  shared: AgentShared,
  record: PairRecord,
  app: Application,
): Promise<FileRoot[]> {
  const inspect = await shared.engine.inspect(record.containerId);
  const mounts = parseMountinfo(await readFile(`/proc/${app.initPid}/mountinfo`, "utf8"));
  const lower = (inspect.GraphDriver.Data?.LowerDir ?? "").split(":").filter(Boolean);
  return captureRoots(inspect, mounts, policyOf(record).files.mounts).map(({ kind, path }) =>
    kind === "upper"
      ? { seen: path, through: `/proc/${app.initPid}/root`, lower }
      : { seen: path, through: path, lower: [] },
  );
}
