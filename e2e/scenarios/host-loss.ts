/** The primary's host loses its power. */

import { execa } from "execa";
import type { PairView } from "../../orchestrator/agent/api-types.js";
import { monotonicUs, outageMsAround } from "../clients/latency.js";
import type { Host } from "../runner/hosts.js";
import {
  type Context,
  expectThat,
  type Scenario,
  scenarioUnderLoad,
  underLoad,
} from "../runner/scenario.js";
import type { Service } from "../runner/service.js";
import type { WorkloadName } from "../workloads/workloads.js";

/** SPECIFICATION: outage at host loss. One run may be slower than the median that is promised. */
const outageMsMax = 3_000;

function hostLoss(workload: WorkloadName, quick: boolean, connections: number): Scenario {
  return {
    name: `host-loss/${workload}-${connections}`,
    quick,
    boundMs: 120_000,
    run: async (context) => {
      let killedUs = 0;
      const options = { workload, client: { connections } };
      const { report } = await underLoad(
        context,
        options,
        async ({ service, primary, standby }) => {
          killedUs = await context.hosts.kill(primary);
          await service.untilTakenOver(standby, 20_000);
          await expectWholeSegments(context, service, standby);
        },
      );
      const outageMs = outageMsAround(report.gaps, killedUs);
      context.note(`outage ${Math.round(outageMs)} ms`);
      expectThat(outageMs < outageMsMax, `outage of ${outageMs} ms, bound is ${outageMsMax}`);
    },
  };
}

/** Restored in repair mode, a connection could be left with the smallest segments there are. */
async function expectWholeSegments(context: Context, service: Service, host: Host): Promise<void> {
  const inspect = await service.docker(host, ["inspect", "-f", "{{.State.Pid}}", service.name]);
  const enter = ["nsenter", "-t", inspect.stdout.trim(), "-n"];
  const sockets = await context.hosts.exec(host, [...enter, "ss", "-tin", "state", "established"]);
  const sizes = [...sockets.stdout.matchAll(/ mss:(\d+)/g)].map((match) => Number(match[1]));
  expectThat(sizes.length > 0, `no connection on ${host} after the takeover: ${sockets.stderr}`);
  const bytesMin = 1_400;
  expectThat(
    sizes.every((size) => size >= bytesMin),
    `segments of ${Math.min(...sizes)} bytes after the takeover`,
  );
}

function backAndForth(times: number, quick: boolean): Scenario {
  const about = {
    name: `host-loss/back-and-forth-${times}`,
    quick,
    boundMs: 60_000 + times * 30_000,
    client: { requestsMax: 1_000_000, durationMsMax: times * 30_000 },
  };
  return scenarioUnderLoad(about, async ({ service, primary, standby, client }, context) => {
    let [voice, warm] = [primary, standby];
    for (let i = 0; i < times; i += 1) {
      await context.hosts.kill(voice);
      await service.untilTakenOver(warm, 20_000);
      await client.makesProgress(50, 30_000);
      await context.hosts.boot(voice);
      await service.untilProtected(warm, 30_000);
      await client.makesProgress(50, 30_000);
      [voice, warm] = [warm, voice];
    }
    const view = await context.ftctl.status(voice, service.name);
    expectThat(view.generation > times, `${times} takeovers, but generation ${view.generation}`);
  });
}

/** The host dies before the standby has a single whole checkpoint's worth of load: at once after protect. */
const rightAfterProtect: Scenario = {
  name: "host-loss/idle",
  quick: true,
  boundMs: 90_000,
  run: async (context) => {
    const { service, primary, standby } = await context.pool.get("redis", {});
    await context.hosts.kill(primary);
    await service.untilTakenOver(standby, 20_000);
    await service.untilListening();
    const view = await context.ftctl.status(standby, service.name);
    expectThat(view.takeover, "the standby tells nothing about its takeover");
    context.note(`detected in ${Math.round(view.takeover.detectionMs)} ms`);
  },
};

