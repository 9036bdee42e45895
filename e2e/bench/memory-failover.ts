/** What clients see at the power loss of a host, against how much memory the service has: the whole product, in the lab. */
import { LabHosts } from "../runner/hosts.js";
import { buildImage, Service } from "../runner/service.js";
import { specOf } from "../runner/workloads.js";
import { asOnTheMachine } from "./configurations.js";
import { measureOutage } from "./measure.js";
import { at } from "./memory-numbers.js";
import { type MemoryRow, round } from "./rows.js";

/** The first dump is whole, and the application stands still for it. */
const FREEZE_MS_MAX = 10_000;
/** Output is held from the first dump on until the standby has all of it, and the second is whole, too. */
const LISTENING_MS_MAX = 60_000;
const VALUE_BYTES = 1_000_000;
const VALUES_A_CALL = 64;

export interface FailoverCase {
  memoryMiB: number;
  connections: number;
}

export interface FailoverSettings {
  kills: number;
  untilMs: number;
  say: (line: string) => void;
}

export async function measureFailovers(
  cases: FailoverCase[],
  settings: FailoverSettings,
): Promise<MemoryRow[]> {
  const { hosts, started } = await LabHosts.up(["alpha", "beta"], settings.say);
  try {
    await buildImage(specOf("redis"));
    const outages = new Map<FailoverCase, Outage[]>(cases.map((each) => [each, []]));
    for (let turn = 0; turn < settings.kills; turn += 1) {
      for (const [each, found] of outages) {
        if (Date.now() > settings.untilMs) continue;
        settings.say(`… failover at ${each.memoryMiB} MiB, ${each.connections} connections`);
        found.push(await oneOutage(hosts, each, settings.say));
      }
    }
    return [...outages]
      .filter(([, found]) => found.length > 0)
      .map(([each, found]) => rowOf(each, found));
  } finally {
    if (started) await hosts.down();
  }
}

/** Both hosts begin anew each time: what the last turn left must not count. */
async function oneOutage(
  hosts: LabHosts,
  of: FailoverCase,
  say: FailoverSettings["say"],
): Promise<Outage> {
  await asOnTheMachine(hosts);
  const service = new Service(hosts, specOf("redis"));
  const [primary = "alpha", standby = "beta"] = hosts.hosts;
  await service.run(primary);
  // A child that writes the append-only file anew would be in the checkpoint, and counts as twice the memory.
  const still = ["CONFIG", "SET", "auto-aof-rewrite-percentage", "0"];
  await service.docker(primary, ["exec", service.name, "redis-cli", ...still], 10_000);
  const script =
    "for i = ARGV[1], ARGV[2] do redis.call('SET', 'big:' .. i, string.rep('value ' .. i .. ' ', ARGV[3] / (7 + #tostring(i)))) end return 'done'";
  const values = Math.floor((of.memoryMiB * 2 ** 20) / VALUE_BYTES);
  for (let first = 1; first <= values; first += VALUES_A_CALL) {
    const last = Math.min(values, first + VALUES_A_CALL - 1);
    const words = ["exec", service.name, "redis-cli", "EVAL", script, "0"];
    const numbers = [first, last, VALUE_BYTES].map(String);
    const filled = await service.docker(primary, [...words, ...numbers], 60_000);
    if (filled.stdout.trim() !== "done") throw new Error(`fill: ${filled.stdout} ${filled.stderr}`);
  }
  await service.protect(primary, standby, { epoch: { freezeTimeoutMs: FREEZE_MS_MAX } });
  await service.untilListening(LISTENING_MS_MAX);
  const { outageMs, afterDetectionMs, takeoverMs } = await measureOutage(
    service,
    of.connections,
    1,
  );
  const found = {
    outageMs: outageMs?.p50 ?? Number.NaN,
    afterDetectionMs: afterDetectionMs?.p50 ?? Number.NaN,
    takeoverMs: takeoverMs?.total ?? Number.NaN,
    restoreMs: takeoverMs?.restore ?? Number.NaN,
  };
  say(`  ${JSON.stringify(found)}`);
  return found;
}

interface Outage {
  outageMs: number;
  afterDetectionMs: number;
  takeoverMs: number;
  restoreMs: number;
}

function rowOf({ memoryMiB, connections }: FailoverCase, outages: Outage[]): MemoryRow {
  const of = (field: keyof Outage) => outages.map((one) => one[field]);
  const spread = (values: number[]) => ({
    p50: round(at(values, 0.5)),
    max: round(Math.max(...values)),
  });
  return {
    ...{ configuration: "failover", workload: "redis", threads: 1, memoryMiB, connections },
    outageMs: spread(of("outageMs")),
    afterDetectionMs: spread(of("afterDetectionMs")),
    takeoverMs: {
      total: round(at(of("takeoverMs"), 0.5)),
      restore: round(at(of("restoreMs"), 0.5)),
    },
    kills: outages.length,
  };
}
