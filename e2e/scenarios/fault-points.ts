/** A failure at every named phase of an epoch and of a takeover. */

import { systemClock } from "../../orchestrator/clock.js";
import { FtError } from "../../orchestrator/errors/error.js";
import { FAULT_POINTS, type FaultPoint } from "../../orchestrator/faults/faults.js";
import type { Host } from "../runner/hosts.js";
import { type Context, type Loaded, type Scenario, underLoad } from "../runner/scenario.js";
import { protectedSomewhere } from "./processes.js";

export type FaultAction = "crash" | "error" | `delay=${number}`;
type Side = "primary" | "standby" | "takeover" | "gate";

export function sideOf(point: FaultPoint): Side {
  if (point.startsWith("takeover.")) return "takeover";
  if (point.startsWith("gate.")) return "gate";
  const standby = point.startsWith("store.") || /^epoch\.(receive|commit)\./.test(point);
  return standby ? "standby" : "primary";
}

/** So many epochs pass unharmed: the fault then falls into the load. */
const epochsBefore = 20;
const settleMs = 40_000;
const superviseEveryMs = 3_000;

/** Arms the point on the host where it lies. The agent is restarted for it; its pairs go on. */
export async function arm(
  context: Context,
  host: Host,
  point: FaultPoint,
  action: FaultAction,
  skip: number,
): Promise<void> {
  context.pool.altered(host);
  const env = { FTCTL_FAULT: `${point}:${action}:${skip}` };
  try {
    await context.hosts.agent(host, "restart", env);
  } catch (error) {
    // It may pass the point, and die of it, before anyone has seen it start.
    const early = error instanceof FtError && error.code === "LAB_AGENT_ENDED";
    if (!(early && action === "crash")) throw error;
  }
}

/** Restarts what the fault has killed, with nothing armed, and waits for protection. */
export async function recover(context: Context, loaded: Loaded): Promise<void> {
  await loaded.client.makesProgress(20, 2_000).catch(() => undefined);
  await context.pool.heal();
  const supervision = new AbortController();
  const supervised = supervise(context, supervision.signal);
  try {
    await protectedSomewhere(context, loaded.service.name, [loaded.primary, loaded.standby]);
  } finally {
    supervision.abort();
    await supervised;
  }
}

/** Starts an agent that has ended, as systemd does on a real host (Restart=always). */
async function supervise(context: Context, signal: AbortSignal): Promise<void> {
  while (!signal.aborted) {
    await systemClock.sleep(superviseEveryMs, signal).catch(() => {});
    if (signal.aborted) return;
    await context.pool.heal().catch((error: unknown) => context.note(`healing: ${String(error)}`));
  }
}

export async function strike(
  context: Context,
  loaded: Loaded,
  point: FaultPoint,
  action: FaultAction,
): Promise<void> {
  const { primary, standby, client } = loaded;
  switch (sideOf(point)) {
    case "primary":
      await arm(context, primary, point, action, epochsBefore);
      break;
    case "standby":
      await arm(context, standby, point, action, epochsBefore);
      break;
    case "gate":
      // A gate outlives its agent, so only a new one reads the variable.
      await arm(context, primary, point, action, epochsBefore);
      for (const pid of context.hosts.pids(primary, /(^|\/)ftgate /)) process.kill(pid, "SIGKILL");
      break;
    case "takeover":
      await arm(context, standby, point, action, 0);
      await protectedSomewhere(context, loaded.service.name, [primary]);
      await client.makesProgress(50, settleMs);
      await context.hosts.kill(primary);
      break;
  }
  // Long enough for the epochs that pass unharmed, and for the fault.
  await client.makesProgress(300, 4_000).catch(() => undefined);
  await recover(context, loaded);
}

function atPoint(point: FaultPoint, action: FaultAction, quick: boolean): Scenario {
  return {
    name: `fault/${point}:${action}`,
    quick,
    boundMs: 150_000,
    run: (context) =>
      underLoad(context, { warmUpReplies: 50 }, (loaded) =>
        strike(context, loaded, point, action),
      ).then(() => undefined),
  };
}

const quickPoints = new Set<FaultPoint>([
  "epoch.dump.after",
  "epoch.ship.middle",
  "epoch.release.before",
  "epoch.commit.after",
  "takeover.claim",
  "takeover.restore",
  "dump.frozen",
  "store.commit",
  "gate.release",
]);

export const faultPointScenarios: Scenario[] = FAULT_POINTS.flatMap((point) => [
  atPoint(point, "crash", quickPoints.has(point)),
  atPoint(point, "error", point === "epoch.ship.middle" || point === "dump.frozen"),
]);
