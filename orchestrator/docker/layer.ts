/**
 * Copies one container's writable layer into another's. Both are stopped, on the same host and of the same
 * image, so that overlay's own marks (whiteouts, opaque folders) mean the same in both.
 */
import { readdir, rm } from "node:fs/promises";
import { execa } from "execa";
import { FtError, invariant } from "../errors/error.js";
import { limits } from "../limits.js";
import { upperDir } from "./capture-roots.js";
import { INIT_FOLDER } from "./container-spec.js";
import type { ContainerInspect } from "./docker-types.js";
import { containerName } from "./docker-types.js";

export async function copyLayer(from: ContainerInspect, to: ContainerInspect): Promise<void> {
  invariant(!from.State.Running, "a layer is copied from a stopped container");
  invariant(!to.State.Running, "a layer is copied into a stopped container");
  const subject = `container ${containerName(from)}`;
  if (from.Image !== to.Image) {
    throw new FtError({
      code: "IMAGE_DIFFERS",
      subject,
      message: `its writable layer fits image ${from.Image}, not ${to.Image}`,
    });
  }
  await replaceFolder(upperDir(from), upperDir(to), subject);
  await rm(`${upperDir(to)}${INIT_FOLDER}`, { recursive: true, force: true });
}

/** Owners, times, modes, hard links, devices (whiteouts are devices), extended attributes: all of it, or an error. */
export async function replaceFolder(from: string, to: string, subject: string): Promise<void> {
  for (const entry of await readdir(to)) await rm(`${to}/${entry}`, { recursive: true });
  const args = ["-R", "--no-dereference", "--sparse=auto", "--reflink=auto"];
  const preserve = "--preserve=mode,ownership,timestamps,links,xattr";
  const copy = await execa("cp", [...args, preserve, "--", `${from}/.`, to], {
    reject: false,
    timeout: limits.layerCopyTimeoutMs,
    env: { LC_ALL: "C" },
  });
  if (!copy.failed) return;
  const quoted = copy.stderr.split("\n").slice(-5);
  if (/No space left/.test(copy.stderr)) {
    throw new FtError({
      code: "DISK_FULL",
      subject,
      message: "its writable layer could not be copied: the disk that holds Docker's data is full",
      hint: "Make room (docker system df, docker system prune) and try again.",
      quoted,
    });
  }
  throw new FtError({
    code: "LAYER_COPY_FAILED",
    subject,
    message: copy.timedOut
      ? `its writable layer was not copied within ${limits.layerCopyTimeoutMs} ms`
      : "its writable layer could not be copied",
    quoted,
  });
}
