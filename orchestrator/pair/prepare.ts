/**
 * What a takeover needs and what can be had before it is known to come: the images composed and checked, the log checked, and the
 * programs started that wait for a word. Done while a peer that has fallen silent is asked.
 *
 * Invariants:
 *  R1  Nothing that is prepared is seen by anybody or kept on disk: if the takeover does not come, it is thrown away.
 *  R2  Whoever uses it finds out by himself whether it is still true (an epoch, or more of the log, has come since), and else does
 *      without. A preparation that fails is none.
 */
import type { Pair } from "./pair.js";
import { isHybrid } from "./recording.js";

/** Once: whoever comes later waits for the one under way. Never throws. */
export function prepareTakeover(pair: Pair): Promise<void> {
  pair.preparing ??= prepare(pair).catch((error: unknown) =>
    pair.log.info({ err: error }, "the takeover is not prepared"),
  );
  return pair.preparing;
}

async function prepare(pair: Pair): Promise<void> {
  const { app, host, record, store } = pair;
  if (!app || app.pid > 0 || !store) return;
  const hybrid = isHybrid(pair);
  const composed = store.prepare(false);
  const { parts } = host;
  const started = async () => {
    parts.prepareRestore(record, app, hybrid ? "keep" : undefined);
    if (hybrid) await parts.log.prepare(record, app, store.epoch);
  };
  const [images, programs] = await Promise.allSettled([composed, started()]);
  for (const one of [images, programs]) if (one.status === "rejected") throw one.reason;
}

/** The takeover does not come. */
export async function forgetPreparation(pair: Pair): Promise<void> {
  if (!pair.preparing) return;
  await endPreparation(pair);
  await pair.store?.unprepare();
}

/** What of it was not used is of no use any more. */
export async function endPreparation(pair: Pair): Promise<void> {
  const { preparing, host, record } = pair;
  if (!preparing) return;
  await preparing;
  pair.preparing = undefined;
  host.parts.unprepareRestore(record);
  host.parts.log.unprepare(record);
}
