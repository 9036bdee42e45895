/**
 * Frames of the checkpoint stream. Each is a header of 64 bytes, little endian, and `length` bytes of body:
 *
 *    0  magic "FTSTRM01"     12 bytes of pair id at 12    40  base epoch      u64
 *    8  version        u16   24  generation      u64      48  length of body  u64
 *   10  type           u8    32  epoch           u64      56  zero            u32
 *   11  zero           u8                                 60  CRC-32C of bytes 0..59
 *
 * The body of an epoch frame is the epoch blob, checked by the checkpoint store and only counted here. The
 * body of a reply is JSON of at most REPLY_BYTES_MAX bytes. The other types have none.
 */
import { z } from "zod";
import { FtError } from "../errors/error.js";
import { crc32c } from "./crc32c.js";

export const FRAME_HEADER_BYTES = 64;
export const STREAM_VERSION = 1;
export const REPLY_BYTES_MAX = 8_192;
const REPLY_DETAIL_CHARACTERS_MAX = 1_000;
const MAGIC = Buffer.from("FTSTRM01", "latin1");
const PAIR_PATTERN = /^[0-9a-f]{12}$/;

export const FrameType = { epoch: 1, reply: 2, ping: 3, pong: 4 } as const;
export type FrameType = (typeof FrameType)[keyof typeof FrameType];

export interface FrameHeader {
  type: FrameType;
  pair: string;
  generation: number;
  epoch: number;
  /** The epoch this one is a delta to; 0: complete in itself. */
  base: number;
  length: number;
}

/** What the standby made of an epoch. */
export type EpochReply =
  | { outcome: "committed"; commitMs: number }
  | { outcome: "refused"; code: string; errno: number; detail: string }
  /** An earlier epoch of the pair is still being committed: send again. */
  | { outcome: "busy" };

const replySchema: z.ZodType<EpochReply> = z.discriminatedUnion("outcome", [
  z.strictObject({ outcome: z.literal("committed"), commitMs: z.number().min(0) }),
  z.strictObject({
    outcome: z.literal("refused"),
    code: z.string().max(64),
    errno: z.int(),
    detail: z.string(),
  }),
  z.strictObject({ outcome: z.literal("busy") }),
]);

export function encodeFrameHeader(header: FrameHeader): Buffer {
  const bytes = Buffer.alloc(FRAME_HEADER_BYTES);
  MAGIC.copy(bytes, 0);
  bytes.writeUInt16LE(STREAM_VERSION, 8);
  bytes.writeUInt8(header.type, 10);
  if (!PAIR_PATTERN.test(header.pair)) throw new Error(`bad pair id: ${header.pair}`);
  bytes.write(header.pair, 12, "latin1");
  bytes.writeBigUInt64LE(BigInt(header.generation), 24);
  bytes.writeBigUInt64LE(BigInt(header.epoch), 32);
  bytes.writeBigUInt64LE(BigInt(header.base), 40);
  bytes.writeBigUInt64LE(BigInt(header.length), 48);
  bytes.writeUInt32LE(crc32c(bytes.subarray(0, 60)), 60);
  return bytes;
}

/** Takes exactly FRAME_HEADER_BYTES; throws STREAM_CORRUPT, or VERSION_MISMATCH for a later format. */
export function decodeFrameHeader(bytes: Buffer): FrameHeader {
  if (bytes.length !== FRAME_HEADER_BYTES) throw corrupt("the header is truncated");
  if (!bytes.subarray(0, 8).equals(MAGIC)) throw corrupt("it does not begin with its magic");
  if (bytes.readUInt32LE(60) !== crc32c(bytes.subarray(0, 60))) {
    throw corrupt("the checksum of the header is wrong");
  }
  const version = bytes.readUInt16LE(8);
  if (version !== STREAM_VERSION) throw otherVersion(version);
  if (bytes.readUInt8(11) !== 0 || bytes.readUInt32LE(56) !== 0) {
    throw corrupt("a reserved field is not zero");
  }
  const pair = bytes.toString("latin1", 12, 24);
  if (!PAIR_PATTERN.test(pair)) throw corrupt("the pair id is not 12 hexadecimal digits");
  const header: FrameHeader = {
    type: frameType(bytes.readUInt8(10)),
    pair,
    generation: safeInteger(bytes, 24),
    epoch: safeInteger(bytes, 32),
    base: safeInteger(bytes, 40),
    length: safeInteger(bytes, 48),
  };
  checkLength(header);
  return header;
}

export function encodeReply(request: FrameHeader, reply: EpochReply): Buffer {
  const bounded =
    reply.outcome === "refused"
      ? {
          ...reply,
          code: reply.code.slice(0, 64),
          // JSON makes up to six bytes of a character.
          detail: reply.detail.slice(0, REPLY_DETAIL_CHARACTERS_MAX),
        }
      : reply;
  const body = Buffer.from(JSON.stringify(bounded), "utf8");
  const header = encodeFrameHeader({ ...request, type: FrameType.reply, length: body.length });
  return Buffer.concat([header, body]);
}

export function decodeReply(body: Buffer): EpochReply {
  try {
    return replySchema.parse(JSON.parse(body.toString("utf8")));
  } catch (cause) {
    throw corrupt("the reply cannot be read", cause);
  }
}

export function isPairId(text: string): boolean {
  return PAIR_PATTERN.test(text);
}

export function corrupt(why: string, cause?: unknown): FtError {
  return new FtError({
    code: "STREAM_CORRUPT",
    subject: "checkpoint stream",
    message: `the frame is refused: ${why}`,
    cause,
  });
}

function otherVersion(version: number): FtError {
  return new FtError({
    code: "VERSION_MISMATCH",
    subject: "checkpoint stream",
    message: `the peer sends frames of version ${version}, this host reads version ${STREAM_VERSION}`,
    hint: "Install the same version of ftctl on both hosts.",
  });
}

function frameType(value: number): FrameType {
  for (const type of Object.values(FrameType)) if (type === value) return type;
  throw corrupt(`type ${value} is unknown`);
}

function safeInteger(bytes: Buffer, offset: number): number {
  const value = Number(bytes.readBigUInt64LE(offset));
  if (!Number.isSafeInteger(value)) throw corrupt(`the number at ${offset} is too large`);
  return value;
}

/** An epoch's length is bounded by the receiver, which can still answer; the others are never so long. */
function checkLength(header: FrameHeader): void {
  const bodiless = header.type === FrameType.ping || header.type === FrameType.pong;
  if (bodiless && header.length !== 0) throw corrupt("a frame without a body claims one");
  if (header.type === FrameType.reply && header.length > REPLY_BYTES_MAX) {
    throw corrupt("the reply is too long");
  }
}
