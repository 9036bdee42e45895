/**
 * Takeover: the standby becomes the primary. The phases are data, in order; each is a fault point.
 *
 *   begin        no more epochs are accepted, the one in flight is waited for
 *   fence        the generation is raised, on disk, and the gate is told: from here the old primary is history
 *   claim        gratuitous ARP: clients' retransmissions now come here and are queued
 *   materialize  the last committed epoch as images and files
 *   arm          mode hybrid: the event log is to be replayed, if it leads from that epoch
 *   restore      CRIU
 *   replay       mode hybrid: to the log's end, which covers every frame that was released
 *   connections  mode hybrid: the clients' connections as they were when the primary was lost
 *   live         queued input in, output free
 *
 * Invariants:
 *  T1  What is restored is the last epoch that was ever acknowledged to the old primary.
 *  T2  No frame of the application leaves before `live`.
 *      In mode hybrid: nor before the log was replayed to its end. ftinit is told of the process only then, so one that an
 *      earlier attempt has restored is nobody's; it is ended, silently, and restored again.
 *      From the opening of the gate on nothing fails the takeover any more (live.ts): what has spoken is not taken back.
 *  T3  A takeover that was begun is carried on after a crash of the agent (record phase `takingOver`).
 */

import { asFtError, FtError } from "../errors/error.js";
import type { FaultPoint } from "../faults/faults.js";
import { limits } from "../limits.js";
import { afterFailedReplay, isPaced } from "./divergence.js";
import { finish, live } from "./live.js";
import type { Pair } from "./pair.js";
import type { TakeoverReason } from "./plan.js";
import type { ReplayOutcome } from "./ports.js";
import { endPreparation, prepareTakeover } from "./prepare.js";
import { isHybrid } from "./recording.js";
import { Timeline } from "./timeline.js";

export interface Takeover {
  pair: Pair;
  reason: TakeoverReason;
  generation: number;
  startMs: number;
  detectionMs: number;
  imagesDir: string;
  epoch: number;
  restoreMs: number;
  restoredPid: number;
  /** Memory that comes while the application runs already. */
  lazyBytes: number;
  /** Mode hybrid: there is a log that leads from the epoch. */
  armed: boolean;
  /** An earlier one may have left something in the container. */
  resumed: boolean;
  /** Replays that were armed. */
  attempts: number;
  replay: NonNullable<Pair["takeover"]>["replay"] | undefined;
  timeline: Timeline;
}

interface Phase {
  point: FaultPoint;
  run: (takeover: Takeover) => Promise<void>;
}

const PHASES: Phase[] = [
  { point: "takeover.begin", run: begin },
  { point: "takeover.fence", run: fence },
  { point: "takeover.claim", run: (t) => t.pair.requireGate().announce() },
  { point: "takeover.materialize", run: (t) => materialize(t, isHybrid(t.pair) && t.resumed) },
  { point: "takeover.arm", run: arm },
  { point: "takeover.restore", run: restore },
  { point: "takeover.replay", run: replay },
  { point: "takeover.connections", run: connections },
  { point: "takeover.live", run: live },
];

/**
 * @param generation  what the old primary proposed (switchover), or undefined: one more than any known
 * @throws the first phase's error, after the state became `failed`; nothing was released then, and the gate is not open
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
    restoredPid: 0,
    lazyBytes: 0,
    armed: false,
    resumed: pair.record.phase === "takingOver",
    attempts: 0,
    replay: undefined,
    timeline: new Timeline(pair.host.clock, nowMs),
  };
  pair.order = undefined;
  pair.enter("takingOver", reason);
  try {
    for (const phase of PHASES) {
      await pair.host.faults.pass(phase.point);
      const name = phase.point.slice("takeover.".length);
      await takeover.timeline.measure(name, () => phase.run(takeover));
    }
    await finish(takeover);
  } catch (error) {
    if (takeover.armed) pair.host.parts.log.disarm(pair.record);
    pair.host.metrics.takeover(pair.record.name, reason, "failed");
    // First: whoever waits for the state asks for the error next.
    pair.lastError = asFtError(error, pair.record.name);
    pair.enter("failed", `takeover failed: ${pair.lastError.message}`);
    throw error;
  } finally {
    await endPreparation(pair);
  }
}

async function begin({ pair }: Takeover): Promise<void> {
  await pair.acceptance.stop();
}

/** What was not prepared while the peer was asked is prepared while the disk writes. */
async function fence({ pair, generation }: Takeover): Promise<void> {
  await Promise.all([
    pair.save({ role: "primary", generation, phase: "takingOver" }),
    prepareTakeover(pair),
  ]);
  await pair.requireGate().mode("takeover", generation);
}

