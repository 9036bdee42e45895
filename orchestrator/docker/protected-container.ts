/**
 * Replaces a plain container by its protected form and back. Each step can be undone; together they leave either
 * the new container or the old one as it was.
 *
 * Invariants:
 *  - The original is never removed before `unprotect`, and never changed but for its name and restart policy.
 *  - At every instant one container says (by name or label) how the original comes back: see `recoverAbandoned`.
 *  - The application of the protected container does not run before the caller tells ftinit so.
 */

import type { Clock } from "../clock.js";
import { FtError } from "../errors/error.js";
import { limits } from "../limits.js";
import { LineFailure } from "../network/line-client.js";
import { label, parseRestart } from "./container-spec.js";
import type { ContainerInspect, ContainerSpec, HostConfig } from "./docker-types.js";
import { containerName } from "./docker-types.js";
import type { Engine } from "./engine.js";
import { InitClient } from "./init-client.js";
import { copyLayer } from "./layer.js";
import { Rollback } from "./rollback.js";

/** Suffix of the original while its protected form runs. */
export const ORIGINAL_SUFFIX = ".ftctl-original";
/** Suffix of the protected form while `unprotect` makes the plain one. */
export const RETIRED_SUFFIX = ".ftctl-retired";

export interface Parked {
  id: string;
  name: string;
  suffix: string;
  wasRunning: boolean;
  restart: NonNullable<HostConfig["RestartPolicy"]>;
}

/** Notes what a container was, before anything is changed. */
export function parkedFrom(inspect: ContainerInspect, suffix: string): Parked {
  return {
    id: inspect.Id,
    name: containerName(inspect),
    suffix,
    wasRunning: inspect.State.Running,
    restart: inspect.HostConfig.RestartPolicy ?? { Name: "no" },
  };
}

export async function renameAside(engine: Engine, parked: Parked): Promise<void> {
  await engine.rename(parked.id, `${parked.name}${parked.suffix}`);
}

export async function renameBack(engine: Engine, parked: Parked): Promise<void> {
  await engine.rename(parked.id, parked.name);
}

/** Stops it so that nothing, a restart of dockerd included, starts it again. */
export async function stopParked(engine: Engine, parked: Parked): Promise<void> {
  await engine.setRestartPolicy(parked.id, { Name: "no" });
  await engine.stop(parked.id);
}

export async function startParked(engine: Engine, parked: Parked): Promise<void> {
  await engine.setRestartPolicy(parked.id, parked.restart);
  if (parked.wasRunning) await engine.start(parked.id);
}

/**
 * Creates a container of exactly this image: by its name if the name still means it, else by its id. What Docker
 * made is checked.
 */
export async function createExact(
  engine: Engine,
  spec: ContainerSpec,
  imageId: string,
): Promise<string> {
  const named = await engine.image(spec.Image);
  const id = await engine.create({ ...spec, Image: named?.id === imageId ? spec.Image : imageId });
  const made = await engine.inspect(id);
  if (made.Image === imageId) return id;
  await engine.remove(id);
  throw new FtError({
    code: "IMAGE_DIFFERS",
    subject: `container ${spec.name} on host ${engine.host}`,
    message: `Docker made it from image ${made.Image}, not ${imageId}`,
  });
}

export interface RunningContainer {
  id: string;
  /** Host pid of ftinit. */
  initPid: number;
  init: InitClient;
  inspect: ContainerInspect;
}

/** Starts it and waits until ftinit answers. The application does not run yet. */
export async function startWaiting(
  engine: Engine,
  id: string,
  initProgram: string,
  clock: Clock,
): Promise<RunningContainer> {
  await engine.start(id);
  const inspect = await engine.inspect(id);
  const running = runningContainer(inspect, initProgram);
  const deadline = clock.nowMs() + limits.initAnswerTimeoutMs;
  for (;;) {
    try {
      await running.init.hello();
      return running;
    } catch (error) {
      if (!(error instanceof LineFailure) || clock.nowMs() >= deadline) throw error;
      await clock.sleep(20);
      await requireRunning(engine, id);
    }
  }
}

async function requireRunning(engine: Engine, id: string): Promise<void> {
  const inspect = await engine.inspect(id);
  if (inspect.State.Running) return;
  throw new FtError({
    code: "CONTAINER_EXITED",
    subject: `container ${containerName(inspect)} on host ${engine.host}`,
    message: `it ended at once with status ${inspect.State.ExitCode}`,
    hint: `docker logs ${containerName(inspect)} says why.`,
  });
}

/** A container that runs already, for an agent that comes back. */
export function runningContainer(inspect: ContainerInspect, initProgram: string): RunningContainer {
  const subject = `container ${containerName(inspect)}`;
  if (!inspect.State.Running || inspect.State.Pid === 0) {
    throw new FtError({ code: "CONTAINER_NOT_RUNNING", subject, message: "it does not run" });
  }
  const init = new InitClient({ program: initProgram, hostPid: inspect.State.Pid, subject });
  return { id: inspect.Id, initPid: inspect.State.Pid, init, inspect };
}

