/** Checkpoints that arrive damaged, a full disk, and files that must match the memory restored. */
import { readFileSync, statSync, writeFileSync } from "node:fs";
import { crc32c } from "../../orchestrator/links/crc32c.js";
import type { Host } from "../runner/hosts.js";
import { pause, poll } from "../runner/poll.js";
import {
  type Context,
  expectThat,
  type Scenario,
  scenarioUnderLoad,
  underLoad,
} from "../runner/scenario.js";
import { arm } from "./fault-points.js";
import { protectedSomewhere } from "./processes.js";

const settleMs = 30_000;

/** Offsets of the epoch blob's header (native/epoch/format.h). */
const header = { version: 8, crc: 108 } as const;

type Damage = (blob: Buffer) => Buffer;

const damages: Record<string, Damage> = {
  "flipped-bit": (blob) => {
    const at = Math.floor(blob.length / 2);
    blob[at] = (blob[at] ?? 0) ^ 0x10;
    return blob;
  },
  truncated: (blob) => blob.subarray(0, Math.floor(blob.length * 0.7)),
  "other-version": (blob) => {
    blob.writeUInt32LE(999, header.version);
    blob.writeUInt32LE(crc32c(blob.subarray(0, header.crc)), header.crc);
    return blob;
  },
  empty: () => Buffer.alloc(0),
};

/** Holds an epoch between dump and ship for a while, so that its file can be damaged in the spool. */
function damaged(name: string, damage: Damage, quick: boolean): Scenario {
  return scenarioUnderLoad(
    { name: `storage/checkpoint-${name}`, quick },
    async ({ service, primary, standby, client }, context) => {
      const before = await context.ftctl.status(primary, service.name);
      await arm(context, primary, "epoch.ship.before", "delay=3000", 60);
      await damageSpool(context, primary, before.id, damage);
      await poll("an event for the refused checkpoint", settleMs, async () => {
        const events = await context.ftctl.events(primary, service.name);
        return events.find((event) => event.type === "epoch-skipped");
      });
      await client.makesProgress(50, settleMs);
      const after = await protectedSomewhere(context, service.name, [primary, standby]);
      expectThat(after === primary, "a damaged checkpoint moved the service");
      // What the standby holds must be whole: prove it by using it.
      await context.hosts.kill(primary);
      await service.untilTakenOver(standby, settleMs);
    },
  );
}

async function damageSpool(
  context: Context,
  host: Host,
  pair: string,
  damage: Damage,
): Promise<void> {
  const root = context.hosts.rootOf(host);
  const find = ["find", "/run/ftctl", "-path", `*${pair}*`, "-name", "epoch-*.blob"];
  // What an earlier agent left in the spool is nobody's.
  const armedAtMs = Date.now();
  const newest = async () => {
    const files = (await context.hosts.exec(host, find, 5_000)).stdout.split("\n").filter(Boolean);
    const numberOf = (file: string) => Number(/epoch-(\d+)\.blob$/.exec(file)?.[1]);
    return files.toSorted((a, b) => numberOf(b) - numberOf(a))[0];
  };
  await poll("an epoch held in the spool", settleMs, async () => {
    const file = await newest();
    if (!file) return undefined;
    await pause(500);
    // Under load an epoch is gone long before that, unless it is the one that is held; and that one is whole.
    if ((await newest()) !== file) return undefined;
    if (statSync(`${root}${file}`).mtimeMs < armedAtMs) return undefined;
    writeFileSync(`${root}${file}`, damage(readFileSync(`${root}${file}`)));
    return true;
  });
}

/** The standby's tmpfs has no room left; epochs are refused, output waits, and all is well when there is room. */
const standbyFull = scenarioUnderLoad(
  { name: "storage/standby-disk-full", quick: true, boundMs: 150_000 },
  async ({ service, primary, standby, client }, context) => {
    const remount = (size: string) =>
      context.hosts.exec(standby, ["mount", "-o", `remount,size=${size}`, "/run"]);
    const used = await context.hosts.exec(standby, ["df", "-k", "--output=used", "/run"]);
    const usedKib = Number(used.stdout.trim().split("\n").at(-1));
    expectThat(usedKib > 0, `df said ${used.stdout}`);
    const shrunk = await remount(`${usedKib + 64}k`);
    expectThat(shrunk.exitCode === 0, shrunk.stderr);
    try {
      await poll("skipped epochs", settleMs, async () => {
        const view = await context.ftctl.status(primary, service.name);
        return view.epochsSkipped > 0 || view.state !== "protected" ? true : undefined;
      });
      await new Promise((resolve) => setTimeout(resolve, 1_000));
    } finally {
      await remount("50%");
    }
    await client.makesProgress(50, settleMs);
    await protectedSomewhere(context, service.name, [primary, standby]);
  },
);

/** A pile of data, so that a takeover restores more than a toy. */
const bigMemory: Scenario = {
  name: "storage/redis-with-100-MiB",
  quick: false,
  boundMs: 180_000,
  run: async (context) => {
    await underLoad(context, {}, async ({ service, primary, standby, client }) => {
      // In slices: redis tells its other clients BUSY when a script runs for five seconds.
      const script =
        "for i = ARGV[1], ARGV[1] + 9999 do redis.call('SET', 'big:' .. i, string.rep('x', 200)) end return 'done'";
      for (let first = 0; first < 400_000; first += 10_000) {
        const fill = ["exec", service.name, "redis-cli", "EVAL", script, "0", String(first)];
        const filled = await service.docker(primary, fill, 60_000);
        expectThat(filled.stdout.trim() === "done", `${filled.stdout} ${filled.stderr}`);
      }
      await client.makesProgress(200, settleMs);
      await context.hosts.kill(primary);
      await service.untilTakenOver(standby, settleMs);
      const size = await service.docker(standby, ["exec", service.name, "redis-cli", "DBSIZE"]);
      expectThat(Number(size.stdout.trim()) >= 400_000, `DBSIZE ${size.stdout} on the standby`);
    });
    // The next scenario is not to carry this weight.
    context.pool.distrust();
  },
};

export const storageScenarios: Scenario[] = [
  ...Object.entries(damages).map(([name, damage]) => damaged(name, damage, name === "flipped-bit")),
  standbyFull,
  bigMemory,
];
