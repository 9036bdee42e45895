/** Writing an epoch into its spool file, and what the sender is told when that fails. */
import { writeSync, writevSync } from "node:fs";
import { lengthOf } from "./chunk-queue.js";
import type { EpochReply } from "./frame.js";

/** Appends the chunks; undefined when all of them are in the file. */
export function writeChunks(file: number, chunks: Buffer[]): EpochReply | undefined {
  try {
    const written = writevSync(file, chunks);
    if (written === lengthOf(chunks)) return undefined;
    // A short write: the disk is nearly full. Writing the rest either works or tells why.
    let rest = Buffer.concat(chunks).subarray(written);
    while (rest.length > 0) rest = rest.subarray(writeSync(file, rest));
    return undefined;
  } catch (error) {
    return spoolRefusal(error as NodeJS.ErrnoException);
  }
}

export function spoolRefusal(error: NodeJS.ErrnoException): EpochReply {
  return {
    outcome: "refused",
    code: error.code === "ENOSPC" || error.code === "EDQUOT" ? "space" : "io",
    errno: Math.abs(error.errno ?? 0),
    detail: `the spool cannot be written: ${error.message}`,
  };
}
