/** Standing down: a primary that was replaced closes its gate, removes its copy and is ready to become the standby. */
import type { Pair } from "./pair.js";
import { stopEpochs } from "./primary.js";

/** @param generation of the primary that replaced this one */
export async function standDown(pair: Pair, generation: number): Promise<void> {
  pair.enter("standingDown", `${pair.record.peer} is primary of generation ${generation}`);
  await pair.gate?.mode("closed", pair.record.generation).catch((error: unknown) => {
    // Without epochs nothing can be released: a gate that does not answer holds what it has.
    pair.log.warn({ err: error }, "the gate did not close; it is ended");
  });
  await stopEpochs(pair, "superseded");
  await tearDown(pair);
  await pair.save({ role: "standby", generation, phase: "steady", containerId: "" });
  pair.enter("preparing", `waits for ${pair.record.peer} to make it the standby`);
  await pair.refreshPeer();
}

/** Ends everything of the pair that runs on this host; the record stays. */
export async function tearDown(pair: Pair): Promise<void> {
  const { record, host } = pair;
  pair.unwatchExit?.();
  pair.unwatchExit = undefined;
  const { gate, store, dumper } = pair;
  pair.gate = undefined;
  pair.app = undefined;
  pair.store = undefined;
  pair.dumper = undefined;
  pair.setApplication("none");
  await gate?.quit().catch((error: unknown) => pair.log.warn({ err: error }, "gate quit"));
  await dumper?.stop();
  if (store) await store.discard().then(() => store.stop());
  if (record.containerId) await host.parts.container.remove(record.containerId);
}
