/**
 * The join protocol: over TLS 1.3, one line of JSON each way. The applicant checks the authority's
 * fingerprint, which the token carries, before it sends the token's secret.
 */
import type { TLSSocket } from "node:tls";
import { z } from "zod";
import { FtError } from "../errors/error.js";
import { limits } from "../limits.js";
import { ftErrorSchema } from "./methods.js";
import { peerSchema } from "./peers.js";

export const JOIN_PROTOCOL = 1;

export const joinRequestSchema = z.strictObject({
  magic: z.literal("FTJOIN01"),
  protocol: z.int(),
  version: z.string().max(64),
  tokenId: z.string().max(64),
  secret: z.string().max(128),
  /** How the others will reach the new host. */
  peer: peerSchema,
  certificateRequest: z.string().max(8_192),
});
export type JoinRequest = z.infer<typeof joinRequestSchema>;

export const joinReplySchema = z.union([
  z.strictObject({
    ok: z.strictObject({
      certificate: z.string().max(8_192),
      authorityCertificate: z.string().max(8_192),
      /** The authority's host first, then all that it knows. */
      peers: z.array(peerSchema).min(1).max(64),
    }),
  }),
  z.strictObject({ error: ftErrorSchema }),
]);
export type JoinReply = z.infer<typeof joinReplySchema>;

/** Reads one line of bounded length in bounded time, and validates it. */
export async function readMessage<S extends z.ZodType>(
  socket: TLSSocket,
  schema: S,
): Promise<z.output<S>> {
  const line = await readLine(socket);
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch (cause) {
    throw badMessage("it is not JSON", cause);
  }
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data;
  const [issue] = parsed.error.issues;
  throw badMessage(`${issue?.path.join(".") || "message"}: ${issue?.message}`);
}

export function writeMessage(socket: TLSSocket, message: unknown): void {
  socket.write(`${JSON.stringify(message)}\n`);
}

function readLine(socket: TLSSocket): Promise<string> {
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = [];
    let bytes = 0;
    const finish = (settle: () => void) => {
      clearTimeout(timer);
      socket.off("data", onData).off("end", onEnd).off("close", onEnd).off("error", onError);
      settle();
    };
    const onData = (chunk: Buffer) => {
      chunks.push(chunk);
      bytes += chunk.length;
      const whole = chunk.includes(0x0a);
      if (bytes > limits.joinMessageBytesMax) finish(() => reject(badMessage("it is too long")));
      else if (whole) finish(() => resolve(firstLine(chunks)));
    };
    const onEnd = () =>
      finish(() => reject(badMessage("the connection ended before it was whole")));
    const onError = (error: Error) => finish(() => reject(error));
    const late = () => reject(badMessage(`it was not whole in ${limits.joinTimeoutMs} ms`));
    const timer = setTimeout(() => finish(late), limits.joinTimeoutMs);
    socket.on("data", onData).on("end", onEnd).on("close", onEnd).on("error", onError);
  });
}

function firstLine(chunks: Buffer[]): string {
  const text = Buffer.concat(chunks).toString("utf8");
  return text.slice(0, text.indexOf("\n"));
}

function badMessage(why: string, cause?: unknown): FtError {
  return new FtError({
    code: "BAD_MESSAGE",
    subject: "join",
    message: `the other side's message is not what was agreed: ${why}`,
    cause,
  });
}
