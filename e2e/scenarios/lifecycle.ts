/** Protect, unprotect, switchover: what a person does. */

import { brokenPromises, verdictOf } from "../checkers/verdict.js";
import type { Host } from "../runner/hosts.js";
import { poll } from "../runner/poll.js";
import { type Context, expectThat, type Scenario, scenarioUnderLoad } from "../runner/scenario.js";
import type { Service } from "../runner/service.js";

const switchover = scenarioUnderLoad(
  { name: "lifecycle/switchover-under-load", quick: true },
  async ({ service, primary, standby, client }, context) => {
    await context.ftctl.must(primary, ["switchover", service.name, "-y"], 60_000);
    await service.untilProtected(standby, 30_000);
    await client.makesProgress(100, 30_000);
    await context.ftctl.must(standby, ["switchover", service.name, "-y"], 60_000);
    await service.untilProtected(primary, 30_000);
  },
);

/** What `docker inspect` says of the container that `ftctl` must not disturb. */
async function inspect(service: Service, host: Host): Promise<Record<string, unknown>> {
  const result = await service.docker(host, ["inspect", service.name]);
  expectThat(result.exitCode === 0, `docker inspect: ${result.stderr}`);
  const [container] = JSON.parse(result.stdout) as Record<string, unknown>[];
  expectThat(container, "docker inspect answered nothing");
  return container;
}

async function redisCli(service: Service, host: Host, ...args: string[]): Promise<string> {
  const result = await service.docker(host, ["exec", service.name, "redis-cli", ...args]);
  expectThat(result.exitCode === 0, `redis-cli ${args.join(" ")}: ${result.stderr}`);
  return result.stdout.trim();
}

const unprotect: Scenario = {
  name: "lifecycle/unprotect",
  quick: true,
  boundMs: 120_000,
  run: async (context) => {
    await context.pool.clear();
    const service = await context.pool.fresh("redis");
    const [primary = "alpha", standby = "beta"] = context.hosts.hosts;
    await redisUntilUp(service, primary);
    await redisCli(service, primary, "SET", "before", "protect");
    const before = await inspect(service, primary);
    await service.protect(primary, standby);
    await service.untilListening();
    expectThat(
      (await redisCli(service, primary, "GET", "before")) === "protect",
      "data written before protect is gone",
    );
    await redisCli(service, primary, "SET", "during", "protection");
    await context.ftctl.must(primary, ["unprotect", service.name, "-y"], 60_000);
    await redisUntilUp(service, primary);
    const after = await inspect(service, primary);
    expectThat(
      JSON.stringify(commandOf(after)) === JSON.stringify(commandOf(before)),
      `command before ${JSON.stringify(commandOf(before))}, after ${JSON.stringify(commandOf(after))}`,
    );
    expectThat(
      (await redisCli(service, primary, "GET", "during")) === "protection",
      "data written under protection is gone",
    );
    for (const host of [primary, standby]) {
      expectThat((await context.ftctl.list(host)).length === 0, `${host} still knows the pair`);
    }
    const left = await service.docker(standby, ["ps", "-aq"]);
    expectThat(left.stdout.trim() === "", "the standby's container was left behind");
    await leavesNoGate(context, [primary, standby]);
  },
};

/** Who leaves the mode to ftctl gets hybrid where the application can be recorded, and is told why not where it cannot. */
const modeAuto: Scenario = {
  name: "lifecycle/mode-auto",
  quick: true,
  boundMs: 120_000,
  run: async (context) => {
    const [primary = "alpha", standby = "beta"] = context.hosts.hosts;
    for (const [workload, mode, why] of [
      ["redis", "hybrid", /all its processes can be recorded/],
      ["tree", "checkpoint", /share memory/],
    ] as const) {
      await context.pool.clear();
      const service = await context.pool.fresh(workload);
      const view = await service.protect(primary, standby, { mode: "auto" });
      expectThat(view.mode === mode, `${workload} is in mode ${view.mode}`);
      const chosen = (await context.ftctl.events(primary, service.name)).find(
        ({ type }) => type === "mode-chosen",
      );
      expectThat(chosen, `${workload}: no event mode-chosen`);
      expectThat(
        chosen.message.startsWith(`mode auto: ${mode} (`) && why.test(chosen.message),
        `${workload}: ${chosen.message}`,
      );
    }
  },
};

/** A protected container is stopped and started like any other. */
const stopAndStart: Scenario = {
  name: "lifecycle/docker-stop-and-start",
  quick: true,
  boundMs: 120_000,
  run: async (context) => {
    await context.pool.clear();
    const service = await context.pool.fresh("redis");
    const [primary = "alpha", standby = "beta"] = context.hosts.hosts;
    await service.protect(primary, standby);
    await service.untilListening();
    await redisCli(service, primary, "SET", "kept", "yes");
    await service.docker(primary, ["stop", service.name]);
    await poll("protection has ended", 10_000, async () => {
      const view = await context.ftctl.status(primary, service.name);
      return view.state === "stopped" ? true : undefined;
    });
    await context.hosts.agent(primary, "restart");
    await service.docker(primary, ["start", service.name]);
    await service.untilProtected(primary, 30_000);
    await redisUntilUp(service, primary);
    expectThat((await redisCli(service, primary, "GET", "kept")) === "yes", "data is gone");
    await context.hosts.kill(primary);
    await service.untilTakenOver(standby, 15_000);
    expectThat((await redisCli(service, standby, "GET", "kept")) === "yes", "data is gone");
  },
};

