/** Mode hybrid: output waits for the event log, and a takeover replays it. */

import { readFileSync } from "node:fs";
import type { PairView } from "../../orchestrator/agent/api-types.js";
import type { FaultPoint } from "../../orchestrator/faults/faults.js";
import { outageMsAround } from "../clients/latency.js";
import type { Host } from "../runner/hosts.js";
import { pause, poll } from "../runner/poll.js";
import {
  type Context,
  expectThat,
  type Scenario,
  scenarioUnderLoad,
  underLoad,
} from "../runner/scenario.js";
import type { Service } from "../runner/service.js";
import type { WorkloadName } from "../workloads/workloads.js";
import { arm, strike } from "./fault-points.js";
import { large } from "./host-loss.js";
import { killPids } from "./processes.js";

const outageMsMax = 3_000;

/** The primary's host dies under load; what was told to clients is in the log, and nothing else is. */
function hostLoss(workload: WorkloadName, connections: number, times: number): Scenario {
  return {
    name: `hybrid/${workload}-${connections}${times > 1 ? `-${times}-times` : ""}`,
    quick: false,
    boundMs: 90_000 + times * 60_000,
    run: async (context) => {
      const options = {
        workload,
        policy: { mode: "hybrid" },
        client: { connections, requestsMax: 4_000_000, durationMsMax: times * 60_000 },
      };
      const killedUs: number[] = [];
      const { report } = await underLoad(
        context,
        options,
        async ({ service, primary, standby, client }) => {
          let [voice, warm] = [primary, standby];
          for (let i = 0; i < times; i += 1) {
            await context.ftctl.until(
              voice,
              service.name,
              "output that waits for the log",
              (view) => view.log?.covers === true,
              30_000,
            );
            await client.makesProgress(500, 30_000);
            const before = await context.ftctl.status(voice, service.name);
            const { p50 = 0, p99 = 0 } = before.outputDelayMs ?? {};
            context.note(`output waited ${p50.toFixed(2)} / ${p99.toFixed(2)} ms`);
            killedUs.push(await context.hosts.kill(voice));
            const view = await service.untilTakenOver(warm, 30_000);
            expectThat(view.takeover?.replay, "the takeover replayed nothing");
            const { events, outputs, ms, rebuilt } = view.takeover.replay;
            context.note(
              `replayed ${events} events, ${outputs} outputs in ${Math.round(ms)} ms; ${rebuilt} connections`,
            );
            await client.makesProgress(500, 30_000);
            if (i + 1 === times) break;
            await context.hosts.boot(voice);
            await service.untilProtected(warm, 30_000);
            [voice, warm] = [warm, voice];
          }
        },
      );
      for (const atUs of killedUs) {
        const outageMs = outageMsAround(report.gaps, atUs);
        context.note(`outage ${Math.round(outageMs)} ms`);
        expectThat(outageMs < outageMsMax, `outage of ${outageMs} ms, bound is ${outageMsMax}`);
      }
    },
  };
}

const policy = { mode: "hybrid" };

/** Output waits for the log again, and so the pair is as good as new. */
export async function untilCovered(context: Context, service: Service, host: Host): Promise<void> {
  const covers = (view: PairView) => view.state === "protected" && view.log?.covers === true;
  await context.ftctl.until(host, service.name, "output that waits for the log", covers, 30_000);
}

const switchover = scenarioUnderLoad(
  { name: "hybrid/switchover-under-load", quick: false, policy },
  async ({ service, primary, standby, client }, context) => {
    await untilCovered(context, service, primary);
    await context.ftctl.must(primary, ["switchover", service.name, "-y"], 60_000);
    await untilCovered(context, service, standby);
    await client.makesProgress(100, 30_000);
    await context.ftctl.must(standby, ["switchover", service.name, "-y"], 60_000);
    await untilCovered(context, service, primary);
  },
);

/** Something of the pair dies and comes back; then the host is lost. */
function afterLossOf(what: string, side: "primary" | "standby", pattern: RegExp): Scenario {
  return scenarioUnderLoad(
    { name: `hybrid/${what}-of-${side}-then-host`, quick: false, policy },
    async ({ service, primary, standby, client }, context) => {
      await untilCovered(context, service, primary);
      await killPids(context, side === "primary" ? primary : standby, pattern);
      await context.pool.heal();
      await client.makesProgress(200, 30_000);
      await untilCovered(context, service, primary);
      await client.makesProgress(200, 30_000);
      await context.hosts.kill(primary);
      await service.untilTakenOver(standby, 30_000);
    },
  );
}

/**
 * The log's stream is new, and no checkpoint leads into it yet. What left while the old one covered is in the log all the same, and must
 * be replayed: from the last checkpoint alone it would be taken back.
 */
