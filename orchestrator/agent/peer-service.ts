/**
 * What this agent answers to the other host's agent.
 *
 * Invariant P1: what a call asks for is held against the pair's generation when its turn has come, not when it arrives. A takeover
 * may be under way, and what the old primary wants to be torn down then is the service.
 */
import type { Readable } from "node:stream";
import type { z } from "zod";
import { FtError } from "../errors/error.js";
import type { Handlers, UploadHandlers } from "../links/methods.js";
import { Pair, type PairHost } from "../pair/pair.js";
import { mayNotTakeOver, policyAsWitness } from "../pair/plan.js";
import type { PairRecord } from "../pair/record.js";
import { buildHere } from "../pair/standby.js";
import { tearDown } from "../pair/standdown.js";
import { takeOver } from "../pair/takeover.js";
import type { CheckResult } from "./api-types.js";
import type { Pairs } from "./pairs.js";
import type { PairMethods, PeerUploads } from "./peer-methods.js";

export type HostFactsRequest = z.output<PairMethods["hostFacts"]["request"]>;

/** What the service needs besides the pairs. */
export interface PeerServiceParts {
  hostFacts(request: HostFactsRequest): Promise<Record<string, unknown>>;
  probeCriu(): Promise<CheckResult[]>;
  hasImage(imageId: string): Promise<boolean>;
  importImage(imageId: string, reference: string, body: Readable): Promise<void>;
}

export function peerHandlers(
  host: PairHost,
  pairs: Pairs,
  parts: PeerServiceParts,
): Handlers<PairMethods> {
  return {
    ping: async () => ({}),
    hostFacts: async (request) => ({ facts: await parts.hostFacts(request) }),
    probeCriu: async () => ({ results: await parts.probeCriu() }),
    hasImage: async ({ imageId }) => ({ present: await parts.hasImage(imageId) }),
    pairStatus: async ({ pair, generation }) => {
      const known = pairs.get(pair);
      if (known) noticeGeneration(known, generation);
      return describePair(known);
    },
    buildStandby: async ({ record }, { peer }) => {
      await buildStandby(host, pairs, { ...record, peer });
      return {};
    },
    takeOver: async ({ pair, generation, epoch, reason }) => {
      const known = pairs.get(pair);
      if (!known) throw unknownPair(pair);
      return known.exclusively(() => answerTakeOver(known, generation, epoch, reason));
    },
    pairStopped: async ({ pair, generation }) => {
      const known = pairs.get(pair);
      await known?.exclusively(() => noteStopped(known, generation));
      return {};
    },
    removePair: async ({ pair, generation }) => {
      const known = pairs.get(pair);
      if (known) await removeHere(pairs, known, generation);
      return {};
    },
  };
}

export function peerUploadHandlers(parts: PeerServiceParts): UploadHandlers<PeerUploads> {
  return {
    image: async ({ imageId, reference }, body) => {
      await parts.importImage(imageId, reference, body);
      return {};
    },
  };
}

function describePair(pair: Pair | undefined) {
  if (!pair) {
    return {
      known: false,
      role: "none" as const,
      state: "none",
      generation: 0,
      committedEpoch: 0,
      standbyReady: false,
      undecided: false,
      lan: "unknown" as const,
    };
  }
  const { record, state, store } = pair;
  return {
    known: true,
    role: record.role,
    state,
    generation: record.generation,
    committedEpoch: store?.epoch ?? pair.loop?.committed ?? 0,
    standbyReady:
      record.role === "standby" &&
      (state === "warm" || state === "awaitingOperator") &&
      store !== undefined &&
      pair.gate !== undefined,
    undecided: pair.undecided,
    lan: pair.sight().lan,
  };
}

/** The caller's generation is above ours: it took over while we were away. */
function noticeGeneration(pair: Pair, generation: number): void {
  if (generation <= pair.peerStatus.generation) return;
  pair.peerStatus = { ...pair.peerStatus, generation };
  pair.consider();
}

async function buildStandby(host: PairHost, pairs: Pairs, record: PairRecord): Promise<void> {
  const known = pairs.get(record.id);
  const nameTaken = pairs.all().find((p) => p.record.name === record.name && p !== known);
  if (nameTaken) {
    throw new FtError({
      code: "NAME_TAKEN",
      subject: `container ${record.name}`,
      message: `host ${host.name} has another pair of that name`,
      hint: "Rename one of the containers.",
    });
  }
  const pair = known ?? new Pair(host, record, "preparing");
  if (!known) pairs.add(pair);
  try {
    await pair.exclusively(async () => {
      if (known) refuseStale(known, record.generation);
      await buildHere(pair, record);
    });
  } catch (error) {
    if (!known) {
      await pair.exclusively(() => tearDown(pair));
      await host.records.remove(record.id);
      pairs.delete(record.id);
    }
    throw error;
  }
}

async function answerTakeOver(
  pair: Pair,
  generation: number,
  epoch: number,
  reason: "switchover" | "lan-lost" | "application-crashed" | "host-lost" | "operator",
): Promise<{ done: boolean; generation: number; why?: string }> {
  const refuse = (why: string) => ({ done: false, generation: pair.record.generation, why });
  const { record, store } = pair;
  if (record.role !== "standby" || pair.state !== "warm") return refuse(`it is ${pair.state}`);
  if (generation <= record.generation) return refuse("its generation is not below the new one");
  if ((store?.epoch ?? 0) < epoch) return refuse(`it has epoch ${store?.epoch ?? 0}, not ${epoch}`);
  const why = mayNotTakeOver(pair.sight(), { ...policyAsWitness, mayGoAlone: () => true });
  if (why) return refuse(why);
  try {
    await takeOver(pair, reason, generation);
    return { done: true, generation };
  } catch (error) {
    // Nothing left this host: the gate is still blocked. It is made harmless, then the primary may go on.
    await tearDown(pair);
    await pair.save({ role: "standby", phase: "steady", containerId: "" });
    pair.enter("preparing", "the takeover failed; waits to be built anew");
    return refuse(String((error as Error).message));
  }
}

async function noteStopped(pair: Pair, generation: number): Promise<void> {
  if (pair.record.role !== "standby" || generation < pair.record.generation) return;
  await pair.acceptance.stop();
  await pair.save({ phase: "stopped" });
  pair.enter("stopped", "the application ended on the primary");
}

async function removeHere(pairs: Pairs, pair: Pair, generation: number): Promise<void> {
  await pair.exclusively(async () => {
    refuseStale(pair, generation);
    await pair.acceptance.stop();
    await tearDown(pair);
    await pair.host.records.remove(pair.record.id);
    await pair.host.parts.forget(pair.record.id);
  });
  pair.event("unprotected", "info", "the pair was removed from this host");
  pairs.delete(pair.record.id);
}

/** A primary is torn down only for one of a higher generation; anything else only for none below its own. */
function refuseStale(pair: Pair, generation: number): void {
  const { role, generation: own, id } = pair.record;
  if (generation > own || (generation === own && role === "standby")) return;
  throw new FtError({
    code: "STALE_GENERATION",
    subject: `pair ${id}`,
    message: `host ${pair.host.name} is at generation ${own} of this pair as ${role}; the caller is at ${generation}`,
    hint: "The caller was replaced; it stands down by itself.",
  });
}

function unknownPair(id: string): FtError {
  return new FtError({
    code: "NOT_FOUND",
    subject: `pair ${id}`,
    message: "this host does not know the pair",
    exitCode: 3,
  });
}
