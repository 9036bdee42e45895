import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { CRASHES_IN_A_ROW_MAX, type PairSight, type PairStep, planPair } from "./plan.js";

const base: PairSight = {
  role: "primary",
  state: "protected",
  generation: 4,
  policy: {
    failover: "automatic",
    onStandbyLoss: "block",
    reprotect: "auto",
    onApplicationExit: "failover",
    agentGraceMs: 3000,
    lanGraceMs: 500,
  },
  peer: {
    beat: "alive",
    agent: "answers",
    agentSilentForMs: undefined,
    generation: 4,
    role: "standby",
    standbyReady: true,
    restorableEpoch: 7,
    undecided: false,
    unknownForMs: undefined,
    lan: "up",
  },
  application: { state: "running", crashesInARow: 0 },
  gate: "up",
  lan: "up",
  lanDownForMs: undefined,
  lanBackForMs: undefined,
  restorableEpoch: 0,
  store: "none",
  epochs: "running",
  reprotectPausedForMs: undefined,
  order: undefined,
};
type Change = Partial<Omit<PairSight, "peer" | "policy">> & {
  peer?: Partial<PairSight["peer"]>;
  policy?: Partial<PairSight["policy"]>;
};
const sight = (change: Change): PairSight => ({
  ...base,
  ...change,
  peer: { ...base.peer, ...change.peer },
  policy: { ...base.policy, ...change.policy },
});
const standby = (change: Change): PairSight =>
  sight({
    role: "standby",
    state: "warm",
    restorableEpoch: 9,
    store: "open",
    epochs: "off",
    application: { state: "none", crashesInARow: 0 },
    ...change,
    peer: { role: "primary", standbyReady: false, ...change.peer },
  });
const kinds = (steps: PairStep[]) => steps.map((step) => step.kind);

describe("a primary", () => {
  it("has nothing to do while all is well", () => {
    expect(planPair(base)).toEqual([]);
  });
  it("blocks when its standby falls silent, and never goes on alone under automatic failover", () => {
    const steps = planPair(sight({ peer: { beat: "silent", agent: "silent" } }));
    expect(kinds(steps)).toEqual(["stopEpochs", "block"]);
  });
  it("goes on alone when failover is manual and the policy says so", () => {
    const policy = { failover: "manual", onStandbyLoss: "run-unprotected" } as const;
    const steps = planPair(sight({ peer: { beat: "silent" }, policy }));
    expect(kinds(steps)).toEqual(["stopEpochs", "runAlone"]);
  });
  it("stands down for a higher generation, whatever else is going on", () => {
    for (const state of ["protected", "blocked", "syncing", "unprotected"] as const) {
      const steps = planPair(sight({ state, gate: "down", peer: { generation: 5 } }));
      expect(steps).toEqual([{ kind: "standDown", generation: 5 }]);
    }
  });
  it("restarts a dead gate before anything else", () => {
    expect(kinds(planPair(sight({ gate: "down" })))).toEqual(["restartGate"]);
  });
  it("hands over when its LAN link stays down and the standby's is up", () => {
    expect(planPair(sight({ lan: "down", lanDownForMs: 100 }))).toEqual([]);
    expect(planPair(sight({ lan: "down", lanDownForMs: 500, peer: { lan: "down" } }))).toEqual([]);
    expect(kinds(planPair(sight({ lan: "down", lanDownForMs: 500 })))).toEqual(["handOver"]);
  });
  it("hands a crashed application over, but not one that crashes again and again", () => {
    const crashed = (crashesInARow: number) => ({ state: "crashed" as const, crashesInARow });
    expect(kinds(planPair(sight({ application: crashed(1) })))).toEqual(["handOver"]);
    const often = planPair(sight({ application: crashed(CRASHES_IN_A_ROW_MAX) }));
    expect(kinds(often)).toEqual(["endProtection"]);
    const alone = sight({
      state: "unprotected",
      application: crashed(1),
      peer: { standbyReady: false },
    });
    expect(kinds(planPair(alone))).toEqual(["restartApplication"]);
  });
  it("rebuilds its standby when the peer answers but has none", () => {
    const peer = { standbyReady: false, role: "none" } as const;
    expect(kinds(planPair(sight({ state: "blocked", epochs: "off", peer })))).toEqual([
      "buildStandby",
    ]);
    expect(
      planPair(sight({ state: "blocked", epochs: "off", peer, reprotectPausedForMs: 10 })),
    ).toEqual([]);
  });
});

