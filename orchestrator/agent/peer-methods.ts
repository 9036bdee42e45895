/** What agents ask of each other about pairs: the registry that the control link serves and calls. */
import { z } from "zod";
import { limits } from "../limits.js";
import { defineMethods, defineUploads } from "../links/methods.js";
import { renewalMethods } from "../links/renewal.js";
import { pairRecordSchema } from "../pair/record.js";

const pairId = z.string().regex(/^[0-9a-f]{12}$/);

export const checkResultSchema = z.strictObject({
  name: z.string(),
  host: z.string(),
  status: z.enum(["ok", "warning", "failed"]),
  reason: z.string(),
  remedy: z.string().optional(),
});

export const pairMethods = defineMethods({
  /** Is the agent there? Short time-outs are given by the caller. */
  ping: { request: z.strictObject({}), reply: z.strictObject({}), timeoutMs: 1_000 },

  /** The standby's half of `check`: facts, which the caller judges. */
  hostFacts: {
    request: z.strictObject({
      imageId: z.string(),
      containerName: z.string(),
      uplink: z.string().optional(),
      address: z.string().optional(),
      bindSources: z.array(z.string()).max(256),
      probeAddress: z.boolean(),
      role: z.enum(["primary", "standby"]),
    }),
    reply: z.strictObject({ facts: z.record(z.string(), z.unknown()) }),
    timeoutMs: limits.controlSlowCallTimeoutMs,
  },

  /** Dumps and restores a probe process with the callee's kernel and CRIU. */
  probeCriu: {
    request: z.strictObject({}),
    reply: z.strictObject({ results: z.array(checkResultSchema) }),
    timeoutMs: limits.controlSlowCallTimeoutMs,
  },

  hasImage: {
    request: z.strictObject({ imageId: z.string() }),
    reply: z.strictObject({ present: z.boolean() }),
    timeoutMs: limits.controlCallTimeoutMs,
  },

  /** How does the callee see this pair? The caller says how it sees it, so that a higher generation is learnt by both. */
  pairStatus: {
    request: z.strictObject({ pair: pairId, role: z.string(), generation: z.int() }),
    reply: z.strictObject({
      known: z.boolean(),
      role: z.enum(["primary", "standby", "none"]),
      state: z.string(),
      generation: z.int(),
      committedEpoch: z.int(),
      standbyReady: z.boolean(),
      undecided: z.boolean(),
      lan: z.enum(["up", "down", "unknown"]),
    }),
    timeoutMs: 2_000,
  },

  /** Make (or make anew) the warm standby of this pair. */
  buildStandby: {
    request: z.strictObject({ record: pairRecordSchema }),
    reply: z.strictObject({}),
    timeoutMs: limits.controlSlowCallTimeoutMs,
  },

  /** The primary, its gate closed, gives the service away. `done: false` means that nothing was taken over. */
  takeOver: {
    request: z.strictObject({
      pair: pairId,
      generation: z.int(),
      epoch: z.int(),
      reason: z.enum(["switchover", "lan-lost", "application-crashed", "host-lost", "operator"]),
    }),
    reply: z.strictObject({
      done: z.boolean(),
      generation: z.int(),
      why: z.string().optional(),
    }),
    timeoutMs: limits.restoreTimeoutMs,
  },

  /** The application ended by itself: do not take over for it. */
  pairStopped: {
    request: z.strictObject({ pair: pairId, generation: z.int() }),
    reply: z.strictObject({}),
    timeoutMs: limits.controlCallTimeoutMs,
  },

  /** `unprotect`: forget the pair and remove all that is its own on this host. */
  removePair: {
    request: z.strictObject({ pair: pairId, generation: z.int() }),
    reply: z.strictObject({}),
    timeoutMs: limits.controlSlowCallTimeoutMs,
  },
});
/** All that is served on the control link. */
export const peerMethods = { ...pairMethods, ...renewalMethods };
export type PairMethods = typeof pairMethods;
export type PeerMethods = typeof peerMethods;

export const peerUploads = defineUploads({
  image: {
    header: z.strictObject({ imageId: z.string(), reference: z.string() }),
    reply: z.strictObject({}),
    timeoutMs: limits.imageTransferTimeoutMs,
    bytesMax: limits.imageBytesMax,
  },
});
export type PeerUploads = typeof peerUploads;
