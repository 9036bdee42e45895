import { PassThrough } from "node:stream";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { ChunkQueue, lengthOf } from "./chunk-queue.js";
import { crc32c } from "./crc32c.js";
import {
  decodeFrameHeader,
  decodeReply,
  type EpochReply,
  encodeFrameHeader,
  encodeReply,
  FRAME_HEADER_BYTES,
  type FrameHeader,
  FrameType,
  REPLY_BYTES_MAX,
} from "./frame.js";

const header = fc.record<FrameHeader>({
  type: fc.constant(FrameType.epoch),
  pair: fc.string({ unit: fc.constantFrom(..."0123456789abcdef"), minLength: 12, maxLength: 12 }),
  generation: fc.maxSafeNat(),
  epoch: fc.maxSafeNat(),
  base: fc.maxSafeNat(),
  length: fc.maxSafeNat(),
});
const reply: fc.Arbitrary<EpochReply> = fc.oneof(
  fc.constant<EpochReply>({ outcome: "busy" }),
  fc.nat().map((commitMs): EpochReply => ({ outcome: "committed", commitMs })),
  fc
    .tuple(fc.string({ maxLength: 64 }), fc.integer(), fc.string({ maxLength: 900 }))
    .map(([code, errno, detail]): EpochReply => ({ outcome: "refused", code, errno, detail })),
);
const sample: FrameHeader = {
  type: FrameType.epoch,
  pair: "00112233aabb",
  generation: 2,
  epoch: 1_000,
  base: 999,
  length: 123_456,
};

describe("crc32c", () => {
  it("agrees with the published check value", () => {
    expect(crc32c(Buffer.from("123456789"))).toBe(0xe3069283);
  });
});

describe("frame headers", () => {
  it("come back as they were", () => {
    fc.assert(
      fc.property(header, (h) => void expect(decodeFrameHeader(encodeFrameHeader(h))).toEqual(h)),
    );
  });

  it("with any bit flipped are refused", () => {
    const bytes = encodeFrameHeader(sample);
    for (let bit = 0; bit < 8 * FRAME_HEADER_BYTES; bit += 1) {
      const flipped = Buffer.from(bytes);
      flipped[bit >> 3]! ^= 1 << (bit & 7);
      expect(() => decodeFrameHeader(flipped)).toThrow();
    }
  });

  it("cut anywhere are refused", () => {
    const bytes = encodeFrameHeader(sample);
    for (let length = 0; length < bytes.length; length += 1) {
      expect(() => decodeFrameHeader(bytes.subarray(0, length))).toThrow(/truncated/);
    }
  });

  it("made of garbage are refused with a code", () => {
    const garbage = fc.uint8Array({ minLength: 64, maxLength: 64 });
    fc.assert(
      fc.property(garbage, (bytes) => {
        expect(() => decodeFrameHeader(Buffer.from(bytes))).toThrow(
          expect.objectContaining({ code: "STREAM_CORRUPT" }),
        );
      }),
    );
  });

  it("with a right checksum over wrong fields are refused all the same", () => {
    const field = fc.record({
      offset: fc.integer({ min: 0, max: 59 }),
      value: fc.integer({ min: 0, max: 255 }),
    });
    fc.assert(
      fc.property(fc.array(field, { maxLength: 8 }), (fields) => {
        const bytes = encodeFrameHeader(sample);
        for (const { offset, value } of fields) bytes[offset] = value;
        bytes.writeUInt32LE(crc32c(bytes.subarray(0, 60)), 60);
        let decoded: FrameHeader;
        try {
          decoded = decodeFrameHeader(bytes);
        } catch (error) {
          expect((error as { code: string }).code).toMatch(/^(STREAM_CORRUPT|VERSION_MISMATCH)$/);
          return;
        }
        expect(decoded.pair).toMatch(/^[0-9a-f]{12}$/);
        expect(encodeFrameHeader(decoded).equals(bytes)).toBe(true);
      }),
    );
  });

  it("of a later version say which", () => {
    const bytes = encodeFrameHeader(sample);
    bytes.writeUInt16LE(7, 8);
    bytes.writeUInt32LE(crc32c(bytes.subarray(0, 60)), 60);
    expect(() => decodeFrameHeader(bytes)).toThrow(/version 7.*version 1/);
  });

  it("of a reply cannot announce a long body", () => {
    const { reply: type } = FrameType;
    const long = encodeFrameHeader({ ...sample, type, length: REPLY_BYTES_MAX + 1 });
    expect(() => decodeFrameHeader(long)).toThrow(/too long/);
  });
});

