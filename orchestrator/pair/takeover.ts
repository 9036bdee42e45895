/**
 * Takeover: the standby becomes the primary. The phases are data, in order; each is a fault point.
 *
 *   begin        no more epochs are accepted, the one in flight is waited for
 *   fence        the generation is raised, on disk, and the gate is told: from here the old primary is history
 *   claim        gratuitous ARP: clients' retransmissions now come here and are queued
 *   materialize  the last committed epoch as images and files
 *   restore      CRIU
 *   live         queued input in, output free
 *
 * Invariants:
 *  T1  What is restored is the last epoch that was ever acknowledged to the old primary.
 *  T2  No frame of the application leaves before `live`.
 *  T3  A takeover that was begun is carried on after a crash of the agent (record phase `takingOver`).
 */

import { asFtError, FtError } from "../errors/error.js";
import type { FaultPoint } from "../faults/faults.js";
import { limits } from "../limits.js";
import type { Pair } from "./pair.js";
import type { TakeoverReason } from "./plan.js";

interface Takeover {
  pair: Pair;
  reason: TakeoverReason;
  generation: number;
  startMs: number;
  detectionMs: number;
  imagesDir: string;
  epoch: number;
  restoreMs: number;
}

interface Phase {
  point: FaultPoint;
  run: (takeover: Takeover) => Promise<void>;
}

const PHASES: Phase[] = [
  { point: "takeover.begin", run: begin },
  { point: "takeover.fence", run: fence },
  { point: "takeover.claim", run: (t) => t.pair.requireGate().announce() },
  { point: "takeover.materialize", run: materialize },
  { point: "takeover.restore", run: restore },
  { point: "takeover.live", run: live },
];

/**
 * @param generation  what the old primary proposed (switchover), or undefined: one more than any known
 * @throws the first phase's error, after the state became `failed`; nothing was released then
 */
export async function takeOver(
  pair: Pair,
  reason: TakeoverReason,
  generation?: number,
): Promise<void> {
  const nowMs = pair.host.clock.nowMs();
  const known = Math.max(pair.record.generation, pair.peerStatus.generation);
  const { heartbeatMs, missLimit } = pair.policy.detection;
  const silentMs = pair.beatSilentAtMs === undefined ? 0 : nowMs - pair.beatSilentAtMs;
  const takeover: Takeover = {
    pair,
    reason,
    generation: generation ?? known + 1,
    startMs: nowMs,
    detectionMs: reason === "host-lost" ? silentMs + heartbeatMs * missLimit : 0,
    imagesDir: "",
    epoch: 0,
    restoreMs: 0,
  };
  pair.order = undefined;
  pair.enter("takingOver", reason);
  try {
    for (const phase of PHASES) {
      await pair.host.faults.pass(phase.point);
      await phase.run(takeover);
    }
    await finish(takeover);
  } catch (error) {
    pair.host.metrics.takeover(pair.record.name, reason, "failed");
    pair.enter("failed", `takeover failed: ${asFtError(error, pair.record.name).message}`);
    throw error;
  }
}

async function begin({ pair }: Takeover): Promise<void> {
  await pair.stopAccepting();
}

async function fence({ pair, generation }: Takeover): Promise<void> {
  await pair.save({ role: "primary", generation, phase: "takingOver" });
  await pair.requireGate().mode("takeover", generation);
}

async function materialize(takeover: Takeover): Promise<void> {
  const { pair } = takeover;
  if (!pair.store) {
    throw new FtError({
      code: "NO_CHECKPOINT",
      subject: pair.record.name,
      message: "this host has no store of checkpoints for the pair",
      hint: "Start the container anew from its files, on the host that ran it last.",
    });
  }
  const { epoch, imagesDir } = await pair.store.materialize();
  takeover.epoch = epoch;
  takeover.imagesDir = imagesDir;
}

async function restore(takeover: Takeover): Promise<void> {
  const { pair, imagesDir } = takeover;
  const app = pair.app;
  if (!app) {
    throw new FtError({
      code: "STANDBY_GONE",
      subject: pair.record.name,
      message: "the standby container does not run",
    });
  }
  // An earlier attempt came this far: it lives already, and nothing of it has left.
  if (app.pid > 0) return;
  for (let attempt = 1; ; attempt += 1) {
    try {
      const result = await pair.host.parts.restore(pair.record, app, imagesDir);
      takeover.restoreMs = result.restoreMs;
      pair.app = { ...app, pid: result.pid };
      return;
    } catch (error) {
      if (attempt >= limits.restoreAttemptsMax) throw error;
      pair.event(
        "restore-retried",
        "warning",
        `restore failed, attempt ${attempt}: ${String(error)}`,
      );
    }
  }
}

async function live({ pair, generation, epoch }: Takeover): Promise<void> {
  const gate = pair.requireGate();
  await gate.mode("open", generation);
  pair.setApplication("running");
  pair.watchExit(pair.app!);
  await gate.announce();
  await pair.save({ phase: "steady", lastEpoch: Math.max(epoch, pair.record.lastEpoch) });
}

async function finish({
  pair,
  reason,
  startMs,
  detectionMs,
  restoreMs,
  epoch,
}: Takeover): Promise<void> {
  const totalMs = pair.host.clock.nowMs() - startMs;
  const at = new Date(pair.host.clock.wallMs()).toISOString();
  pair.takeover = { at, detectionMs, restoreMs, totalMs, epoch };
  pair.host.metrics.takeover(pair.record.name, reason, "done");
  pair.event("takeover-done", "info", `took over from epoch ${epoch} (${reason})`, {
    detectionMs,
    restoreMs,
    totalMs,
    epoch,
  });
  pair.enter("unprotected", `took over (${reason}); no standby yet`);
  await pair.tick();
  await endStore(pair);
  await pair.host.parts.container.configureInterface(pair.record, pair.app!.initPid, "normal");
}

/** The store served; the next standby's life begins with a full epoch. */
async function endStore(pair: Pair): Promise<void> {
  const { store } = pair;
  pair.store = undefined;
  try {
    await store?.discard();
  } catch (error) {
    pair.log.warn({ err: error }, "discarding the store failed");
  } finally {
    await store?.stop();
  }
}