export interface ReplaceOptions {
  engine: Engine;
  /** Host path of ftinit. */
  initProgram: string;
  clock: Clock;
  /** Told before each step. */
  progress?: (message: string) => void;
}

/**
 * `protect`: the original aside, its protected form in its place with the same files, ftinit waiting. The returned
 * rollback brings the original back as it was; keep it until the pair is protected.
 */
export async function protectContainer(
  original: ContainerInspect,
  spec: ContainerSpec,
  options: ReplaceOptions,
): Promise<{ running: RunningContainer; rollback: Rollback }> {
  const { engine } = options;
  const say = options.progress ?? (() => {});
  const parked = parkedFrom(original, ORIGINAL_SUFFIX);
  const rollback = new Rollback();
  const running = await rollback.guard(`container ${parked.name}`, async () => {
    say("putting the original container aside");
    rollback.add("start the original container again", () => startParked(engine, parked));
    await renameAside(engine, parked);
    rollback.add("give the original container its name back", () => renameBack(engine, parked));
    say("creating the protected container");
    const id = await createExact(engine, spec, original.Image);
    rollback.add("remove the protected container", () => engine.remove(id));
    say("stopping the original container");
    await stopParked(engine, parked);
    say("copying the container's files");
    await copyLayer(await engine.inspect(parked.id), await engine.inspect(id));
    say("starting the protected container");
    return startWaiting(engine, id, options.initProgram, options.clock);
  });
  return { running, rollback };
}

/**
 * `unprotect`: a plain container with the files as they are now, running. The protected form ends first, so that its
 * application closes its files; then it and the parked original are removed. If a step fails the protected form
 * is started again (ftinit waiting) and the error is thrown.
 */
export async function unprotectContainer(
  protectedId: string,
  plain: ContainerSpec,
  originalId: string | undefined,
  options: Omit<ReplaceOptions, "initProgram">,
): Promise<{ id: string; notes: string[] }> {
  const { engine } = options;
  const say = options.progress ?? (() => {});
  const before = await engine.inspect(protectedId);
  const parked = parkedFrom(before, RETIRED_SUFFIX);
  const { spec, notes } = await onThisHost(engine, plain);
  const rollback = new Rollback();
  const id = await rollback.guard(`container ${parked.name}`, async () => {
    say("stopping the protected container");
    rollback.add("start the protected container again", () => startParked(engine, parked));
    await stopParked(engine, parked);
    await renameAside(engine, parked);
    rollback.add("give the protected container its name back", () => renameBack(engine, parked));
    say("creating the plain container");
    const created = await createExact(engine, spec, before.Image);
    rollback.add("remove the plain container", () => engine.remove(created));
    say("copying the container's files");
    await copyLayer(await engine.inspect(parked.id), await engine.inspect(created));
    say("starting the plain container");
    await engine.start(created);
    return created;
  });
  await engine.remove(parked.id);
  if (originalId !== undefined && originalId !== "") await engine.remove(originalId);
  return { id, notes };
}

/** A network of the original's host may not exist here. */
async function onThisHost(
  engine: Engine,
  plain: ContainerSpec,
): Promise<{ spec: ContainerSpec; notes: string[] }> {
  const network = Object.keys(plain.NetworkingConfig?.EndpointsConfig ?? {})[0];
  if (network === undefined || (await engine.hasNetwork(network)))
    return { spec: plain, notes: [] };
  const { NetworkingConfig: _gone, ...spec } = plain;
  const usable = (await engine.hasNetwork("bridge")) ? "bridge" : "none";
  return {
    spec: { ...spec, HostConfig: { ...spec.HostConfig, NetworkMode: usable, Links: null } },
    notes: [
      `host ${engine.host} has no Docker network ${network}: the container is on network ${usable}`,
    ],
  };
}

/**
 * After a crash in the middle of `protect`: originals put aside by pairs that nobody knows come back. Returns their
 * names. A stopped original whose name belongs to a known pair stays aside even if nothing has its place now: this
 * host may be about to become the standby. A running one was only just renamed.
 */
export async function recoverAbandoned(
  engine: Engine,
  isKnownPair: (pairId: string) => boolean,
  isKnownName: (name: string) => boolean = () => false,
): Promise<string[]> {
  const containers = await engine.list();
  const recovered: string[] = [];
  for (const aside of containers.filter((c) => c.name.endsWith(ORIGINAL_SUFFIX))) {
    const name = aside.name.slice(0, -ORIGINAL_SUFFIX.length);
    const holder = containers.find((c) => c.name === name);
    const pair = holder?.labels[label.pair];
    if (pair !== undefined && isKnownPair(pair)) continue;
    if (holder === undefined && !aside.running && isKnownName(name)) continue;
    if (holder !== undefined && holder.labels[label.original] !== aside.id) continue;
    const restart = parseRestart(holder?.labels[label.restart]);
    if (holder !== undefined) await engine.remove(holder.id);
    await engine.rename(aside.id, name);
    if (holder !== undefined) {
      const policy = { Name: restart.name, MaximumRetryCount: restart.retriesMax };
      await engine.setRestartPolicy(aside.id, policy);
    }
    await engine.start(aside.id);
    recovered.push(name);
  }
  return recovered;
}
