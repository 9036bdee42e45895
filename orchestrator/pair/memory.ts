/** How the application's memory gets into a checkpoint, and what that costs. Pure. */
import type { EpochReport } from "../epoch/ports.js";

const MIB = 2 ** 20;
/** Below it the pause is of other things than memory. */
const TELLING_MIB = 25;

/** What a person is told when it changes; undefined: nothing. */
export function memoryNews(
  report: EpochReport,
  before: string | undefined,
): { type: string; level: "info" | "warning"; message: string } | undefined {
  const now = memoryKey(report);
  if (now === undefined || now === before) return undefined;
  const why = report.wholeWhy ?? "";
  if (report.tracking === "full") {
    const because = why === "" ? "" : ` (${why})`;
    const message = `written memory is not tracked here${because}: every checkpoint copies all of it, and the pause grows with it${cost(report)}`;
    return { type: "memory-untracked", level: "warning", message };
  }
  if (why !== "") {
    const message = `every checkpoint copies all memory of some processes (${why})`;
    return { type: "memory-untracked", level: "warning", message };
  }
  // The first news of a pair whose memory is tracked is no news.
  if (before === undefined) return undefined;
  return { type: "memory-tracked", level: "info", message: "only written memory is copied again" };
}

/** What tells one way from another; undefined: not known. */
export function memoryKey({ tracking, wholeWhy = "" }: EpochReport): string | undefined {
  return tracking === undefined ? undefined : `${tracking} ${wholeWhy}`;
}

/** As measured by this very checkpoint, which was whole. */
function cost({ pauseMs, memoryBytes = 0 }: EpochReport): string {
  const mib = memoryBytes / MIB;
  if (mib === 0) return "";
  const per = mib < TELLING_MIB ? "" : `, ${((pauseMs / mib) * 100).toFixed(0)} ms per 100 MiB`;
  return `; this one paused ${pauseMs.toFixed(1)} ms for ${mib.toFixed(0)} MiB${per}`;
}