const newStream = scenarioUnderLoad(
  { name: "hybrid/host-lost-in-a-new-stream", quick: false, policy },
  async ({ service, primary, standby, client }, context) => {
    await untilCovered(context, service, primary);
    await client.makesProgress(200, 30_000);
    const linked = await linksOf(context, standby);
    // No checkpoint may be taken in the new stream.
    for (const pid of context.hosts.pids(primary, /(^|\/)ftdump /)) process.kill(pid, "SIGSTOP");
    await killPids(context, primary, /(^|\/)ftgate /);
    await poll("a new stream", 10_000, async () =>
      (await linksOf(context, standby)) > linked ? true : undefined,
    );
    await context.hosts.kill(primary);
    await service.untilTakenOver(standby, 30_000);
    const { takeover } = await context.ftctl.status(standby, service.name);
    expectThat(takeover?.replay, "nothing was replayed");
    expectThat(takeover.replay.failed === 0, `${takeover.replay.failed} connections are lost`);
  },
);

/** Nobody else can listen between the hosts: the log is authenticated, and travels as it is. */
const dedicatedWire = scenarioUnderLoad(
  {
    ...{ name: "hybrid/dedicated-wire", quick: false },
    policy: { ...policy, transfer: { wire: "dedicated" } },
  },
  async ({ service, primary, standby, client }, context) => {
    await untilCovered(context, service, primary);
    for (const host of [primary, standby]) {
      const plain = context.hosts.pids(host, /(^|\/)ftgate .*--ship-plain/);
      expectThat(plain.length > 0, `the gate of ${host} encrypts all the same`);
    }
    await client.makesProgress(200, 30_000);
    await context.hosts.kill(primary);
    await service.untilTakenOver(standby, 30_000);
    await client.makesProgress(200, 30_000);
    const { takeover } = await context.ftctl.status(standby, service.name);
    expectThat(takeover?.replay, "nothing was replayed");
  },
);

/**
 * The agent dies when the replay is over, and the next one replays again. What the first replay appended to the file of
 * commands must not stand there twice: read anew, that file must make the same state.
 */
const secondReplay: Scenario = {
  name: "hybrid/files-of-a-second-replay",
  quick: false,
  boundMs: 150_000,
  run: async (context) => {
    const options = { workload: "redis" as const, warmUpReplies: 50, policy };
    await underLoad(context, options, async (loaded) => {
      const { service, primary, standby, client } = loaded;
      await untilCovered(context, service, primary);
      await strike(context, loaded, "takeover.connections", "crash");
      await client.makesProgress(100, 30_000);
      const view = await service.untilTakenOver(standby, 30_000);
      expectThat(view.takeover?.replay, "the takeover replayed nothing");
      const ask = async (...words: string[]) => {
        const args = ["exec", service.name, "redis-cli", ...words];
        const { exitCode, stdout, stderr } = await service.docker(standby, args);
        expectThat(exitCode === 0 && !/^ERR/.test(stdout), `${words[0]}: ${stdout}${stderr}`);
        return stdout.trim();
      };
      await ask("client", "pause", "20000", "write");
      const inMemory = await ask("debug", "digest");
      await ask("debug", "loadaof");
      const inFile = await ask("debug", "digest");
      await ask("client", "unpause");
      expectThat(inMemory === inFile, `the file makes ${inFile}, the memory is ${inMemory}`);
      await client.makesProgress(100, 30_000);
    });
  },
};

/**
 * The process that replays crashes, and closes its connections. Its sockets and what they said must be gone before it is
 * restored again, or nothing can be restored between the same ends, and clients hear that they were hung up on.
 */
const crashInReplay: Scenario = {
  name: "hybrid/crash-in-a-replay",
  quick: false,
  boundMs: 150_000,
  run: async (context) => {
    const options = { workload: "redis" as const, warmUpReplies: 50, policy };
    await underLoad(context, options, async ({ service, primary, standby, client }) => {
      // It is nobody's application yet, and its connections are real.
      await arm(context, standby, "takeover.connections", "delay=1500", 0);
      await untilCovered(context, service, primary);
      await client.makesProgress(500, 30_000);
      await context.hosts.kill(primary);
      const restored = /^\S*redis-server/;
      const probe = async () => {
        const [pid] = context.hosts.pids(standby, restored);
        return pid !== undefined && !isTraced(pid) ? pid : undefined;
      };
      const victim = await poll("a process that was restored", 20_000, probe, 5);
      await pause(500);
      process.kill(victim, "SIGKILL");
      const view = await service.untilTakenOver(standby, 60_000);
      const events = await context.ftctl.events(standby, service.name);
      const told = events.filter(({ type }) => /^(replay-failed|takeover-retried)$/.test(type));
      context.note(told.map(({ message }) => message.slice(0, 120)).join("; "));
      expectThat(told.length > 0, "no event says that an attempt failed");
      expectThat(view.takeover?.replay, "nothing was replayed");
      expectThat(view.takeover.replay.failed === 0, "connections are lost");
      await client.makesProgress(200, 30_000);
    });
  },
};

function isTraced(pid: number): boolean {
  try {
    return !/^TracerPid:\s*0$/m.test(readFileSync(`/proc/${pid}/status`, "utf8"));
  } catch {
    return true;
  }
}

/** How often the log's stream has come up, as that host saw it. */
async function linksOf(context: Context, host: Host): Promise<number> {
  const events = await context.ftctl.events(host);
  return events.filter(({ type }) => type === "log-link-back").length;
}