/** Memory that was packed on its way is what is restored. */
const packed = (compression: "lz4" | "zstd") =>
  scenarioUnderLoad(
    { name: `host-loss/redis-${compression}`, quick: false, policy: { transfer: { compression } } },
    async ({ service, primary, standby }, context) => {
      await context.hosts.kill(primary);
      await service.untilTakenOver(standby, 20_000);
    },
  );

const pipelined = scenarioUnderLoad(
  { name: "host-loss/redis-pipelined", quick: false, client: { pipeline: 16 } },
  async ({ service, primary, standby }, context) => {
    await context.hosts.kill(primary);
    await service.untilTakenOver(standby, 20_000);
  },
);

/**
 * Clients that keep coming. A connection whose handshake was under way at the last checkpoint is not part of
 * it (CRIU skips half-open ones), so its client may be reset: at most one for each that was connecting. All
 * later ones must get through.
 */
const shortConnections: Scenario = {
  name: "host-loss/nginx-short-connections",
  quick: false,
  boundMs: 120_000,
  run: async (context) => {
    const connections = 8;
    const client = { connections, shortConnections: true, largeEvery: 0 };
    const { verdict } = await underLoad(
      context,
      { workload: "nginx", client, tolerate: ["resets"] },
      async ({ service, primary, standby }) => {
        await context.hosts.kill(primary);
        await service.untilTakenOver(standby, 20_000);
      },
    );
    context.note(`${verdict.resets} reset while connecting`);
    expectThat(verdict.resets <= connections, `${verdict.resets} connections were reset`);
  },
};

/**
 * A redis of 512 MiB: it answers before its memory is there, no page is wrong, and it is protected again when all has come. Without its
 * append-only file, which would be as large.
 */
export const large = (mode: "checkpoint" | "hybrid"): Scenario => ({
  name: mode === "hybrid" ? "hybrid/redis-512-mib" : "host-loss/redis-512-mib",
  quick: false,
  boundMs: 240_000,
  run: async (context) => {
    const { service, primary, standby } = await context.pool.get("redis", { mode });
    const redis = async (host: Host, ...words: string[]) => {
      const asked = await service.docker(host, ["exec", service.name, "redis-cli", ...words]);
      expectThat(asked.exitCode === 0, `redis-cli ${words[0]}: ${asked.stderr}`);
      return asked.stdout.trim();
    };
    await redis(primary, "CONFIG", "SET", "appendonly", "no");
    const [keys, part] = [512, 32];
    for (let from = 1; from <= keys; from += part) {
      await redis(primary, "EVAL", writeKeys, "0", `${from}`, `${from + part - 1}`);
    }
    const filled = await context.ftctl.status(primary, service.name);
    await context.ftctl.until(
      primary,
      service.name,
      "an epoch after the last write",
      (view) => view.state === "protected" && view.epochsCommitted > filled.epochsCommitted + 1,
      60_000,
    );
    if (mode === "hybrid") {
      const covers = (view: PairView) => view.log?.covers === true;
      await context.ftctl.until(primary, service.name, "a log that covers output", covers, 60_000);
      await redis(primary, "EVAL", writeKeys, "0", "1", "16");
    }
    await context.hosts.kill(primary);
    const taken = await service.untilTakenOver(standby, 30_000);
    if (mode === "hybrid") {
      expectThat(taken.takeover?.replay, "the takeover replayed nothing");
      const { attempts, ms, events } = taken.takeover.replay;
      context.note(`${events} events replayed in ${Math.round(ms)} ms`);
      expectThat(attempts === 1, `${attempts} replays were needed`);
    }
    // At once, while most of it is missing.
    const wrong = await redis(standby, "EVAL", wrongKeys, "0", "1", `${keys}`);
    expectThat(wrong === "0", `${wrong} of ${keys} keys are wrong`);
    const { takeover } = await context.ftctl.until(
      standby,
      service.name,
      "all memory",
      (view) => view.takeover?.fillMs !== undefined,
      60_000,
    );
    expectThat((takeover?.lazyBytes ?? 0) > 500_000_000, "the memory was there at once");
    context.note(
      `restored in ${Math.round(takeover?.restoreMs ?? 0)} ms, all memory after ${Math.round(takeover?.fillMs ?? 0)} ms`,
    );
    await context.hosts.boot(primary);
    await service.untilProtected(standby, 60_000);
    // Once more, from the checkpoint of what was restored.
    await context.hosts.kill(standby);
    await service.untilTakenOver(primary, 30_000);
    const lost = await redis(primary, "EVAL", wrongKeys, "0", "1", `${keys}`);
    expectThat(lost === "0", `${lost} of ${keys} keys are wrong after the second takeover`);
  },
});

