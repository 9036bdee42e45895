/**
 * Mode hybrid, seen from a pair: which of its gates ships, and what output waits for.
 *
 * Invariants:
 *  H1  The gate is in mode `log` only while the standby holds a checkpoint from which the stream tells all. The gate
 *      refuses otherwise, and here it is asked again after each epoch.
 *  H2  Whatever ends the stream puts output back under the checkpoints (mode `hold`): never out unprotected.
 *  H3  A stream begins only when a recorder writes: a checkpoint in it from before would lead over what was not recorded.
 */
import { asFtError } from "../errors/error.js";
import type { Pair } from "./pair.js";
import type { GateNews, Recording, ShipRole } from "./ports.js";

export function isHybrid(pair: Pair): boolean {
  return pair.policy.mode === "hybrid";
}

/** Before the first checkpoint, and whenever the gate is a new one. Does nothing in other modes. */
export async function ship(pair: Pair, role: ShipRole): Promise<void> {
  if (!isHybrid(pair)) return;
  pair.covered = false;
  await pair.discarding;
  pair.shipping = role === "source" && (await recording(pair)).is !== "beginning";
  if (role === "mirror" || pair.shipping) await pair.requireGate().ship(role);
}

function recording(pair: Pair): Promise<Recording> {
  return pair.host.parts.log.recording(pair.record);
}

/** The standby has committed `epoch`: the log before it may go, and from it on the log may cover output. */
export async function afterCommit(pair: Pair, epoch: number): Promise<void> {
  if (!isHybrid(pair)) return;
  const gate = pair.requireGate();
  try {
    if (pair.shipping) await gate.trim(epoch);
    if (pair.covered) return;
    const { is, why } = await recording(pair);
    if (is !== "underWay") return await backToHold(pair, why);
    if (!pair.shipping) return await backToHold(pair, "its event log has just begun");
    await gate.mode("log", pair.record.generation);
    pair.covered = true;
    pair.uncoveredWhy = "";
    pair.event("log-covers", "info", `output waits for the event log, from epoch ${epoch} on`);
  } catch (error) {
    await backToHold(pair, asFtError(error, pair.record.name).message);
  }
}

/** Output waits for checkpoints until the log covers it again: from the next one on, if there can be a stream. */
async function backToHold(pair: Pair, why: string): Promise<void> {
  if (pair.covered) await pair.requireGate().mode("hold", pair.record.generation);
  if (pair.covered || pair.uncoveredWhy !== why) {
    pair.event("log-does-not-cover", "warning", `output waits for checkpoints: ${why}`);
  }
  pair.covered = false;
  pair.uncoveredWhy = why;
  // Without a recorder there is nothing to ship, and the gate would say so again and again.
  if ((await recording(pair)).is === "underWay") await ship(pair, "source");
}

/**
 * Without a standby nobody trims the log, and a full one would stop the application: so what is recorded then is
 * forgotten. Called by the pair's tick.
 */
export function discardUnshipped(pair: Pair): void {
  const { record, host, state } = pair;
  const alone = record.role === "primary" && (state === "unprotected" || state === "syncing");
  if (!isHybrid(pair) || !alone || pair.shipping || pair.discarding) return;
  pair.discarding = host.parts.log
    .discard(record)
    .catch((error: unknown) => pair.log.warn({ err: error }, "the event log was not trimmed"))
    .finally(() => {
      pair.discarding = undefined;
    });
}

type ShipNews = Extract<GateNews, { kind: "ship" }>;

const SAID: Record<
  Exclude<ShipNews["state"], "ended">,
  [type: string, level: "info" | "warning" | "error", message: string]
> = {
  lost: ["log-link-lost", "warning", "the event log does not get across: output waits"],
  back: ["log-link-back", "info", "the event log gets across"],
  full: ["log-full", "warning", "no room for the event log: the application waits"],
  room: ["log-room", "info", "there is room for the event log again"],
  broken: ["log-broken", "error", "the event log cannot be followed any more"],
};

export function onShipNews(pair: Pair, { state, reason }: ShipNews): void {
  if (state === "ended") {
    pair.covered = false;
    pair.shipping = false;
    return;
  }
  const [type, level, message] = SAID[state];
  pair.event(type, level, reason === "" ? message : `${message} (${reason})`);
  if (state !== "broken" || !pair.loop) return;
  void backToHold(pair, "the log is broken").catch((error: unknown) =>
    pair.log.warn({ err: error }, "leaving mode log failed"),
  );
}
