/** An agent that knows a few pairs and remembers what it was asked. */
import type { AgentService, FtEvent, PairView } from "../../agent/api-types.js";
import { ExitCode, FtError } from "../../errors/error.js";

export const REDIS: PairView = {
  id: "4f1c09aa72de",
  name: "redis",
  containerId: "b00b1e5deadbeef0",
  image: "redis:7",
  role: "primary",
  state: "protected",
  peer: "beta",
  host: "alpha",
  generation: 3,
  mode: "checkpoint",
  policy: "default",
  address: "10.0.0.5/24",
  protectedSince: "2026-01-01T00:00:00.000Z",
  committedEpoch: 4711,
  committedAgeMs: 31.4,
  epochsCommitted: 4711,
  epochsSkipped: 2,
  heldFrames: 3,
  heldBytes: 4200,
  heldOldestMs: 12.2,
  leaseFresh: true,
  pauseMs: { avg: 5.31, p50: 5.07, p99: 9.04, max: 12.4 },
  outputDelayMs: { avg: 21.2, p50: 19.6, p99: 38.9, max: 61 },
  peerState: "alive",
  takeover: {
    at: "2025-12-31T23:00:00.000Z",
    detectionMs: 92,
    restoreMs: 48.3,
    totalMs: 160,
    epoch: 17,
  },
};

export const WEB: PairView = {
  id: "9a0000000001",
  name: "web",
  containerId: "c0ffee",
  image: "nginx:1",
  role: "primary",
  state: "blocked",
  reason: "the standby is silent; output waits",
  peer: "beta",
  host: "alpha",
  generation: 1,
  mode: "checkpoint",
  policy: "web",
  address: "10.0.0.6/24",
  committedEpoch: 12,
  committedAgeMs: 65_000,
  epochsCommitted: 12,
  epochsSkipped: 0,
  heldFrames: 0,
  heldBytes: 0,
  leaseFresh: false,
  peerState: "silent",
};

export const EVENTS: FtEvent[] = [
  {
    seq: 1,
    at: "2026-01-01T00:00:00.000Z",
    host: "alpha",
    pair: REDIS.id,
    name: "redis",
    type: "protected",
    level: "info",
    message: "epoch 1 is committed",
    fields: { epoch: 1 },
  },
  {
    seq: 2,
    at: "2026-01-01T00:00:01.000Z",
    host: "alpha",
    pair: WEB.id,
    name: "web",
    type: "standby-lost",
    level: "warning",
    message: "output waits",
  },
];

export interface FakeAgent extends AgentService {
  /** `protect {"container":"redis"}`, in order. */
  calls: string[];
  pairs: PairView[];
  inspected: Record<string, unknown>;
}

export function fakeAgent(changes: Partial<AgentService> = {}): FakeAgent {
  const calls: string[] = [];
  const record = (verb: string, request: unknown) =>
    calls.push(`${verb} ${JSON.stringify(request)}`);
  const agent: FakeAgent = {
    calls,
    pairs: [REDIS],
    inspected: { ...REDIS },
    info: async () => ({
      version: "9.9.9",
      protocol: 1,
      host: "alpha",
      pid: 1,
      startedAt: "2026-01-01T00:00:00.000Z",
      peers: [{ host: "beta", state: "connected", version: "9.9.9" }],
      criuVersion: "4.2.1",
      dockerVersion: "20.10.24",
      kernel: "6.18.0",
    }),
    check: async (request) => {
      record("check", request);
      return [
        { name: "kernel", host: "alpha", status: "ok", reason: "6.18 has all that is needed" },
        {
          name: "io-uring",
          host: "alpha",
          status: request.container === "bad" ? "failed" : "ok",
          reason: request.container === "bad" ? "redis-server (71) holds descriptor 9" : "none",
          ...(request.container === "bad" ? { remedy: "Turn it off." } : {}),
        },
      ];
    },
    protect: async (request, progress) => {
      record("protect", request);
      progress({ step: "image", message: "image sent", done: 5_000_000, total: 9_000_000 });
      progress({ step: "checkpoint", message: "first checkpoint" });
      const view = { ...REDIS, name: request.container };
      agent.pairs = [...agent.pairs.filter(({ name }) => name !== view.name), view];
      return view;
    },
    unprotect: async (request) => {
      record("unprotect", request);
      return { name: request.pair };
    },
    switchover: async (request) => {
      record("switchover", request);
      return { ...REDIS, role: "standby", state: "warm" };
    },
    failover: async (request) => {
      record("failover", request);
      return { ...WEB, state: "unprotected" };
    },
    list: async () => agent.pairs,
    find: async (ref) => findIn(agent.pairs, ref),
    inspect: async (ref) => {
      findIn(agent.pairs, ref);
      return agent.inspected;
    },
    events: async function* (after, _pair, signal) {
      yield* EVENTS.filter(({ seq }) => seq > after);
      await new Promise((resolve) => signal.addEventListener("abort", resolve));
    },
    eventsKept: () => EVENTS,
    logs: async (_ref, lines) => ["agent: one", "gate: \u001b[2Jtwo"].slice(-lines),
    metrics: async () => "",
  };
  return Object.assign(agent, changes);
}

function findIn(pairs: PairView[], ref: string): PairView {
  const found = pairs.find(({ name, id }) => name === ref || id.startsWith(ref));
  if (found !== undefined) return found;
  throw new FtError({
    code: "NOT_FOUND",
    subject: `container ${ref}`,
    message: "no protected container of that name or id on this host",
    hint: "`ftctl ls` lists what is protected.",
    exitCode: ExitCode.notFound,
  });
}