const replicationCut = scenarioUnderLoad(
  { name: "hybrid/replication-cut", quick: false, policy },
  async ({ service, primary, standby, client }, context) => {
    await untilCovered(context, service, primary);
    await client.makesProgress(200, 30_000);
    await context.hosts.cut(primary, "replication");
    await service.untilTakenOver(standby, 30_000);
    await client.makesProgress(200, 30_000);
    await context.hosts.mend(primary, "replication");
    await untilCovered(context, service, standby);
  },
);

function takeoverFault(
  point: FaultPoint,
  action: "crash" | "error",
  workload: WorkloadName = "redis",
): Scenario {
  return {
    name: `hybrid/fault/${workload === "redis" ? "" : `${workload}/`}${point}:${action}`,
    quick: false,
    boundMs: 150_000,
    run: async (context) => {
      const options = { workload, warmUpReplies: 50, policy };
      await underLoad(context, options, (loaded) => strike(context, loaded, point, action));
    },
  };
}

/**
 * Children that write the whole state (BGSAVE, BGREWRITEAOF) come and go under load when the host dies. The replay makes
 * them again, and its log of changes still makes the state that clients know.
 */
const savingChildren: Scenario = {
  name: "hybrid/redis-saving-children",
  quick: false,
  boundMs: 150_000,
  run: async (context) => {
    const options = { workload: "redis" as const, policy };
    await underLoad(context, options, async ({ service, primary, standby, client }) => {
      await untilCovered(context, service, primary);
      const ask = (host: Host, ...words: string[]) =>
        service.docker(host, ["exec", service.name, "redis-cli", ...words]);
      for (let i = 0; i < 4; i += 1) {
        await ask(primary, i % 2 === 0 ? "bgsave" : "bgrewriteaof");
        await client.makesProgress(100, 30_000);
      }
      void ask(primary, "bgrewriteaof").catch(() => {});
      await client.makesProgress(100, 30_000);
      await context.hosts.kill(primary);
      const view = await service.untilTakenOver(standby, 30_000);
      expectThat(view.takeover?.replay, "the takeover replayed nothing");
      await client.makesProgress(200, 30_000);
      const info = await ask(standby, "info", "persistence");
      const said = (line: string) =>
        expectThat(info.stdout.includes(line), `no ${line}: ${info.stdout}`);
      said("aof_last_bgrewrite_status:ok");
      said("aof_last_write_status:ok");
      const loaded = await ask(standby, "bgrewriteaof");
      expectThat(loaded.exitCode === 0, `bgrewriteaof after the takeover: ${loaded.stderr}`);
    });
  },
};

/**
 * Processes that talk by memory which they share: nobody records whose turn it is. Such an application is refused, by name,
 * before anything is changed.
 */
const manyProcesses: Scenario = {
  name: "hybrid/many-processes-refused",
  quick: true,
  boundMs: 120_000,
  run: async (context) => {
    await context.pool.clear();
    const service = await context.pool.fresh("tree");
    const [primary = "alpha", standby = "beta"] = context.hosts.hosts;
    await poll("its children run", 10_000, async () => {
      const top = await service.docker(primary, ["top", service.name]);
      return top.stdout.trim().split("\n").length > 2 ? true : undefined;
    });
    const result = await service.tryProtect(primary, standby, { mode: "hybrid" });
    expectThat(result.exitCode === 4, `protect ended with ${result.exitCode}: ${result.stderr}`);
    expectThat(result.stderr.includes("recording"), `another check refused: ${result.stderr}`);
    expectThat((await context.ftctl.list(primary)).length === 0, "a pair was made");
  },
};

const TAKEOVER_POINTS: FaultPoint[] = [
  "takeover.arm",
  "takeover.restore",
  "takeover.replay",
  "takeover.connections",
  "takeover.live",
];

export const hybridScenarios: Scenario[] = [
  hostLoss("redis", 8, 1),
  hostLoss("redis", 8, 3),
  hostLoss("memcached", 8, 1),
  hostLoss("echo", 8, 1),
  hostLoss("lighttpd", 8, 1),
  hostLoss("redis-always", 8, 1),
  savingChildren,
  hostLoss("bank", 8, 1),
  hostLoss("bank", 8, 3),
  large("hybrid"),
  hostLoss("nginx", 8, 1),
  hostLoss("nginx", 8, 3),
  hostLoss("memcached", 8, 3),
  hostLoss("redis", 8, 6),
  hostLoss("nginx", 8, 6),
  switchover,
  afterLossOf("gate", "primary", /(^|\/)ftgate /),
  afterLossOf("gate", "standby", /(^|\/)ftgate /),
  afterLossOf("agent", "primary", /main\.js agent/),
  newStream,
  dedicatedWire,
  secondReplay,
  crashInReplay,
  replicationCut,
  manyProcesses,
  ...TAKEOVER_POINTS.flatMap((point) => [
    takeoverFault(point, "crash"),
    takeoverFault(point, "error"),
  ]),
  // All its processes have to go before they are restored again.
  takeoverFault("takeover.connections", "error", "nginx"),
];
