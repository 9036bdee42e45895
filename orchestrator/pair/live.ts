/**
 * The end of a takeover: the gate opens, and what is left to do is done.
 *
 * Invariant T2: once the gate may be open, the takeover has happened. Whoever was told that it failed would tear down what
 * clients have heard, or let an older state speak. So what fails from there on is told and gone on from.
 */
import { asFtError } from "../errors/error.js";
import { watchFill } from "./filling.js";
import type { Pair } from "./pair.js";
import { isHybrid } from "./recording.js";
import type { Takeover } from "./takeover.js";

/** @throws only if the gate itself said no: then it is not open */
export async function live(takeover: Takeover): Promise<void> {
  const { pair, generation, epoch } = takeover;
  // Copies of input that came after that epoch go in first. In mode hybrid the log has told of what it needs.
  await open(pair, generation, isHybrid(pair) ? undefined : epoch);
  pair.setApplication("running");
  pair.watchExit(pair.app!);
  const { lastEpoch } = pair.record;
  await settle(pair, "announce", async () => pair.gate?.announce());
  await settle(pair, "save", () =>
    pair.save({ phase: "steady", lastEpoch: Math.max(epoch, lastEpoch) }),
  );
  if (!isHybrid(pair)) return;
  await settle(pair, "settle the log", () => pair.host.parts.log.settled(pair.record, epoch));
}

/** A gate that did not answer may have opened. It is let go of, and the planner takes it up again, open (restartGate). */
async function open(pair: Pair, generation: number, inputAfter: number | undefined): Promise<void> {
  const gate = pair.requireGate();
  try {
    await gate.mode("open", generation, inputAfter);
  } catch (error) {
    const { code, message } = asFtError(error, pair.record.name);
    if (code === "CONTROL_FAILED") throw error;
    pair.event("gate-lost", "warning", `the gate did not say whether it opened (${message})`);
    gate.release();
    pair.gate = undefined;
  }
}

async function settle(pair: Pair, what: string, step: () => Promise<unknown>): Promise<void> {
  try {
    await pair.host.faults.pass("takeover.settle");
    await step();
  } catch (error) {
    pair.stepFailed(error, `takeover, ${what}`);
  }
}

/** Told, entered, and the standby's parts put away. Throws nothing. */
export async function finish(takeover: Takeover): Promise<void> {
  const { pair } = takeover;
  tell(takeover);
  if (takeover.lazyBytes > 0) watchFill(pair);
  pair.enter("unprotected", `took over (${takeover.reason}); no standby yet`);
  await pair.tick();
  await settle(pair, "end the store", () => endStore(pair));
  const { container } = pair.host.parts;
  await settle(pair, "make the interface narrow", () =>
    container.configureInterface(pair.record, pair.app!.initPid, "normal"),
  );
}

function tell(takeover: Takeover): void {
  const { pair, reason, startMs, detectionMs, restoreMs, lazyBytes, epoch, replay } = takeover;
  const totalMs = pair.host.clock.nowMs() - startMs;
  const figures = { detectionMs, restoreMs, totalMs, epoch, lazyBytes };
  pair.takeover = {
    at: new Date(pair.host.clock.wallMs()).toISOString(),
    ...figures,
    steps: takeover.timeline.steps,
    ...(replay ? { replay } : {}),
  };
  pair.host.metrics.takeover(pair.record.name, reason, "done");
  pair.event("takeover-done", "info", `took over from epoch ${epoch} (${reason})`, {
    ...figures,
    steps: takeover.timeline.toString(),
    ...(replay ? replayFields(replay) : {}),
  });
}

function replayFields(replay: NonNullable<Takeover["replay"]>) {
  const { ms, events, outputs, attempts, rebuilt } = replay;
  return { replayMs: ms, replayed: events, outputs, attempts, rebuilt };
}

/** The store served; the next standby's life begins with a full epoch. */
async function endStore(pair: Pair): Promise<void> {
  const { store } = pair;
  pair.store = undefined;
  try {
    await store?.discard();
  } finally {
    await store?.stop();
  }
}
