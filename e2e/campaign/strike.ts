/** Carries out one fault of the campaign. When it returns, everything that was broken has been repaired. */

import { pause, poll } from "../runner/poll.js";
import { type Context, expectThat, type Loaded } from "../runner/scenario.js";
import { arm, recover, sideOf } from "../scenarios/fault-points.js";
import { untilCovered } from "../scenarios/hybrid.js";
import { protectedSomewhere } from "../scenarios/processes.js";
import type { Fault } from "./run.js";

/** How the application of a workload is found among a host's processes. */
const applicationOf: Record<string, RegExp> = {
  redis: /^(\S*\/)?redis-server /,
  memcached: /^(\S*\/)?memcached /,
  nginx: /^nginx: master/,
  lighttpd: /^(\S*\/)?lighttpd /,
  echo: /^(\S*\/)?ft-echo /,
  disk: /^(\S*\/)?ft-disk /,
  tree: /^(\S*\/)?ft-tree /,
  bank: /^(\S*\/)?ft-bank /,
  "race-none": /^(\S*\/)?ft-race /,
  "race-counter": /^(\S*\/)?ft-race /,
  "race-flag": /^(\S*\/)?ft-race /,
};

/** `covered`: mode hybrid, and a takeover is to find a log (arming a fault restarts an agent). */
export async function strike(
  context: Context,
  loaded: Loaded,
  fault: Fault,
  covered = false,
): Promise<void> {
  const { hosts } = context;
  const { primary, standby } = loaded;
  const hostOf = (side: "primary" | "standby") => (side === "primary" ? primary : standby);
  switch (fault.kind) {
    case "killHost":
      await hosts.kill(hostOf(fault.side));
      break;
    case "cut":
      for (const link of fault.links) await hosts.cut(hostOf(fault.side), link);
      await pause(fault.forMs);
      for (const link of fault.links) await hosts.mend(hostOf(fault.side), link);
      break;
    case "killAgent":
      await hosts.agent(hostOf(fault.side), "kill");
      await pause(fault.forMs);
      break;
    case "killProcess":
      killProcess(context, loaded, fault);
      break;
    case "killDockerd":
      await hosts.dockerd(hostOf(fault.side), "kill");
      await pause(fault.forMs);
      break;
    case "point":
      await strikePoint(context, loaded, fault, covered);
      break;
    case "switchover":
      await switchOver(context, loaded);
      break;
  }
  await recover(context, loaded);
}

/**
 * A pair may be catching up just now: on an overloaded machine a peer's heartbeats come late, and a switchover is refused. That is what
 * it should do; whoever wants it asks again.
 */
async function switchOver({ ftctl }: Context, { primary, service }: Loaded): Promise<void> {
  await poll("switchover", 60_000, async () => {
    const done = await ftctl.run(primary, ["switchover", service.name, "-y"], 60_000);
    if (done.exitCode === 0) return true;
    expectThat(done.stderr.includes("NOT_PROTECTED"), `switchover: ${done.stderr.slice(0, 4_000)}`);
    return undefined;
  });
}

function killProcess(
  { hosts }: Context,
  { primary, standby, service }: Loaded,
  fault: Extract<Fault, { kind: "killProcess" }>,
): void {
  const host = fault.side === "primary" ? primary : standby;
  const pattern =
    fault.what === "application"
      ? applicationOf[service.spec.workload]
      : new RegExp(`(^|/)${fault.what} `);
  expectThat(pattern, `how to find the application of ${service.spec.workload}?`);
  for (const pid of hosts.pids(host, pattern)) process.kill(pid, "SIGKILL");
}

async function strikePoint(
  context: Context,
  loaded: Loaded,
  fault: Extract<Fault, { kind: "point" }>,
  covered: boolean,
): Promise<void> {
  const { primary, standby, client, service } = loaded;
  const side = sideOf(fault.point);
  const host = side === "primary" || side === "gate" ? primary : standby;
  const skip = side === "takeover" ? 0 : fault.skip;
  await arm(context, host, fault.point, fault.action, skip);
  if (side === "gate") {
    for (const pid of context.hosts.pids(host, /(^|\/)ftgate /)) process.kill(pid, "SIGKILL");
  }
  if (side === "takeover") {
    await protectedSomewhere(context, service.name, [primary, standby]);
    if (covered) await untilCovered(context, service, primary);
    await client.makesProgress(20, 30_000);
    await context.hosts.kill(primary);
  }
  // Time for the passes that go by unharmed, and for the fault.
  await client.makesProgress(300, 3_000).catch(() => undefined);
}
