/**
 * The warm standby: an ordinary running container of the same image and configuration, in which ftinit waits.
 * The service's files and processes come to it with the epochs.
 */
import { mkdir, stat } from "node:fs/promises";
import { FtError } from "../errors/error.js";
import { type HostPrograms, label, specForHost } from "./container-spec.js";
import type { ContainerSpec } from "./docker-types.js";
import type { Engine } from "./engine.js";
import {
  createExact,
  type ReplaceOptions,
  type RunningContainer,
  startWaiting,
} from "./protected-container.js";
import { Rollback } from "./rollback.js";

export interface StandbyOptions extends ReplaceOptions, HostPrograms {
  /** Targets of bind mounts whose folders are made if this host lacks them: those that the policy replicates. */
  replicated: string[];
}

/** Creates and starts it. A container of the same name that is not this pair's own is never touched. */
export async function createStandby(
  spec: ContainerSpec,
  options: StandbyOptions,
): Promise<RunningContainer> {
  const { engine, initProgram, clock } = options;
  const own = specForHost(spec, { ...options, role: "standby" });
  const imageId = own.Labels[label.imageId] ?? "";
  const pairId = own.Labels[label.pair] ?? "";
  await removeStandby(engine, own.name, pairId);
  for (const source of bindSources(own, options.replicated)) await makeFolder(source, own.name);
  const rollback = new Rollback();
  return rollback.guard(`standby container ${own.name}`, async () => {
    const id = await createExact(engine, own, imageId);
    rollback.add("remove the standby container", () => engine.remove(id));
    return startWaiting(engine, id, initProgram, clock);
  });
}

/** Removes this pair's container of this name, never its volumes; refuses if the name is somebody else's. */
export async function removeStandby(engine: Engine, name: string, pairId: string): Promise<void> {
  const present = await engine.find(name);
  if (present === undefined) return;
  if (present.Config.Labels?.[label.pair] === pairId) return engine.remove(present.Id);
  throw new FtError({
    code: "NAME_TAKEN",
    subject: `container ${name} on host ${engine.host}`,
    message: "a container of this name exists there and does not belong to this pair",
    hint: `Rename or remove it on ${engine.host}, then try again.`,
  });
}

/** Host folders behind the bind mounts with these targets. */
export function bindSources(spec: ContainerSpec, targets: string[]): string[] {
  const wanted = new Set(targets.map((target) => target.replace(/(.)\/+$/, "$1")));
  const binds = (spec.HostConfig.Binds ?? [])
    .map((bind) => bind.split(":"))
    .filter(([source, target]) => source?.startsWith("/") && wanted.has(target ?? ""))
    .map(([source]) => source as string);
  const mounts = (spec.HostConfig.Mounts ?? [])
    .filter((mount) => mount.Type === "bind" && wanted.has(mount.Target))
    .map((mount) => mount.Source ?? "")
    .filter((source) => source !== "");
  return [...binds, ...mounts];
}

async function makeFolder(path: string, name: string): Promise<void> {
  await mkdir(path, { recursive: true });
  if ((await stat(path)).isDirectory()) return;
  throw new FtError({
    code: "MOUNT_UNSUPPORTED",
    subject: `container ${name}`,
    message: `the policy replicates the bind mount of ${path}, which is not a folder here`,
  });
}
