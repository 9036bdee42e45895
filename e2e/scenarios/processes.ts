/** Agent, gate, dockerd, application and the standby's host: each dies on its own. */

import { readFileSync } from "node:fs";
import { lives } from "../lab/host.js";
import type { Host } from "../runner/hosts.js";
import { poll } from "../runner/poll.js";
import { type Context, expectThat, type Scenario, scenarioUnderLoad } from "../runner/scenario.js";

const settleMs = 30_000;

/** Waits for one to kill: CRIU, say, is away for a moment between two epochs. They are gone when it returns. */
export async function killPids(context: Context, host: Host, pattern: RegExp): Promise<void> {
  const pids = await poll(`something like ${pattern} on ${host}`, 5_000, async () => {
    const found = context.hosts.pids(host, pattern);
    return found.length > 0 ? found : undefined;
  });
  for (const pid of pids) {
    try {
      process.kill(pid, "SIGKILL");
    } catch (error) {
      // It may have ended by itself just now.
      if ((error as NodeJS.ErrnoException).code !== "ESRCH") throw error;
    }
  }
  // Whoever heals the lab afterwards must not take one that is still dying for alive.
  await poll(`the end of ${pids.join(", ")}`, 5_000, async () => {
    return pids.some((pid) => lives(statusOf(pid))) ? undefined : true;
  });
}

function statusOf(pid: number): string | undefined {
  try {
    return readFileSync(`/proc/${pid}/status`, "utf8");
  } catch {
    return undefined;
  }
}

const standbyLost = scenarioUnderLoad(
  { name: "processes/standby-lost-and-back", quick: true },
  async ({ service, primary, standby }, context) => {
    await context.hosts.kill(standby);
    await service.untilBlocked(primary, settleMs);
    await context.hosts.boot(standby);
    await service.untilProtected(primary, settleMs);
  },
);

const standbyLostUnprotected = scenarioUnderLoad(
  {
    name: "processes/standby-lost-run-unprotected",
    quick: false,
    policy: { failover: "manual", onStandbyLoss: "run-unprotected" },
  },
  async ({ service, primary, standby, client }, context) => {
    await context.hosts.kill(standby);
    await context.ftctl.until(
      primary,
      service.name,
      "unprotected",
      (view) => view.state === "unprotected",
      settleMs,
    );
    await client.makesProgress(100, settleMs);
    const events = await context.ftctl.events(primary, service.name);
    expectThat(
      events.some((event) => event.type === "unprotected"),
      "running without protection made no event",
    );
    await context.hosts.boot(standby);
    await service.untilProtected(primary, settleMs);
  },
);

/** Manual failover: the standby waits for a person. */
const manualFailover: Scenario = {
  name: "processes/manual-failover",
  quick: false,
  boundMs: 120_000,
  run: async (context) => {
    const policy = { failover: "manual", onStandbyLoss: "run-unprotected" };
    const { service, primary, standby } = await context.pool.get("redis", policy);
    await context.hosts.kill(primary);
    await context.ftctl.until(
      standby,
      service.name,
      "waiting for an operator",
      (view) => view.state === "awaitingOperator",
      settleMs,
    );
    await context.ftctl.must(standby, ["failover", service.name, "--force", "-y"]);
    await service.untilTakenOver(standby, settleMs);
    await service.untilListening();
  },
};

function agentKilled(which: "primary" | "standby", quick: boolean): Scenario {
  return scenarioUnderLoad(
    { name: `processes/agent-killed-on-${which}`, quick },
    async ({ service, primary, standby, client }, context) => {
      const host = which === "primary" ? primary : standby;
      await context.hosts.agent(host, "kill");
      // Within the policy's grace, so that nothing has to move.
      await new Promise((resolve) => setTimeout(resolve, 500));
      await context.hosts.agent(host, "start");
      await client.makesProgress(50, settleMs);
      await protectedSomewhere(context, service.name, [primary, standby]);
    },
  );
}