/**
 * A client that sends nothing again for half a minute: what it had asked when the host was lost is answered all the same, as the
 * standby's gate has a copy of it. The first answer says that a checkpoint was just committed, so that the second waits for the next one.
 */
const patientClient: Scenario = {
  name: "host-loss/patient-client",
  quick: true,
  boundMs: 120_000,
  run: async (context) => {
    const policy = { epoch: { intervalMs: 1_000, idleIntervalMs: 1_000 } };
    const { service, primary, standby } = await context.pool.get("redis", policy);
    const route = [`${service.address}/32`, "dev", "lan0"];
    const added = ["ip", "route", "replace", ...route, "rto_min", "30s"];
    const { exitCode, stderr } = await context.hosts.exec("client", added);
    expectThat(exitCode === 0, `the client's route: ${stderr}`);
    try {
      const [program = "", ...enter] = context.hosts.enterClient;
      const script = `exec 3<>/dev/tcp/${service.address}/${service.spec.port}
        ask() { printf 'INCR patient\\r\\n' >&3; }
        ask; read -r -t 20 first <&3; ask; echo "asked $first"; read -r -t 25 second <&3; echo "answered $second"`;
      const client = execa(program, [...enter, "bash", "-c", script], { timeout: 60_000 });
      await said(client.stdout, "asked :1");
      const killedUs = await context.hosts.kill(primary);
      await service.untilTakenOver(standby, 20_000);
      const { stdout } = await client;
      const answeredMs = (monotonicUs() - killedUs) / 1000;
      expectThat(/^answered :2/m.test(stdout), `the client has only heard ${stdout}`);
      context.note(`answered within ${Math.round(answeredMs)} ms`);
    } finally {
      await context.hosts.exec("client", ["ip", "route", "del", ...route]);
    }
  },
};

/** Resolves when that line begins to appear. */
function said(stream: NodeJS.ReadableStream, what: string): Promise<void> {
  let text = "";
  return new Promise((resolve, reject) => {
    stream.on("data", (chunk: Buffer | string) => {
      text += chunk;
      if (text.includes(what)) resolve();
    });
    stream.on("end", () => reject(new Error(`the client has only said ${text}`)));
  });
}

const largeValue = "string.rep(redis.sha1hex(i), 26214)";
const writeKeys = `for i = tonumber(ARGV[1]), tonumber(ARGV[2]) do redis.call('SET', 'large:' .. i, ${largeValue}) end`;
const wrongKeys = `local n = 0 for i = tonumber(ARGV[1]), tonumber(ARGV[2]) do if redis.call('GET', 'large:' .. i) ~= ${largeValue} then n = n + 1 end end return n`;

export const hostLossScenarios: Scenario[] = [
  hostLoss("redis", true, 8),
  backAndForth(2, true),
  backAndForth(10, false),
  rightAfterProtect,
  patientClient,
  packed("lz4"),
  packed("zstd"),
  large("checkpoint"),
  pipelined,
  hostLoss("redis", false, 50),
  hostLoss("redis-always", false, 8),
  hostLoss("memcached", true, 8),
  hostLoss("nginx", true, 8),
  shortConnections,
  hostLoss("echo", true, 8),
  hostLoss("disk", true, 8),
  hostLoss("tree", true, 8),
];