describe("replies", () => {
  it("come back as they were, within their bound", () => {
    fc.assert(
      fc.property(reply, (r) => {
        const bytes = encodeReply(sample, r);
        const { length, type, epoch } = decodeFrameHeader(bytes.subarray(0, 64));
        expect({ length, type, epoch }).toEqual({
          length: bytes.length - 64,
          type: FrameType.reply,
          epoch: sample.epoch,
        });
        expect(decodeReply(bytes.subarray(64))).toEqual(r);
      }),
    );
  });

  it("fit their bound whatever the store says", () => {
    const detail = "\u0000".repeat(100_000);
    const bytes = encodeReply(sample, { outcome: "refused", code: "io", errno: 5, detail });
    expect(() => decodeFrameHeader(bytes.subarray(0, 64))).not.toThrow();
  });

  it("made of garbage are refused with a code", () => {
    fc.assert(
      fc.property(fc.oneof(fc.json(), fc.string()), (text) => {
        try {
          decodeReply(Buffer.from(text));
        } catch (error) {
          expect((error as { code: string }).code).toBe("STREAM_CORRUPT");
        }
      }),
    );
  });
});

describe("the queue of chunks", () => {
  const pieces = fc.array(fc.uint8Array({ minLength: 1, maxLength: 300 }), { maxLength: 30 });

  it("gives the same bytes however they arrive and are taken", async () => {
    const takes = fc.array(fc.integer({ min: 1, max: 500 }), { minLength: 1, maxLength: 60 });
    await fc.assert(
      fc.asyncProperty(pieces, takes, async (sent, sizes) => {
        const stream = new PassThrough();
        const queue = new ChunkQueue(stream, 100);
        for (const piece of sent) stream.write(piece);
        stream.end();
        const all = Buffer.concat(sent);
        const got: Buffer[] = [];
        for (let turn = 0; lengthOf(got) < all.length; turn += 1) {
          const size = sizes[turn % sizes.length]!;
          const taken = await queue.some(size, 1_000);
          expect(lengthOf(taken)).toBeGreaterThan(0);
          expect(lengthOf(taken)).toBeLessThanOrEqual(size);
          got.push(...taken);
        }
        expect(Buffer.concat(got).equals(all)).toBe(true);
        await expect(queue.some(1, 1_000)).rejects.toThrow();
      }),
      { numRuns: 50 },
    );
  });

  it("stops the sender at its bound", async () => {
    const stream = new PassThrough({ highWaterMark: 10 });
    const queue = new ChunkQueue(stream, 100);
    let accepted = 0;
    while (stream.write(Buffer.alloc(10)) && accepted < 10_000) accepted += 10;
    await new Promise((resolve) => setImmediate(resolve));
    for (let n = 0; n < 100 && stream.writableLength === 0; n += 1) {
      stream.write(Buffer.alloc(10));
      await new Promise((resolve) => setImmediate(resolve));
    }
    expect(stream.isPaused()).toBe(true);
    await queue.exactly(100, 1_000, 1_000);
    expect(stream.isPaused()).toBe(false);
  });

  it("does not wait without a bound", async () => {
    const queue = new ChunkQueue(new PassThrough(), 100);
    await expect(queue.some(1, 20)).rejects.toMatchObject({ code: "STREAM_TIME_OUT" });
    await expect(queue.exactly(4, 20, 20)).rejects.toMatchObject({ code: "STREAM_TIME_OUT" });
  });
});
