/**
 * After a takeover an application may run before all of its memory is there (native/feed). That is over in seconds; until then
 * nobody can take a checkpoint of it, since what is missing would be missing in the checkpoint. ftdump itself refuses, too.
 */
import { FtError } from "../errors/error.js";
import { limits } from "../limits.js";
import type { Pair } from "./pair.js";

/** @throws MEMORY_MISSING */
export async function untilFilled(pair: Pair): Promise<void> {
  const { app, host, record } = pair;
  if (!app || (await host.parts.memoryIsThere(app, 1))) return;
  pair.enter("syncing", "filling: memory of the application is still coming");
  if (await host.parts.memoryIsThere(app, limits.fillTimeoutMs)) return;
  throw new FtError({
    code: "MEMORY_MISSING",
    subject: `container ${record.name}`,
    message: `memory of the restored application is missing after ${limits.fillTimeoutMs} ms`,
    hint: "See the feeder's state in the file `feed` of the pair's run dir.",
  });
}

/** Tells when the memory is there, or why it will never be. */
export function watchFill(pair: Pair): void {
  const { app, host, record } = pair;
  const fromMs = host.clock.nowMs();
  const watch = async () => {
    const there = app !== undefined && (await host.parts.memoryIsThere(app, limits.fillTimeoutMs));
    const loss = await host.parts.memoryLoss(record);
    if (loss !== undefined) return tellLoss(pair, loss);
    if (!there) return;
    const fillMs = host.clock.nowMs() - fromMs;
    if (pair.takeover) pair.takeover = { ...pair.takeover, fillMs };
    pair.event("filled", "info", "all memory of the application is there", { fillMs });
  };
  pair.event("filling", "info", "the application runs; its memory comes meanwhile");
  watch().catch((error) => pair.log.warn({ err: error }, "the fill cannot be watched"));
}

function tellLoss(pair: Pair, loss: string): void {
  pair.lastError = new FtError({
    code: "MEMORY_LOST",
    subject: `container ${pair.record.name}`,
    message: `memory of the restored application did not come, and it was ended: ${loss}`,
  });
  pair.event("memory-lost", "error", pair.lastError.message);
}
