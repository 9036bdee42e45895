/** What a standby does: be built, be kept warm with epochs, say how it is. */
import { FtError, invariant } from "../errors/error.js";
import type { Pair } from "./pair.js";
import type { StoreControl } from "./ports.js";
import { attachGate } from "./primary.js";
import type { PairRecord } from "./record.js";
import { isHybrid, ship } from "./recording.js";
import { tearDown } from "./standdown.js";

/** Builds (or rebuilds from nothing) the warm standby that `record` describes on this host. */
export async function buildHere(pair: Pair, record: PairRecord): Promise<void> {
  const { role, generation } = pair.record;
  const own = pair.record === record || role === "standby" || generation < record.generation;
  invariant(
    own && generation <= record.generation,
    "P1: a primary is torn down for its successor only",
  );
  await tearDown(pair);
  await pair.save({ ...record, role: "standby", phase: "steady", containerId: "" });
  pair.enter("preparing", `standby of ${record.peer}, generation ${record.generation}`);
  const { container, log } = pair.host.parts;
  if (isHybrid(pair)) await log.clear(pair.record);
  const containerId = await container.create(pair.record);
  await pair.save({ containerId });
  await warmUp(pair);
}

/** From a container that exists to a standby that takes epochs. Also the way of a restarted agent. */
export async function warmUp(pair: Pair): Promise<void> {
  const { host, record } = pair;
  pair.app = await host.parts.container.start(record.containerId);
  await attachGate(pair, pair.app, "wide");
  await pair.requireGate().mode("closed", record.generation);
  await ship(pair, "mirror");
  await openStore(pair);
  pair.acceptance.start();
  pair.enter("warm", `waits for epochs of ${record.peer}`);
  await pair.tick();
}

/** Also after ftstore died: its state is on a tmpfs, and a commit that was acknowledged is there again. */
export async function openStore(pair: Pair): Promise<void> {
  const { app, host, record } = pair;
  invariant(app !== undefined, "a store belongs to a standby container");
  let opened: StoreControl | undefined;
  let gone = false;
  opened = await host.parts.openStore(record, app, () => {
    gone = true;
    if (opened !== undefined && pair.store === opened) pair.storeGone();
  });
  if (gone) {
    throw new FtError({
      code: "STORE_FAILED",
      subject: `pair ${record.id}`,
      message: "ftstore ended while it was opened",
    });
  }
  pair.store = opened;
}

/** An epoch has arrived at `path`: verified and committed, or refused by name. The reply releases output. */
export async function commitEpoch(
  pair: Pair,
  epoch: number,
  generation: number,
  path: string,
): Promise<{ commitMs: number }> {
  if (!pair.store && generation === pair.record.generation && pair.record.role === "standby") {
    throw new FtError({
      code: "STORE_FAILED",
      subject: `pair ${pair.record.id}`,
      message: `epoch ${epoch} came before ftstore was open: the standby's agent has just started`,
    });
  }
  if (generation !== pair.record.generation || !pair.store) {
    throw new FtError({
      code: "STALE_GENERATION",
      subject: `pair ${pair.record.id}`,
      message: `epoch ${epoch} is of generation ${generation}; this host is at ${pair.record.generation} as ${pair.record.role}`,
      hint: "The sender was replaced and will stand down.",
    });
  }
  const { host, store } = pair;
  return pair.acceptance.run(async () => {
    await host.faults.pass("epoch.commit.before");
    const { commitMs } = await store.commit(epoch, generation, path);
    await host.faults.pass("epoch.commit.after");
    pair.epochs.kept(epoch, host.clock.nowMs());
    return { commitMs };
  });
}
