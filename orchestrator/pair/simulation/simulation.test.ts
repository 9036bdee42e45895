import { describe, expect, it } from "vitest";
import type { Pair } from "../pair.js";
import type { PairRecord } from "../record.js";
import { SimHost, World } from "./world.js";

const record: PairRecord = {
  id: "0123456789ab",
  name: "counter",
  role: "primary",
  generation: 1,
  peer: "beta",
  lastEpoch: 0,
  policyName: "simulation",
  policy: {
    failover: "automatic",
    onStandbyLoss: "block",
    reprotect: "auto",
    onApplicationExit: "failover",
    detection: { heartbeatMs: 5, missLimit: 3, leaseMs: 10, agentGraceMs: 200, lanGraceMs: 100 },
    epoch: { intervalMs: 4, idleIntervalMs: 50, failuresMax: 5, freezeTimeoutMs: 100 },
  },
  image: "counter",
  imageId: "sha256:0",
  containerSpec: {},
  plainSpec: {},
  containerId: "",
  originalId: "",
  network: { address: "10.0.0.5/24", uplink: "br0", mac: "02:00:00:00:00:05", mtu: 1500 },
  beatKey: "00".repeat(16),
  beatPort: 7410,
  phase: "steady",
  createdAt: "2026-01-01T00:00:00Z",
};