function commandOf(container: Record<string, unknown>): unknown {
  const { Path, Args, Config } = container as {
    Path: string;
    Args: string[];
    Config: { Env: string[]; Entrypoint: unknown; Cmd: unknown };
  };
  return [Path, Args, Config.Env, Config.Entrypoint ?? null, Config.Cmd ?? null];
}

async function redisUntilUp(service: Service, host: Host): Promise<void> {
  await poll("redis answers", 15_000, async () => {
    const result = await service.docker(host, ["exec", service.name, "redis-cli", "PING"]);
    return result.stdout.trim() === "PONG" ? true : undefined;
  });
}

async function leavesNoGate(context: Context, hosts: Host[]): Promise<void> {
  for (const host of hosts) {
    const gates = context.hosts.pids(host, /(^|\/)ft(gate|dump|store) /);
    expectThat(gates.length === 0, `${host} still runs ${gates.length} helper processes`);
    const links = await context.hosts.exec(host, ["ip", "-o", "link", "show", "type", "tun"]);
    expectThat(links.stdout.trim() === "", `${host} still has ${links.stdout.trim()}`);
  }
}

/** Whatever makes protect fail, the original container is as it was: same id, same start, same data. */
/** What runs for a pair beside its container. */
const nativePrograms = /(^|\/)(ftgate|ftdump|ftstore|criu)( |$)/;

function failingProtect(
  name: string,
  exitCodes: number[],
  spoil: (context: Context, standby: Host) => Promise<void>,
  args: { policy?: Record<string, unknown>; standby?: string } = {},
): Scenario {
  return {
    name: `lifecycle/protect-fails-${name}`,
    quick: true,
    boundMs: 150_000,
    run: async (context) => {
      await context.pool.clear();
      const service = await context.pool.fresh("redis");
      const [primary = "alpha", standby = "beta"] = context.hosts.hosts;
      await redisUntilUp(service, primary);
      await redisCli(service, primary, "SET", "kept", "yes");
      const before = await inspect(service, primary);
      await spoil(context, standby);
      const result = await service.tryProtect(primary, args.standby ?? standby, args.policy);
      expectThat(
        exitCodes.includes(result.exitCode),
        `protect ended with ${result.exitCode}, not ${exitCodes.join(" or ")}: ${result.stderr}`,
      );
      expectThat(result.stderr.trim() !== "", "protect failed without a word");
      const after = await inspect(service, primary);
      const same = (field: string) =>
        JSON.stringify(before[field]) === JSON.stringify(after[field]);
      expectThat(same("Id") || same("Path"), "the original container was changed");
      await redisUntilUp(service, primary);
      expectThat(
        (await redisCli(service, primary, "GET", "kept")) === "yes",
        "the original container lost data",
      );
      await context.pool.heal();
      expectThat(
        context.hosts.pids(primary, nativePrograms).length === 0,
        "programs of the pair are left on the primary",
      );
      // A standby whose agent was down when it should have been removed finds out by itself.
      for (const host of [primary, standby]) {
        await poll(`${host} keeps no half of a pair`, 30_000, async () =>
          (await context.ftctl.list(host)).length === 0 &&
          context.hosts.pids(host, nativePrograms).length === 0
            ? true
            : undefined,
        );
      }
    },
  };
}

/** Protection must not change what the clients are told, whatever the direction of the writes. */
const reconnect: Scenario = {
  name: "lifecycle/many-short-connections",
  quick: false,
  boundMs: 120_000,
  run: async (context) => {
    const { service } = await context.pool.get("redis", {});
    for (let round = 0; round < 10; round += 1) {
      const client = await service.load({ connections: 20, requestsMax: 5 });
      try {
        const report = await client.report(30_000);
        const broken = brokenPromises(verdictOf(report, await client.verify()));
        expectThat(broken.length === 0, broken.join("; "));
      } finally {
        client.dispose();
      }
    }
  },
};

const nothing = async () => {};

export const lifecycleScenarios: Scenario[] = [
  switchover,
  unprotect,
  modeAuto,
  stopAndStart,
  failingProtect("peer-unreachable", [4, 7], async (context, standby) => {
    context.pool.altered(standby);
    await context.hosts.agent(standby, "kill");
  }),
  failingProtect("unknown-peer", [2, 3, 7], nothing, { standby: "nowhere" }),
  failingProtect("malformed-policy", [2], nothing, { policy: { epoch: { intervalMs: "soon" } } }),
  failingProtect("unsafe-policy", [2, 6], nothing, {
    policy: { failover: "automatic", onStandbyLoss: "run-unprotected" },
  }),
  failingProtect("standby-breaks-on-the-way", [1, 4, 5, 7, 124], async (context, standby) => {
    context.pool.altered(standby);
    await context.hosts.agent(standby, "restart", { FTCTL_FAULT: "epoch.commit.before:crash" });
  }),
  reconnect,
];
