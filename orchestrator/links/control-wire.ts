/**
 * What control calls look like on the wire: gRPC, one gRPC method for each entry of the registry
 * (`/ftctl.v1.Control/<name>`), the messages being JSON in UTF-8. gRPC leaves the encoding of messages to
 * its users. There is no .proto file, because the zod schemas of the registry already are the contract, are
 * checked on both ends, and need no path that works both from the sources and from the build.
 *
 * A reply is {"ok": …} or {"error": FtError}; gRPC's own status codes are for failures of the transport.
 */
import { Metadata, type MethodDefinition } from "@grpc/grpc-js";
import { z } from "zod";
import { FtError, type FtErrorJson } from "../errors/error.js";
import { limits } from "../limits.js";
import { ftErrorSchema } from "./methods.js";

/** Raised when agents of before and after could misunderstand each other. */
export const CONTROL_PROTOCOL = 1;
export const SERVICE_PATH = "/ftctl.v1.Control";

export interface Speaker {
  version: string;
  protocol: number;
}

const identity = (bytes: Buffer): Buffer => bytes;

export function rpc(name: string, requestStream: boolean): MethodDefinition<Buffer, Buffer> {
  return {
    path: `${SERVICE_PATH}/${name}`,
    requestStream,
    responseStream: false,
    requestSerialize: identity,
    requestDeserialize: identity,
    responseSerialize: identity,
    responseDeserialize: identity,
    originalName: name,
  };
}

/** Uploads have a path of their own, so that a name may serve once as a method and once as an upload. */
export function uploadName(name: string): string {
  return `upload.${name}`;
}

export function speakerMetadata(speaker: Speaker): Metadata {
  const metadata = new Metadata();
  metadata.set("ft-version", speaker.version);
  metadata.set("ft-protocol", String(speaker.protocol));
  return metadata;
}

export function speakerOf(metadata: Metadata | undefined): Speaker | undefined {
  const [version] = metadata?.get("ft-version") ?? [];
  const [protocol] = metadata?.get("ft-protocol") ?? [];
  if (typeof version !== "string" || typeof protocol !== "string") return undefined;
  if (!/^\d{1,6}$/.test(protocol)) return undefined;
  return { version: version.slice(0, 64), protocol: Number(protocol) };
}

export function versionMismatch(host: string, ours: Speaker, theirs: Speaker | undefined): FtError {
  const other =
    theirs === undefined
      ? "an unknown version"
      : `version ${theirs.version} (protocol ${theirs.protocol})`;
  return new FtError({
    code: "VERSION_MISMATCH",
    subject: `host ${host}`,
    message: `it runs ${other}, this host runs version ${ours.version} (protocol ${ours.protocol})`,
    hint: "Install the same version of ftctl on both hosts; upgrade the standby first.",
    exitCode: 7,
  });
}

const replySchema = z.union([
  z.strictObject({ ok: z.unknown() }),
  z.strictObject({ error: ftErrorSchema }),
]);

export function encodeMessage(value: unknown, subject: string): Buffer {
  const bytes = Buffer.from(JSON.stringify(value), "utf8");
  if (bytes.length > limits.controlMessageBytesMax) {
    throw new FtError({
      code: "MESSAGE_TOO_LARGE",
      subject,
      message: `the message has ${bytes.length} bytes, the most is ${limits.controlMessageBytesMax}`,
    });
  }
  return bytes;
}

export function encodeReply(reply: { ok: unknown } | { error: FtErrorJson }, name: string): Buffer {
  return encodeMessage(reply, `reply to ${name}`);
}

/** Parses and validates; BAD_MESSAGE names the field that is wrong. */
export function decodeMessage<S extends z.ZodType>(
  bytes: Buffer,
  schema: S,
  subject: string,
): z.output<S> {
  let value: unknown;
  try {
    value = JSON.parse(bytes.toString("utf8"));
  } catch (cause) {
    throw badMessage(subject, "it is not JSON", cause);
  }
  return validate(value, schema, subject);
}

export function validate<S extends z.ZodType>(
  value: unknown,
  schema: S,
  subject: string,
): z.output<S> {
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data;
  const [issue] = parsed.error.issues;
  throw badMessage(subject, `${issue?.path.join(".") || "message"}: ${issue?.message}`);
}

/** The value, or throws the error that the other side sent. */
export function decodeReply<S extends z.ZodType>(
  bytes: Buffer,
  schema: S,
  subject: string,
): z.output<S> {
  const reply = decodeMessage(bytes, replySchema, subject);
  if ("error" in reply) throw FtError.fromJSON(reply.error);
  return validate(reply.ok, schema, subject);
}

function badMessage(subject: string, why: string, cause?: unknown): FtError {
  return new FtError({
    code: "BAD_MESSAGE",
    subject,
    message: `the message is not what was agreed: ${why}`,
    hint: "Check that both hosts run the same version of ftctl.",
    cause,
  });
}
