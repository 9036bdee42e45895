/** The pair's executors, keyed by the planner's typed union. The longer ones have files of their own. */
import { asFtError, unreachable } from "../errors/error.js";
import { limits } from "../limits.js";
import { resumeTakeover } from "./adopt.js";
import { handOver } from "./handover.js";
import type { Pair } from "./pair.js";
import { mayNotTakeOver, type PairStep, policyAsWitness, type TakeoverReason } from "./plan.js";
import { forgetPreparation, prepareTakeover } from "./prepare.js";
import { coldStart, restartApplication, startEpochs, stopEpochs } from "./primary.js";
import { ship } from "./recording.js";
import { openStore } from "./standby.js";
import { standDown, tearDown } from "./standdown.js";
import { takeOver } from "./takeover.js";

export async function executeStep(pair: Pair, step: PairStep): Promise<void> {
  switch (step.kind) {
    case "enter":
      return pair.enter(step.state, step.reason);
    case "restartGate":
      return restartGate(pair);
    case "startEpochs":
      return startEpochs(pair);
    case "stopEpochs":
      return stopEpochs(pair, step.reason);
    case "block":
      return block(pair, step.reason);
    case "runAlone":
      return runAlone(pair, step.reason);
    case "buildStandby":
      return buildStandby(pair);
    case "askPeer":
      return askPeer(pair);
    case "takeOver":
      return insistOnTakeover(pair, step.reason);
    case "handOver":
      return handOver(pair, step.reason);
    case "restartApplication":
      return restartApplication(pair);
    case "coldStart":
      return startCold(pair, step.reason);
    case "resumeTakeover":
      return resumeTakeover(pair);
    case "openStore":
      return openStore(pair);
    case "forget":
      return forget(pair, step.reason);
    case "endProtection":
      return endProtection(pair, step.reason);
    case "standDown":
      return standDown(pair, step.generation);
    default:
      return unreachable(step);
  }
}

/** A gate that died took its held frames along: nothing leaked, TCP sends again. A new one starts closed. */
async function restartGate(pair: Pair): Promise<void> {
  const { app, record, host } = pair;
  if (app === undefined) return;
  pair.gate = await host.parts.openGate({
    record,
    initPid: app.initPid,
    onNews: (news) => pair.onGateNews(news),
  });
  const { generation, role } = record;
  pair.covered = false;
  if (role === "standby") {
    await pair.gate.mode("closed", generation);
    await ship(pair, "mirror");
  } else if (pair.state === "unprotected") await pair.gate.mode("open", generation);
  else {
    await pair.gate.mode("hold", generation, (pair.loop?.lastEpoch ?? record.lastEpoch) + 1);
    await ship(pair, "source");
  }
  await pair.tick();
  pair.event("gate-restarted", "info", "the gate is back");
}

/** Output waits: the promise is kept by silence. */
async function block(pair: Pair, reason: string): Promise<void> {
  await pair.requireGate().mode("hold", pair.record.generation);
  pair.enter("blocked", `${reason}: output waits until it is back (onStandbyLoss: block)`);
}

async function runAlone(pair: Pair, reason: string): Promise<void> {
  await pair.requireGate().mode("open", pair.record.generation);
  pair.enter("unprotected", `${reason}: running alone (onStandbyLoss: run-unprotected)`);
}

async function startCold(pair: Pair, reason: string): Promise<void> {
  pair.order = undefined;
  await pair.save({ generation: pair.record.generation + 1, phase: "steady" });
  await coldStart(pair, "open");
  pair.enter("unprotected", `${reason}: started from its files; connections and memory are gone`);
}

async function buildStandby(pair: Pair): Promise<void> {
  try {
    await pair.peer.buildStandby(pair.record, (message) => pair.log.info(message));
    await pair.refreshPeer();
  } catch (error) {
    pair.reprotectNotBeforeMs = pair.host.clock.nowMs() + limits.reprotectRetryMs;
    throw error;
  }
}

async function forget(pair: Pair, reason: string): Promise<void> {
  await tearDown(pair);
  await pair.host.records.remove(pair.record.id);
  await pair.host.parts.forget(pair.record.id);
  pair.event("unprotected", "warning", reason);
  pair.host.dropped(pair.record.id);
}

/**
 * Nobody else can go on: a takeover that failed is tried again, from its beginning, a few times. Not if that was the policy's
 * word: its attempts have been made, and with the same log they end in the same way.
 */
async function insistOnTakeover(pair: Pair, reason: TakeoverReason): Promise<void> {
  for (let attempt = 1; ; attempt += 1) {
    try {
      return await takeOver(pair, reason);
    } catch (error) {
      const decided = asFtError(error, pair.record.name).code === "REPLAY_FAILED";
      if (decided || attempt >= limits.takeoverAttemptsMax) throw error;
      pair.event("takeover-retried", "warning", `attempt ${attempt} failed: ${String(error)}`);
      await pair.host.clock.sleep(limits.takeoverRetryMs);
    }
  }
}

/** The peer's gate is silent. If its agent answers, the host lives and its gate is being restarted. */
async function askPeer(pair: Pair): Promise<void> {
  pair.peerAgent = "asked";
  let answered = false;
  // One that lives answers sooner. To start programs holds up this process, and must not make it deaf to the answer.
  const preparing = pair.host.clock.sleep(limits.prepareAfterMs).then(() => {
    const waits = !answered && (pair.state === "warm" || pair.state === "awaitingOperator");
    if (waits && mayNotTakeOver(pair.sight(), policyAsWitness) === undefined) {
      void prepareTakeover(pair);
    }
  });
  try {
    await pair.peer.ping(limits.askPeerTimeoutMs);
    answered = true;
    pair.peerAgent = "answers";
    setTimeout(() => pair.askAgain(), limits.peerStatusIntervalMs);
    await preparing;
    await forgetPreparation(pair);
  } catch {
    pair.peerAgent = "silent";
  }
}

/** The application ended on purpose (or for good): no failover, its last output may leave, the standby is told. */
async function endProtection(pair: Pair, reason: string): Promise<void> {
  await stopEpochs(pair, reason);
  const { id, generation } = pair.record;
  await pair.save({ phase: "stopped" });
  try {
    await pair.peer.stopped(id, generation);
    await pair.gate?.mode("open", generation);
  } catch (error) {
    // The standby may still take over, so nothing may leave here.
    await pair.gate?.mode("closed", generation);
    pair.event("standby-not-told", "warning", `the standby could not be told: ${String(error)}`);
  }
  pair.app = undefined;
  pair.enter("stopped", reason);
}
