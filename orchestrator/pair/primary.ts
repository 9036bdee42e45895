/** What a primary does: bring its application to life, hold its output, run its epochs. */
import { mkdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { EpochLoop } from "../epoch/loop.js";
import type { Shipper, Spool } from "../epoch/ports.js";
import { FtError, invariant } from "../errors/error.js";
import { limits } from "../limits.js";
import { untilFilled } from "./filling.js";
import type { Pair } from "./pair.js";
import type { Application, PairDumper } from "./ports.js";
import { afterCommit, isHybrid, ship } from "./recording.js";

/**
 * From alone (or blocked) to protected: files first while the application runs, then output is held, then the
 * first full checkpoint. The state becomes `protected` when the standby has committed it.
 */
export async function startEpochs(pair: Pair): Promise<void> {
  const { app, record, host } = pair;
  invariant(app !== undefined && pair.loop === undefined, "a running application, no epochs yet");
  if (pair.state !== "syncing") pair.enter("syncing", `first checkpoint to ${record.peer}`);
  await untilFilled(pair);
  const lastEpoch = await lastEpochKnown(pair);
  const dir = host.spoolDir(record.id);
  await mkdir(dir, { recursive: true, mode: 0o700 });
  const parts = {
    dumper: await host.parts.openDumper(record, app, () => pair.dumperGone()),
    shipper: host.parts.shipper(record),
    spool: spoolIn(dir),
  };
  try {
    await presync(pair, parts);
    await pair.requireGate().mode("hold", record.generation, lastEpoch + 1);
    await ship(pair, "source");
  } catch (error) {
    // What was shipped may have been refused or not: the next try begins a chain of files of its own.
    parts.shipper.close();
    await parts.dumper.stop();
    throw error;
  }
  startLoop(pair, parts, lastEpoch);
}

/**
 * Epochs only rise. The record is written when epochs stop, so after a crash the gate knows better; where that died
 * too, the standby does: it refuses what is not after its last one. One more may be on its way there (a shipper sends
 * one at a time) and be committed after the standby was asked.
 */
async function lastEpochKnown(pair: Pair): Promise<number> {
  await pair.refreshPeer();
  const { generation, committedEpoch } = pair.peerStatus;
  const { epoch } = await pair.requireGate().facts();
  const ofPeer = generation === pair.record.generation ? committedEpoch + 1 : 0;
  return Math.max(pair.record.lastEpoch, epoch, ofPeer);
}

interface EpochParts {
  dumper: PairDumper;
  shipper: Shipper & { close(): void };
  spool: Spool;
}

function startLoop(pair: Pair, { dumper, shipper, spool }: EpochParts, lastEpoch: number): void {
  const { host, record, policy } = pair;
  pair.dumper = dumper;
  pair.loopLost = false;
  const { stoppable, stop } = stoppableShipper(shipper);
  pair.stopShipping = () => {
    stop();
    shipper.close();
  };
  pair.loop = new EpochLoop(
    {
      dumper,
      shipper: stoppable,
      releaser: {
        release: async (epoch) => {
          const released = await pair.requireGate().commit(epoch);
          await afterCommit(pair, epoch);
          return released;
        },
      },
      spool,
      observer: {
        committed: (report) => pair.epochCommitted(report),
        skipped: (epoch, stage, error) => pair.epochSkipped(epoch, stage, error),
        lost: () => {
          pair.loopLost = true;
          pair.consider();
        },
      },
      clock: host.clock,
      faults: host.faults,
    },
    policy.epoch,
    record.generation,
    lastEpoch,
  );
  pair.loop.start();
}

/**
 * Files travel before the first freeze, so that the freeze only has to find what changed meanwhile. In parts, as each
 * blob is bounded.
 */
async function presync(pair: Pair, { dumper, shipper, spool }: EpochParts): Promise<void> {
  const { generation } = pair.record;
  const path = spool.pathOf(0);
  for (let part = 0; part < limits.presyncPartsMax; part += 1) {
    try {
      const { bytes, more } = await dumper.presync(path, generation);
      await shipper.ship({ epoch: 0, base: 0, generation, path, bytes });
      await dumper.acked(0);
      if (!more) return;
    } finally {
      await spool.remove(0);
    }
  }
}

export async function stopEpochs(pair: Pair, reason: string): Promise<void> {
  const { loop, dumper } = pair;
  pair.stopShipping?.();
  pair.stopShipping = undefined;
  pair.loop = undefined;
  pair.loopLost = false;
  await loop?.stop(stopped(pair.record.name, reason));
  pair.dumper = undefined;
  await dumper?.stop();
  if (loop) await pair.save({ lastEpoch: Math.max(loop.lastEpoch, pair.record.lastEpoch) });
}

/** A dead standby must not keep the loop from stopping: the epoch in flight then counts as failed. */
function stoppableShipper(shipper: Shipper): { stoppable: Shipper; stop: () => void } {
  let stop: () => void = () => {};
  const stopping = new Promise<never>((_, reject) => {
    stop = () => reject(stopped("epoch", "shipping was stopped"));
  });
  stopping.catch(() => {});
  return {
    stoppable: { ship: (request) => Promise.race([shipper.ship(request), stopping]) },
    stop: () => stop(),
  };
}

function stopped(subject: string, reason: string): FtError {
  return new FtError({ code: "EPOCHS_STOPPED", subject, message: reason });
}

function spoolIn(dir: string): Spool {
  return {
    pathOf: (epoch) => join(dir, `epoch-${epoch}.blob`),
    remove: (epoch) => rm(join(dir, `epoch-${epoch}.blob`), { force: true }),
  };
}

/** Starts the container and, when the gate has its interface, the application in it. */
export async function coldStart(pair: Pair, mode: "open" | "hold"): Promise<Application> {
  const { host, record } = pair;
  const { container, log } = host.parts;
  pair.setApplication("starting");
  if (isHybrid(pair)) await log.make(record);
  const waiting = await container.start(record.containerId);
  await attachGate(pair, waiting, "normal");
  await pair.requireGate().mode(mode, record.generation);
  pair.app = await container.startApplication(waiting);
  pair.setApplication("running");
  pair.watchExit(pair.app);
  await pair.tick();
  return pair.app;
}

/** The gate is (re)attached to the container's network namespace, and the address put on its interface. */
export async function attachGate(
  pair: Pair,
  app: Application,
  window: "wide" | "normal",
): Promise<void> {
  const { host, record } = pair;
  if (pair.gate && !pair.gate.gone) await pair.gate.attach(app.initPid);
  else {
    pair.gate = await host.parts.openGate({
      record,
      initPid: app.initPid,
      onNews: (news) => pair.onGateNews(news),
    });
  }
  await host.parts.container.configureInterface(record, app.initPid, window);
}

/** After a crash without a standby to hand over to: as Docker's restart policy would. Its connections are gone. */
export async function restartApplication(pair: Pair): Promise<void> {
  await stopEpochs(pair, "the application crashed");
  const mode = pair.state === "unprotected" ? "open" : "hold";
  await coldStart(pair, mode);
  pair.event("application-restarted", "warning", "the application was started again on this host");
}