/** `whole`: for a replay that is made again, as whoever still gives memory to the one before must not be waited for. */
async function materialize(takeover: Takeover, whole: boolean): Promise<void> {
  const { pair } = takeover;
  if (!pair.store) {
    throw new FtError({
      code: "NO_CHECKPOINT",
      subject: pair.record.name,
      message: "this host has no store of checkpoints for the pair",
      hint: "Start the container anew from its files, on the host that ran it last.",
    });
  }
  const { epoch, imagesDir } = await pair.store.materialize(whole);
  takeover.epoch = epoch;
  takeover.imagesDir = imagesDir;
}

async function restore(takeover: Takeover): Promise<void> {
  const { pair } = takeover;
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
      const only = takeover.armed ? "keep" : undefined;
      const result = await pair.host.parts.restore(pair.record, app, takeover.imagesDir, only);
      takeover.timeline.note("restore.criu", result.criuMs);
      takeover.timeline.note("restore.program", result.restoreMs);
      takeover.lazyBytes = result.lazyBytes;
      takeover.restoreMs = result.restoreMs;
      takeover.restoredPid = result.pid;
      if (!takeover.armed) pair.app = { ...app, pid: result.pid };
      return;
    } catch (error) {
      if (attempt >= limits.restoreAttemptsMax) throw error;
      pair.event(
        "restore-retried",
        "warning",
        `restore failed, attempt ${attempt}: ${inFull(error)}`,
      );
      // Where the kernel or CRIU cannot restore without its memory, it can with it.
      await materialize(takeover, true);
    }
  }
}

/** With what CRIU said: its log is the next attempt's. */
function inFull(error: unknown): string {
  return error instanceof FtError ? [error.message, ...error.quoted].join("; ") : String(error);
}

async function arm(takeover: Takeover): Promise<void> {
  const { pair, epoch } = takeover;
  if (!isHybrid(pair) || !pair.app || pair.app.pid > 0) return;
  if (takeover.attempts > 0 || takeover.resumed) {
    await clear(takeover);
  }
  takeover.attempts += 1;
  const paced = isPaced(pair.policy, takeover.attempts);
  try {
    takeover.armed = await pair.host.parts.log.arm(pair.record, pair.app, epoch, paced);
  } catch (thrown) {
    const { code, message } = asFtError(thrown, pair.record.name);
    if (code === "LOG_DAMAGED") await withoutDamagedLog(takeover, thrown, message);
    else throw thrown;
    return;
  }
  if (takeover.armed) return;
  pair.event(
    "log-not-replayed",
    "info",
    `output waited for checkpoints: epoch ${epoch} is the end`,
  );
}

/** Ends what an earlier attempt has restored, if it has not ended by itself, and what it has said is heard by nobody. */
async function clear({ pair, imagesDir, generation }: Takeover): Promise<void> {
  await pair.host.parts.restore(pair.record, pair.app!, imagesDir, "clear");
  await pair.requireGate().mode("takeover", generation);
}

/** Bounded: a replay reports its end, a divergence or a stall by itself; one that does none of it is given up. */
async function replay(takeover: Takeover): Promise<void> {
  if (!takeover.armed) return;
  const { pair } = takeover;
  for (;;) {
    const attempt = takeover.attempts;
    const reported = await untilReported(takeover);
    const report = typeof reported === "string" ? undefined : reported;
    if (report?.outcome === "replayed") {
      const of = (name: string) => Number(report.fields[name] ?? 0);
      takeover.replay = {
        ms: of("replay-us") / 1000,
        events: of("events"),
        outputs: of("outputs-verified"),
        attempts: attempt,
        rebuilt: 0,
        failed: 0,
        unreachedBytes: of("unreached-bytes"),
      };
      tellUnreached(pair, of("unreached-bytes"), report.text);
      return;
    }
    const why =
      typeof reported === "string"
        ? NO_REPORT[reported]
        : `${reported.outcome}: ${reported.text.trim().split("\n").slice(1, 7).join("; ")}`;
    const paced = isPaced(pair.policy, attempt) ? ", paced" : "";
    pair.event("replay-failed", "error", `attempt ${attempt}${paced}: ${why}`, {
      attempt,
      outcome: report?.outcome ?? "none",
    });
    if (report) pair.log.warn({ report: report.text }, "what the failed replay said");
    const next = afterFailedReplay(pair.policy, attempt, report?.outcome ?? "no report");
    if (next === "checkpoint") return await resumeFromCheckpoint(takeover, why);
    if (next === "stop") {
      throw new FtError({
        code: "REPLAY_FAILED",
        subject: pair.record.name,
        message: `the event log cannot be replayed: ${why}`,
        hint: "Output later than the last checkpoint has been released, so the service cannot go on from it unless the policy says `onDivergence: checkpoint`.",
      });
    }
    await again(takeover);
    if (!takeover.armed) return;
  }
}