async function until(what: string, done: () => boolean): Promise<void> {
  const deadline = performance.now() + 4_000;
  while (!done()) {
    if (performance.now() > deadline) throw new Error(`not in time: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
}

async function protectedWorld(): Promise<{
  world: World;
  alpha: SimHost;
  beta: SimHost;
  pair: Pair;
}> {
  const world = new World();
  const alpha = new SimHost(world, "alpha");
  const beta = new SimHost(world, "beta");
  beta.pairs.start();
  const pair = await alpha.begin(record);
  await until("protected", () => pair.state === "protected");
  return { world, alpha, beta, pair };
}

function end(world: World): void {
  for (const host of world.hosts.values()) host.kill();
}

describe("two hosts", () => {
  it("go on at the standby when the primary's host dies, and take nothing back", async () => {
    const { world, alpha, beta } = await protectedWorld();
    const before = world.highestReleased;
    alpha.kill();
    await until("takeover", () => beta.pairs.all()[0]?.state === "unprotected");
    await until("more output", () => world.highestReleased > before + 5);
    expect(world.violations).toEqual([]);
    expect(beta.pairs.all()[0]?.record.generation).toBe(2);
    end(world);
  });

  it("keep one voice through a cut link, and protect each other again when it mends", async () => {
    const { world, alpha, beta } = await protectedWorld();
    world.linkUp = false;
    await until("takeover", () => beta.pairs.all()[0]?.record.role === "primary");
    await until("blocked", () => alpha.pairs.all()[0]?.state === "blocked");
    world.linkUp = true;
    await until("stood down", () => alpha.pairs.all()[0]?.record.role === "standby");
    await until("protected again", () => beta.pairs.all()[0]?.state === "protected");
    expect(world.violations).toEqual([]);
    end(world);
  });

  it("hand over a crashed application without losing released output", async () => {
    const { world, alpha, beta } = await protectedWorld();
    alpha.crashApplication();
    await until("protected on beta", () => beta.pairs.all()[0]?.state === "protected");
    expect(world.violations).toEqual([]);
    expect(alpha.pairs.all()[0]?.record.role).toBe("standby");
    end(world);
  });

  it("replace a gate that dies, and one that dies before anyone could use it", async () => {
    const { world, alpha, beta } = await protectedWorld();
    alpha.stillbornGates = 2;
    const before = world.highestReleased;
    alpha.crashGate();
    await until("used up", () => alpha.stillbornGates === 0);
    await until("more output", () => world.highestReleased > before + 5);
    const home = () => [alpha, beta].find(({ pairs }) => pairs.all()[0]?.state === "protected");
    await until("protected again", () => home() !== undefined);
    expect(world.violations).toEqual([]);
    end(world);
  });

  it("go on with the epochs after the agent and the gate died together", async () => {
    const { world, alpha, beta } = await protectedWorld();
    const committed = () => beta.pairs.all()[0]?.store?.epoch ?? 0;
    await until("some epochs", () => committed() > 40);
    // One is under way: it is committed after the new agent has asked how far the standby is.
    let underWay = false;
    beta.commitMs = () => {
      underWay = true;
      return 20;
    };
    await until("a commit under way", () => underWay);
    await alpha.crashAgentAndGate();
    const before = committed();
    await until("protected again", () => alpha.pairs.all()[0]?.state === "protected");
    await until("the next epoch", () => committed() > before + 1);
    // Numbers that the standby has seen would be refused, one by one, while output waits.
    expect(alpha.pairs.all()[0]?.epochs.skipped).toBe(0);
    expect(world.violations).toEqual([]);
    end(world);
  });

  it("protect again a service that ended and whose container somebody starts again", async () => {
    const { world, alpha, beta, pair } = await protectedWorld();
    alpha.endApplication();
    await until("stopped", () => pair.state === "stopped");
    await until("standby told", () => beta.pairs.all()[0]?.state === "stopped");
    await new Promise((resolve) => setTimeout(resolve, 50));
    expect(pair.state).toBe("stopped");
    alpha.startedByHand = true;
    await until("protected again", () => pair.state === "protected");
    end(world);
  });

  it.each(["buildStandby", "removePair", "pairStopped"] as const)(
    "leave a takeover alone when the old primary comes back in it and calls %s",
    async (method) => {
      const { world, alpha, beta, pair } = await protectedWorld();
      const { record } = pair;
      beta.restoreMs = 100;
      alpha.kill();
      const standby = beta.pairs.all()[0]!;
      await until("taking over", () => standby.state === "takingOver");
      const late = { pair: record.id, generation: record.generation, record };
      const from = { peer: "alpha", signal: new AbortController().signal };
      // Said in time, and heard when the takeover is over.
      const answer = await beta
        .handlers()
        [method](late, from)
        .then(
          () => "done",
          (error: unknown) => (error as { code?: string }).code,
        );
      expect(answer).toBe(method === "pairStopped" ? "done" : "STALE_GENERATION");
      expect(standby).toMatchObject({
        state: "unprotected",
        record: { role: "primary", generation: 2 },
      });
      const before = world.highestReleased;
      await until("more output", () => world.highestReleased > before + 5);
      expect(world.violations).toEqual([]);
      end(world);
    },
  );

  it("swap roles on order, many times, under load", async () => {
    const { world } = await protectedWorld();
    for (let round = 0; round < 6; round += 1) {
      const primary = [...world.hosts.values()].find(
        (host) => host.pairs.all()[0]?.record.role === "primary",
      )!;
      const pair = primary.pairs.all()[0]!;
      pair.order = "switchover";
      pair.consider();
      const other = world.other(primary.name);
      await until(`round ${round}`, () => other.pairs.all()[0]?.state === "protected");
    }
    expect(world.violations).toEqual([]);
    end(world);
  });

  it("keep the guarantee through random cuts, crashes, slow restores and switchovers", async () => {
    const seed = Number(process.env.SEED ?? Math.floor(Math.random() * 1e9));
    const random = mulberry32(seed);
    const { world } = await protectedWorld();
    const before = world.releases;
    const hosts = [...world.hosts.values()];
    const primary = () => hosts.find((host) => host.pairs.all()[0]?.record.role === "primary");
    for (let step = 0; step < 25; step += 1) {
      await new Promise((resolve) => setTimeout(resolve, random() * 60));
      for (const host of hosts) host.restoreMs = random() < 0.5 ? 0 : random() * 120;
      const dice = random();
      const pair = primary()?.pairs.all()[0];
      if (dice < 0.4) world.linkUp = !world.linkUp;
      else if (dice < 0.5) primary()?.crashApplication();
      else if (dice < 0.65) await hosts[random() < 0.7 ? 0 : 1]!.crashAgentAndGate();
      else if (pair) {
        pair.order = "switchover";
        pair.consider();
      }
    }
    world.linkUp = true;
    expect({ seed, violations: world.violations }).toEqual({ seed, violations: [] });
    // A service whose agent found it crashed too often is stopped: from there on nothing leaves.
    expect(world.releases).toBeGreaterThan(before);
    end(world);
  });
});

/** A small seeded generator (Mulberry32, public domain by Tommy Ettinger). */
function mulberry32(seed: number): () => number {
  let a = seed >>> 0;
  return () => {
    a = (a + 0x6d2b79f5) >>> 0;
    let t = a;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}