describe("a primary whose host came back", () => {
  const back = { state: "starting", application: { state: "none", crashesInARow: 0 } } as const;
  it("waits for the peer's word", () => {
    expect(planPair(sight({ ...back, peer: { agent: "silent", standbyReady: false } }))).toEqual(
      [],
    );
  });
  it("lets the standby go on that still has the memory", () => {
    expect(planPair(sight(back))).toEqual([{ kind: "handOver", reason: "host-lost" }]);
  });
  it("starts from its files when there is nothing to go on from", () => {
    const peer = { standbyReady: false, restorableEpoch: 0, role: "none" } as const;
    expect(kinds(planPair(sight({ ...back, peer })))).toEqual(["coldStart"]);
  });
  it("waits for a standby that does not know yet what it holds", () => {
    const peer = { standbyReady: false, restorableEpoch: 0, role: "standby" } as const;
    expect(planPair(sight({ ...back, peer: { ...peer, undecided: true } }))).toEqual([]);
    expect(kinds(planPair(sight({ ...back, peer })))).toEqual(["coldStart"]);
  });
  it("starts from its own files when it may have run alone", () => {
    const policy = { failover: "manual" } as const;
    expect(kinds(planPair(sight({ ...back, policy })))).toEqual(["coldStart"]);
  });
});

describe("a standby", () => {
  const dead = { beat: "silent", agent: "silent" } as const;
  it("asks the peer's agent before it believes a silent gate", () => {
    expect(kinds(planPair(standby({ peer: { beat: "silent", agent: "unknown" } })))).toEqual([
      "askPeer",
    ]);
    expect(planPair(standby({ peer: { beat: "silent", agent: "answers" } }))).toEqual([]);
  });
  it("takes over from a lost host", () => {
    expect(planPair(standby({ peer: dead }))).toEqual([{ kind: "takeOver", reason: "host-lost" }]);
  });
  it("gives a dead agent its grace while the gate beats", () => {
    expect(planPair(standby({ peer: { agentSilentForMs: 2999 } }))).toEqual([]);
    expect(planPair(standby({ peer: { agentSilentForMs: 3000 } }))).toEqual([
      { kind: "takeOver", reason: "agent-lost" },
    ]);
  });
  it("does not take over without a whole checkpoint, nor without a way to the clients", () => {
    expect(planPair(standby({ peer: dead, restorableEpoch: 0 }))).toEqual([]);
    expect(planPair(standby({ peer: dead, lan: "down" }))).toEqual([]);
    // An isolated host whose links come back one after the other must not be the faster one.
    expect(planPair(standby({ peer: dead, lanBackForMs: 499 }))).toEqual([]);
    expect(kinds(planPair(standby({ peer: dead, lanBackForMs: 500 })))).toEqual(["takeOver"]);
  });
  it("goes away when its primary does not know it, but never with a checkpoint", () => {
    const empty = { restorableEpoch: 0, peer: { unknownForMs: 5_000 } };
    expect(kinds(planPair(standby(empty)))).toEqual(["forget"]);
    expect(planPair(standby({ ...empty, peer: { unknownForMs: 4_999 } }))).toEqual([]);
    expect(planPair(standby({ ...empty, restorableEpoch: 1 }))).toEqual([]);
  });
  it("opens its store again when that died, before anything else", () => {
    const steps = planPair(standby({ peer: dead, store: "none", restorableEpoch: 0 }));
    expect(kinds(steps)).toEqual(["openStore"]);
  });
  it("waits for the operator under manual failover", () => {
    const manual = { policy: { failover: "manual" as const }, peer: dead };
    expect(planPair(standby(manual))).toEqual([
      expect.objectContaining({ kind: "enter", state: "awaitingOperator" }),
    ]);
    expect(
      kinds(planPair(standby({ ...manual, state: "awaitingOperator", order: "failover" }))),
    ).toEqual(["takeOver"]);
  });
});

describe("both hosts together (property)", () => {
  it("P2: with the link cut, at most one side plans to go on alone", () => {
    const policies = fc.record({
      failover: fc.constantFrom("automatic" as const, "manual" as const),
      onStandbyLoss: fc.constantFrom("block" as const, "run-unprotected" as const),
    });
    const lan = fc.constantFrom("up" as const, "down" as const);
    fc.assert(
      fc.property(policies, lan, lan, (policy, lanA, lanB) => {
        fc.pre(!(policy.failover === "automatic" && policy.onStandbyLoss === "run-unprotected"));
        const peer = { beat: "silent", agent: "silent" } as const;
        const a = planPair(sight({ policy, peer, lan: lanA }));
        const b = planPair(standby({ policy, peer, lan: lanB }));
        const alone = [...a, ...b].filter((s) => s.kind === "runAlone" || s.kind === "takeOver");
        expect(alone.length).toBeLessThanOrEqual(1);
      }),
    );
  });
});
