/** Writing an epoch into its spool file, and what the sender is told when that fails. */
import type { FileHandle } from "node:fs/promises";
import { lengthOf } from "./chunk-queue.js";
import type { EpochReply } from "./frame.js";

/** Appends the chunks in one system call; undefined when all of them are in the file. */
export async function writeChunks(
  file: FileHandle,
  chunks: Buffer[],
): Promise<EpochReply | undefined> {
  try {
    const { bytesWritten } = await file.writev(chunks);
    const missing = lengthOf(chunks) - bytesWritten;
    if (missing === 0) return undefined;
    // A short write: the disk is full or nearly so. Trying the rest tells why.
    const rest = Buffer.concat(chunks).subarray(bytesWritten);
    const again = await file.write(rest);
    if (again.bytesWritten === missing) return undefined;
    return refusal("space", 28, "short write");
  } catch (error) {
    return spoolRefusal(error as NodeJS.ErrnoException);
  }
}

export function spoolRefusal(error: NodeJS.ErrnoException): EpochReply {
  const code = error.code === "ENOSPC" || error.code === "EDQUOT" ? "space" : "io";
  return refusal(code, Math.abs(error.errno ?? 0), error.message);
}

function refusal(code: string, errno: number, why: string): EpochReply {
  return { outcome: "refused", code, errno, detail: `the spool cannot be written: ${why}` };
}