/**
 * What the log still had when nothing could move any more. Nothing that was released hangs on it: output waits for a closed
 * cut. So it is of the last moments, a few records; or else something is wrong with the log.
 */
function tellUnreached(pair: Pair, bytes: number, text: string): void {
  if (bytes === 0) return;
  pair.host.metrics.replayUnreached(pair.record.name, bytes);
  pair.event(
    "replay-unreached",
    "warning",
    `${bytes} bytes of the event log wait for what never came, and did not happen again`,
    { bytes },
  );
  pair.log.warn({ report: text }, "what the replay left");
}

/** One that ends by itself (it crashed) says nothing any more. */
async function untilReported({
  pair,
  restoredPid,
}: Takeover): Promise<ReplayOutcome | "timedOut" | "ended"> {
  const { clock, parts } = pair.host;
  const beganMs = clock.nowMs();
  let lookedMs = beganMs;
  for (;;) {
    const nowMs = clock.nowMs();
    const looks = nowMs - lookedMs >= limits.replayLivesMs;
    if (looks) lookedMs = nowMs;
    const ended = looks && !(await parts.container.lives(pair.app!, restoredPid));
    const report = await parts.log.outcome(pair.record);
    if (report) return report;
    if (ended) return "ended";
    if (nowMs - beganMs > limits.replayTimeoutMs) return "timedOut";
    await clock.sleep(limits.replayPollMs);
  }
}

const NO_REPORT = {
  timedOut: `no report within ${limits.replayTimeoutMs} ms`,
  ended: "its process ended in the middle of it, without a report",
};

/** The same checkpoint once more. */
async function again(takeover: Takeover): Promise<void> {
  await materialize(takeover, true);
  await arm(takeover);
  await restore(takeover);
}

/** Damage that is found before anything is restored: what a replay would have come to. */
async function withoutDamagedLog(takeover: Takeover, damage: unknown, why: string): Promise<void> {
  const { pair, attempts, epoch } = takeover;
  pair.event("replay-failed", "error", `attempt ${attempts}: ${why}`, {
    attempt: attempts,
    outcome: "corrupt",
  });
  if (afterFailedReplay(pair.policy, attempts, "corrupt") !== "checkpoint") throw damage;
  tellTakenBack(takeover, why);
  await pair.host.parts.log.giveUp(pair.record, pair.app!, epoch);
}

function tellTakenBack({ pair, epoch }: Takeover, why: string): void {
  pair.event(
    "resumed-from-checkpoint",
    "error",
    `the event log cannot be replayed, and onDivergence is checkpoint: what was told to clients after epoch ${epoch} is taken back (${why})`,
  );
}

/** What was released after the checkpoint is taken back: the policy wants the service rather than the guarantee. */
async function resumeFromCheckpoint(takeover: Takeover, why: string): Promise<void> {
  const { pair, epoch } = takeover;
  tellTakenBack(takeover, why);
  await clear(takeover);
  await pair.host.parts.log.giveUp(pair.record, pair.app!, epoch);
  takeover.armed = false;
  await materialize(takeover, true);
  await restore(takeover);
}

async function connections(takeover: Takeover): Promise<void> {
  const { pair } = takeover;
  if (!takeover.armed || !takeover.replay) return;
  const { rebuilt, failed } = await pair.host.parts.log.connections(pair.record);
  takeover.replay = { ...takeover.replay, rebuilt, failed };
  pair.app = await pair.host.parts.container.adopt(pair.app!, takeover.restoredPid);
  if (failed > 0) pair.event("connections-lost", "warning", `${failed} connections are lost`);
}
