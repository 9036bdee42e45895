/** A pair as the agent's API shows it. */
import type { LogView, PairView } from "../agent/api-types.js";
import type { Pair } from "./pair.js";
import type { GateFacts } from "./ports.js";

export async function viewPair(pair: Pair): Promise<PairView> {
  const facts = await pair.gate?.facts().catch(() => undefined);
  const { record, epochs, host } = pair;
  const committedAgeMs =
    epochs.lastAtMs === undefined ? undefined : host.clock.nowMs() - epochs.lastAtMs;
  return {
    id: record.id,
    name: record.name,
    containerId: record.containerId,
    image: record.image,
    role: record.role,
    state: pair.state,
    peer: record.peer,
    host: host.name,
    generation: record.generation,
    mode: pair.policy.mode,
    policy: record.policyName,
    address: record.network.address,
    committedEpoch: pair.loop?.committed || pair.store?.epoch || record.lastEpoch,
    peerState: pair.peerBeat,
    ...viewGate(facts, pair.loop ? pair.uncoveredWhy : ""),
    ...given({
      ...epochs.view(),
      reason: pair.reason,
      protectedSince: pair.protectedSince,
      committedAgeMs,
      takeover: pair.takeover,
      lastError: pair.lastError?.toJSON(),
    }),
  };
}

function viewGate(facts: GateFacts | undefined, uncoveredWhy: string) {
  return {
    heldFrames: facts?.heldFrames ?? 0,
    heldBytes: facts?.heldBytes ?? 0,
    leaseFresh: facts?.leaseFresh ?? false,
    ...given({
      heldOldestMs: facts?.heldOldestMs,
      outputDelayMs: facts?.outputDelayMs,
      log: logView(facts, uncoveredWhy),
    }),
  };
}

type Given<T> = { [K in keyof T as undefined extends T[K] ? never : K]: T[K] } & {
  [K in keyof T as undefined extends T[K] ? K : never]?: Exclude<T[K], undefined>;
};

/** Without the fields that are undefined: what is not known is left out of the JSON. */
function given<T extends object>(fields: T): Given<T> {
  const known = Object.entries(fields).filter(([, value]) => value !== undefined);
  return Object.fromEntries(known) as Given<T>;
}

/** Also where there is no stream, if one is missed. */
function logView(facts: GateFacts | undefined, uncoveredWhy: string): LogView | undefined {
  const covers = facts?.mode === "log";
  if (!facts?.log && uncoveredWhy === "") return undefined;
  const none = { up: false, bytes: 0, unackedBytes: 0, waits: 0 };
  const why = covers || uncoveredWhy === "" ? {} : { why: uncoveredWhy };
  return { covers, ...why, ...(facts?.log ?? none) };
}
