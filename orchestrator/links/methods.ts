/**
 * The typed registry of what agents can ask of each other. A method is a name, a schema of the request, a
 * schema of the reply and a time-out; from these both the server's handlers and the client's calls get their
 * types, and both ends validate what they send and what they receive.
 */
import type { Readable } from "node:stream";
import { z } from "zod";
import type { FtErrorJson } from "../errors/error.js";
import { hostNameSchema } from "./host-name.js";
import { peerSchema } from "./peers.js";

export interface MethodSpec {
  request: z.ZodType;
  reply: z.ZodType;
  timeoutMs: number;
}
/** One header, then a bounded stream of bytes, then one reply. */
export interface UploadSpec {
  header: z.ZodType;
  reply: z.ZodType;
  timeoutMs: number;
  bytesMax: number;
}
export type Methods = Record<string, MethodSpec>;
export type Uploads = Record<string, UploadSpec>;

/** Keeps the exact types of a registry; names become part of the path, so they are plain. */
export function defineMethods<const M extends Methods>(methods: M): M {
  checkNames(methods);
  return methods;
}

export function defineUploads<const U extends Uploads>(uploads: U): U {
  checkNames(uploads);
  return uploads;
}

function checkNames(registry: Record<string, unknown>): void {
  for (const name of Object.keys(registry)) {
    if (!/^[a-zA-Z][a-zA-Z0-9]*$/.test(name)) throw new Error(`bad method name: ${name}`);
  }
}

/** Of one call: who asks, and when to stop because nobody waits any more. */
export interface CallContext {
  peer: string;
  signal: AbortSignal;
}

/** What the server gets (schemas applied) and what it answers. */
export type Handlers<M extends Methods> = {
  [K in keyof M]: (
    request: z.output<M[K]["request"]>,
    context: CallContext,
  ) => Promise<z.input<M[K]["reply"]>>;
};
export type UploadHandlers<U extends Uploads> = {
  [K in keyof U]: (
    header: z.output<U[K]["header"]>,
    /** Fails if the sender does or the connection breaks; then nothing may be kept. */
    body: Readable,
    context: CallContext,
  ) => Promise<z.input<U[K]["reply"]>>;
};

export const ftErrorSchema: z.ZodType<FtErrorJson> = z.object({
  code: z.string().max(64),
  subject: z.string(),
  message: z.string(),
  hint: z.string().optional(),
  log: z.string().optional(),
  quoted: z.array(z.string()).optional(),
  exitCode: z.union([
    z.literal(0),
    z.literal(1),
    z.literal(2),
    z.literal(3),
    z.literal(4),
    z.literal(5),
    z.literal(6),
    z.literal(7),
    z.literal(124),
  ]),
}) as z.ZodType<FtErrorJson>;

/** Always served: who are you, what do you speak, whom do you know. */
export const helloRequestSchema = z.strictObject({ host: hostNameSchema });
export const helloReplySchema = z.object({
  host: hostNameSchema,
  version: z.string().max(64),
  protocol: z.int(),
  peers: z.array(peerSchema).max(64),
});
export type HelloReply = z.infer<typeof helloReplySchema>;