const agentGone = scenarioUnderLoad(
  { name: "processes/agent-gone-for-good", quick: false },
  async ({ service, primary, standby }, context) => {
    await context.hosts.agent(primary, "kill");
    await service.untilTakenOver(standby, settleMs);
    await context.hosts.agent(primary, "start");
    await service.untilProtected(standby, settleMs);
  },
);

function gateKilled(which: "primary" | "standby", quick: boolean): Scenario {
  return scenarioUnderLoad(
    { name: `processes/gate-killed-on-${which}`, quick },
    async ({ service, primary, standby, client }, context) => {
      await killPids(context, which === "primary" ? primary : standby, /(^|\/)ftgate /);
      await client.makesProgress(50, settleMs);
      const voice = await protectedSomewhere(context, service.name, [primary, standby]);
      if (which === "primary" && voice === primary) {
        const events = await context.ftctl.events(primary, service.name);
        expectThat(
          events.some((event) => event.type === "gate-lost"),
          "the gate's death made no event",
        );
      }
    },
  );
}

function helperKilled(name: string, pattern: RegExp, which: "primary" | "standby"): Scenario {
  const about = { name: `processes/${name}-killed`, quick: false };
  return scenarioUnderLoad(about, async ({ service, primary, standby, client }, context) => {
    await killPids(context, which === "primary" ? primary : standby, pattern);
    await client.makesProgress(50, settleMs);
    await protectedSomewhere(context, service.name, [primary, standby]);
  });
}

function dockerdKilled(which: "primary" | "standby", quick: boolean): Scenario {
  return scenarioUnderLoad(
    { name: `processes/dockerd-killed-on-${which}`, quick },
    async ({ service, primary, standby, client }, context) => {
      const host = which === "primary" ? primary : standby;
      await context.hosts.dockerd(host, "kill");
      await client.makesProgress(100, settleMs);
      await context.hosts.dockerd(host, "start");
      await client.makesProgress(50, settleMs);
      await protectedSomewhere(context, service.name, [primary, standby]);
    },
  );
}

/** Its last, unreleased words die with it; the standby goes on from the last checkpoint. */
const applicationCrash = scenarioUnderLoad(
  { name: "processes/application-crash", quick: true },
  async ({ service, primary, standby }, context) => {
    await killPids(context, primary, /^redis-server /);
    await service.untilTakenOver(standby, settleMs);
  },
);

/** Whichever of the hosts is the primary now: it must be protected again. */
export async function protectedSomewhere(
  context: Context,
  name: string,
  hosts: Host[],
): Promise<Host> {
  let failed: { sinceMs: number; what: string } | undefined;
  const host = await poll("protected again", settleMs, async () => {
    const views = await Promise.all(
      hosts.map((host) => context.ftctl.status(host, name).catch(() => undefined)),
    );
    for (const [i, view] of views.entries()) {
      if (view?.role === "primary" && view.state === "protected") return hosts[i];
    }
    const lost = views.find((view) => view?.role === "primary" && view.state === "failed");
    failed = lost && { sinceMs: performance.now(), ...failed, what: lost.reason ?? "failed" };
    return failed && performance.now() - failed.sinceMs > failedMsMax ? null : undefined;
  });
  expectThat(host !== null, `the pair has failed: ${failed?.what}`);
  return host;
}

/** One that has failed tries again, for so long; after that it waits for a person. */
const failedMsMax = 8_000;

export const processScenarios: Scenario[] = [
  standbyLost,
  agentKilled("primary", true),
  agentKilled("standby", true),
  agentGone,
  gateKilled("primary", true),
  gateKilled("standby", false),
  helperKilled("ftdump", /(^|\/)ftdump /, "primary"),
  helperKilled("ftstore", /(^|\/)ftstore /, "standby"),
  helperKilled("criu", /(^|\/)criu\b.* dump /, "primary"),
  dockerdKilled("primary", true),
  dockerdKilled("standby", false),
  applicationCrash,
  standbyLostUnprotected,
  manualFailover,
];
