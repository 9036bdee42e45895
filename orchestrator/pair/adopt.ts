/**
 * How a (re)started agent takes up a pair again: from its record and from what still runs. Gates and containers
 * outlive the agent, so after a crash or an upgrade nothing of the service is disturbed.
 */
import { limits } from "../limits.js";
import type { Pair } from "./pair.js";
import type { Application } from "./ports.js";
import { openStore, warmUp } from "./standby.js";
import { tearDown } from "./standdown.js";
import { takeOver } from "./takeover.js";

/**
 * Brings `pair` to the state that is true on this host. What is to be done then is the planner's.
 * A gate or a store that dies meanwhile is started anew by the next attempt.
 *
 * @throws the last attempt's error
 */
export async function adopt(pair: Pair): Promise<void> {
  for (let attempt = 1; ; attempt += 1) {
    try {
      return await takeUp(pair);
    } catch (error) {
      if (attempt >= limits.adoptAttemptsMax) throw error;
      pair.log.warn({ err: error, attempt }, "taking the pair up again is tried once more");
      await pair.host.clock.sleep(limits.adoptAgainMs);
    }
  }
}

async function takeUp(pair: Pair): Promise<void> {
  const { record, host } = pair;
  const running = record.containerId
    ? await host.parts.container.running(record.containerId)
    : undefined;
  if (record.phase === "stopped") return adoptStopped(pair);
  if (record.role === "standby") return adoptStandby(pair, running);
  if (record.phase === "takingOver") return adoptTakeover(pair, running);
  return running && running.pid > 0 ? adoptPrimary(pair, running) : adoptDeadPrimary(pair);
}

async function adoptStopped(pair: Pair): Promise<void> {
  pair.state = "stopped";
  pair.reason = "the application ended; `ftctl unprotect` makes it a plain container again";
}

async function adoptPrimary(pair: Pair, app: Application): Promise<void> {
  await openGate(pair, app);
  const { mode, epoch } = await pair.requireGate().facts();
  pair.app = app;
  pair.setApplication("running");
  pair.watchExit(app);
  await pair.save({ lastEpoch: Math.max(pair.record.lastEpoch, epoch) });
  if (mode === "open") pair.enter("unprotected", "the agent was restarted; no standby yet");
  else {
    // A gate that was restarted too comes up closed; without epochs, hold is as silent as closed.
    if (mode !== "hold") await pair.requireGate().mode("hold", pair.record.generation);
    pair.enter("blocked", "the agent was restarted; output waits for the next epoch");
  }
  await pair.tick();
  await pair.refreshPeer();
}

async function adoptDeadPrimary(pair: Pair): Promise<void> {
  pair.state = "starting";
  pair.reason = `was primary, its container does not run; asks ${pair.record.peer} whether it took over`;
  pair.event("starting", "warning", pair.reason);
  await pair.refreshPeer();
}

async function adoptStandby(pair: Pair, running: Application | undefined): Promise<void> {
  if (running && running.pid === 0) return warmUp(pair);
  await tearDown(pair);
  await pair.save({ containerId: "" });
  pair.enter("preparing", `waits for ${pair.record.peer} to make it the standby anew`);
  await pair.refreshPeer();
}

/** T3: the agent died in the middle of a takeover. The planner carries it on. */
async function adoptTakeover(pair: Pair, running: Application | undefined): Promise<void> {
  pair.state = "takingOver";
  pair.reason = "the agent was restarted during a takeover";
  pair.app = running;
  if (running) await openGate(pair, running);
}

async function openGate(pair: Pair, app: Application): Promise<void> {
  pair.gate = await pair.host.parts.openGate({
    record: pair.record,
    initPid: app.initPid,
    onNews: (news) => pair.onGateNews(news),
  });
}

/** Restored already: go live. Not yet: once more, from a clean container. */
export async function resumeTakeover(pair: Pair): Promise<void> {
  const { app, record } = pair;
  const epoch = record.lastEpoch;
  if (app && app.pid > 0) {
    await pair.requireGate().mode("open", record.generation);
    pair.setApplication("running");
    pair.watchExit(app);
    await pair.requireGate().announce();
    await pair.save({ phase: "steady" });
    pair.event("takeover-done", "info", "the takeover was finished after a restart of the agent", {
      epoch,
    });
    pair.enter("unprotected", "took over; no standby yet");
    return;
  }
  if (!app) {
    pair.enter("failed", "the standby container is gone in the middle of a takeover");
    return;
  }
  if (!pair.store) await openStore(pair);
  await takeOver(pair, "host-lost");
}
