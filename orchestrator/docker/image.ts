/**
 * Ships an image from one Docker to another as a stream, and trusts the result only if its id is the same. The
 * stream between the hosts is the caller's.
 */
import { type Readable, Transform, type Writable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { FtError } from "../errors/error.js";
import { limits } from "../limits.js";
import type { Engine } from "./engine.js";

export async function hasImage(engine: Engine, imageId: string): Promise<boolean> {
  return (await engine.image(imageId))?.id === imageId;
}

/** Writes the image to `to`, with its tags. Ends `to`. */
export async function sendImage(
  engine: Engine,
  imageId: string,
  to: Writable,
  progress?: (bytes: number) => void,
): Promise<void> {
  const image = await engine.image(imageId);
  if (image === undefined) throw notFound(engine, imageId);
  const names = image.tags.length > 0 ? image.tags : [imageId];
  const tar = await engine.saveImage(names);
  await transfer(engine, imageId, tar, to, progress);
}

/** Loads what `sendImage` wrote. Throws `IMAGE_DIFFERS` if it is not that very image. */
export async function receiveImage(
  engine: Engine,
  imageId: string,
  from: Readable,
  progress?: (bytes: number) => void,
): Promise<void> {
  const counted = counter(progress);
  const broken = new AbortController();
  const loaded = engine.loadImage(counted, broken.signal);
  const piped = transfer(engine, imageId, from, counted);
  // Each end ends the other, so that neither waits for a stream that has died; the first failure is the cause.
  const failures: unknown[] = [];
  await Promise.all([
    loaded.catch((error) => {
      failures.push(error);
      counted.destroy();
    }),
    piped.catch((error) => {
      failures.push(error);
      broken.abort();
    }),
  ]);
  if (failures.length > 0) throw failures[0];
  if (await hasImage(engine, imageId)) return;
  throw new FtError({
    code: "IMAGE_DIFFERS",
    subject: `image ${imageId} on host ${engine.host}`,
    message: "what was loaded has another id",
    hint: "Both Dockers must keep images the same way: overlay2, without the containerd image store.",
  });
}

async function transfer(
  engine: Engine,
  imageId: string,
  from: Readable,
  to: Writable,
  progress?: (bytes: number) => void,
): Promise<void> {
  const silence = new AbortController();
  const arm = () => setTimeout(() => silence.abort(), limits.streamIdleTimeoutMs);
  let timer = arm();
  const watch = new Transform({
    transform(chunk: Buffer, _encoding, done) {
      clearTimeout(timer);
      timer = arm();
      done(null, chunk);
    },
  });
  try {
    await pipeline(from, watch, counter(progress), to, { signal: silence.signal });
  } catch (cause) {
    const subject = `image ${imageId} on host ${engine.host}`;
    if (silence.signal.aborted) {
      const message = `nothing moved for ${limits.streamIdleTimeoutMs} ms`;
      throw new FtError({ code: "IMAGE_TRANSFER_TIMEOUT", subject, message, exitCode: 124, cause });
    }
    const message = `the transfer broke off: ${(cause as Error).message}`;
    throw new FtError({ code: "IMAGE_TRANSFER_FAILED", subject, message, cause });
  } finally {
    clearTimeout(timer);
  }
}

function counter(progress: ((bytes: number) => void) | undefined): Transform {
  let bytes = 0;
  return new Transform({
    transform(chunk: Buffer, _encoding, done) {
      bytes += chunk.length;
      progress?.(bytes);
      done(null, chunk);
    },
  });
}

function notFound(engine: Engine, imageId: string): FtError {
  return new FtError({
    code: "IMAGE_NOT_FOUND",
    subject: `image ${imageId} on host ${engine.host}`,
    message: "there is no such image",
    exitCode: 3,
  });
}
