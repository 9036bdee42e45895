/** Binds the pair's ports to the gate, CRIU's programs, the links and Docker. */
import { mkdir, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { Checkpointer } from "../../criu/checkpointer.js";
import { memoryIsThere, memoryLoss, restore, waitingRestore } from "../../criu/restorer.js";
import { CheckpointStore } from "../../criu/store.js";
import type { WaitingProgram } from "../../criu/waiting-program.js";
import type { ResolvedPolicy } from "../../policies/resolve.js";
import { captureRoots, formatRoots } from "../docker/capture-roots.js";
import { cpuTimePath } from "../docker/container-process.js";
import { parseMountinfo } from "../docker/mountinfo.js";
import { FtError } from "../errors/error.js";
import { limits } from "../limits.js";
import type { AgentConfig } from "../links/config.js";
import { StreamSender } from "../links/stream-sender.js";
import {
  Gate,
  type GateMode,
  type GateOptions,
  type HistogramUs,
  type LogFiles,
} from "../network/gate.js";
import { WIDE_WINDOW_SEGMENTS } from "../network/interface.js";
import type { LineEvent } from "../network/line-client.js";
import type {
  Application,
  GateControl,
  GateNews,
  GateSetup,
  PairDumper,
  PairParts,
  StoreControl,
} from "../pair/ports.js";
import type { PairRecord } from "../pair/record.js";
import type { AgentShared } from "./main.js";
import { pairPaths } from "./paths.js";
import { containerControl, dockerWiring } from "./wiring-docker.js";
import { logControl } from "./wiring-log.js";

export function pairParts(shared: AgentShared): PairParts {
  const { config } = shared;
  const waiting = new Map<string, { only: string | undefined; program: WaitingProgram }>();
  const unprepareRestore = (pair: string) => {
    waiting.get(pair)?.program.end();
    waiting.delete(pair);
  };
  const restoreOptions = (record: PairRecord, app: Application, only?: "keep" | "clear") => {
    const paths = pairPaths(config.runDir, record.id);
    return {
      program: join(config.nativeDir, "bin/ftrestore"),
      initPid: app.initPid,
      toolkit: config.toolkitDir,
      hook: join(config.nativeDir, "lib/libfthook.so"),
      images: paths.images,
      log: paths.restoreLog,
      subject: `container ${record.name}`,
      timeoutMs: limits.restoreTimeoutMs,
      tcpSegments: WIDE_WINDOW_SEGMENTS,
      ...(only === undefined ? {} : { only }),
      kdat: join(config.runDir, "kdat"),
    };
  };
  return {
    container: containerControl(dockerWiring(shared)),
    log: logControl(shared),
    openGate: (setup) => openGate(shared, setup),
    openDumper: (record, app, onGone) => openDumper(shared, record, app, onGone),
    openStore: (record, app, onGone) => openStore(shared, record, app, onGone),
    shipper: (record) => shipper(shared, record),
    memoryIsThere: (app, waitMs) => memoryIsThere(config.nativeDir, app.initPid, waitMs),
    memoryLoss: (record) => memoryLoss(pairPaths(config.runDir, record.id).feed),
    forget: (pair) => rm(pairPaths(config.runDir, pair).dir, { recursive: true, force: true }),
    prepareRestore(record, app, only) {
      unprepareRestore(record.id);
      waiting.set(record.id, { only, program: waitingRestore(restoreOptions(record, app, only)) });
    },
    unprepareRestore: (record) => unprepareRestore(record.id),
    async restore(record, app, imagesDir, only) {
      const options = { ...restoreOptions(record, app, only), images: imagesDir };
      const ahead = waiting.get(record.id);
      const fits = ahead?.only === only && ahead?.program.lives;
      const here = imagesDir === pairPaths(config.runDir, record.id).images;
      if (only === "clear" || !ahead || !fits || !here) return restore(options);
      waiting.delete(record.id);
      return restore(options, ahead.program);
    },
  };
}

export const policyOf = (record: PairRecord) => record.policy as unknown as ResolvedPolicy;

async function openGate(
  shared: AgentShared,
  { record, initPid, onNews }: GateSetup,
): Promise<GateControl> {
  const { config, book, identity, clock } = shared;
  const paths = pairPaths(config.runDir, record.id);
  const policy = policyOf(record);
  await mkdir(paths.dir, { recursive: true, mode: 0o700 });
  await writeFile(paths.beatKey, `${record.beatKey}\n`, { mode: 0o600 });
  const peer = book.find(record.peer);
  if (!peer) {
    throw new FtError({
      code: "PEER_UNKNOWN",
      subject: `host ${record.peer}`,
      message: `the peer of ${record.name} is not known here`,
      hint: "`ftctl join` makes two hosts know each other.",
    });
  }
  const options: GateOptions = {
    pair: record.id,
    program: join(config.nativeDir, "bin/ftgate"),
    controlSocket: paths.gateSocket,
    logFile: paths.gateLog,
    containerInterface: "eth0",
    lanInterface: `ft${record.id}`,
    uplink: record.network.uplink,
    mac: record.network.mac,
    mtu: record.network.mtu,
    keyFile: paths.beatKey,
    heartbeat: {
      local: identity.address,
      peer: peer.address,
      port: record.beatPort,
      intervalMs: policy.detection.heartbeatMs,
      missLimit: policy.detection.missLimit,
    },
    leaseMs: policy.detection.leaseMs,
    heldBytesMax: policy.hold.heldBytesMax,
    queuedBytesMax: policy.hold.queuedBytesMax,
    generation: record.generation,
    // The heartbeats' number, in TCP: one port a pair to open in a firewall.
    ...(policy.mode === "hybrid"
      ? { ship: { port: record.beatPort, encrypted: policy.transfer?.wire !== "dedicated" } }
      : {}),
    clock,
  };
  const { gate } = await Gate.open(options, initPid);
  gate.on("event", (event) => {
    const news = newsOf(event);
    if (news) onNews(news);
  });
  gate.on("gone", (reason) => onNews({ kind: "gone", reason }));
  await gate.subscribe();
  await gate.cpu(await cpuTimePath(initPid)).catch(() => {});
  return gateControl(gate, options, record.network.address.split("/")[0]!, paths);
}

function gateControl(
  gate: Gate,
  { pair, controlSocket: socket }: GateOptions,
  ip: string,
  files: LogFiles,
): GateControl {
  let current: GateMode | undefined;
  return {
    get gone() {
      return gate.gone;
    },
    async mode(mode, generation, epoch) {
      await gate.mode(mode, generation, epoch);
      current = mode;
    },
    async commit(epoch) {
      const { frames, bytes, heldFrames } = await gate.commit(epoch);
      // In mode log what is held waits for the log, and no checkpoint hurries it.
      return { frames, bytes, stillHeld: heldFrames > 0 && current !== "log" };
    },
    ship: (role) => gate.log(role, files),
    trim: (epoch) => gate.trim(epoch),
    announce: () => gate.garp(ip, 3),
    attach: async (initPid) => {
      await gate.attach(initPid);
      await gate.cpu(await cpuTimePath(initPid)).catch(() => {});
    },
    beat: ({ app, lan, epoch }) => gate.beat({ app, lan, epoch }),
    async facts() {
      const stats = await gate.stats();
      const ms = (us: number) => us / 1000;
      current = stats.mode;
      return {
        mode: stats.mode,
        generation: stats.generation,
        epoch: stats.epoch,
        heldFrames: stats.heldFrames,
        heldBytes: stats.heldBytes,
        heldOldestMs: stats.heldFrames > 0 ? ms(stats.heldOldestUs) : undefined,
        leaseFresh: stats.leaseFresh,
        outputDelayMs: spreadMs(stats.delayUs),
        log: stats.ship && {
          up: stats.ship.up,
          bytes: stats.ship.logBytes,
          unackedBytes: stats.ship.end - stats.ship.acked,
          freeBytes: stats.ship.freeBytes,
          waits: stats.ship.waits,
          delayMs: spreadMs(stats.ship.delayUs),
        },
      };
    },
    // One that lives though its connection is lost must not stay: it would keep the address of its heartbeats.
    quit: () => (gate.gone ? Gate.quitAt(pair, socket).then(() => {}) : gate.quit()),
    release: () => gate.release(),
  };
}

function spreadMs({ count, avg, p50, p99, max }: HistogramUs) {
  const ms = (us: number) => us / 1000;
  return count === 0
    ? undefined
    : { count, avg: ms(avg), p50: ms(p50), p99: ms(p99), max: ms(max) };
}

function newsOf({ name, fields }: LineEvent): GateNews | undefined {
  switch (name) {
    case "held":
      return { kind: "held", epoch: fields.number("epoch") };
    case "fenced":
      return { kind: "fenced", generation: fields.number("peer_generation") };
    case "bound":
      return { kind: "bound", reached: true };
    case "bound-clear":
      return { kind: "bound", reached: false };
    case "peer": {
      const state = fields.text("state") === "alive" ? "alive" : "silent";
      return { kind: "peerBeat", state, silentMs: fields.number("silent_us") / 1000 };
    }
    case "peer-flags":
      return {
        kind: "peerFlags",
        agent: fields.flag("agent"),
        app: fields.text("app") as "running" | "exited" | "none",
        lan: fields.flag("lan"),
        generation: fields.number("generation"),
      };
    case "lan":
      return { kind: "lan", state: fields.text("state") === "up" ? "up" : "down" };
    case "ship-lost":
      return { kind: "ship", state: "lost", reason: fields.textOr("reason", "") };
    case "ship-back":
      return { kind: "ship", state: "back", reason: "" };
    case "log-full":
      return { kind: "ship", state: "full", reason: fields.textOr("where", "") };
    case "log-room":
      return { kind: "ship", state: "room", reason: "" };
    case "log-broken":
      return { kind: "ship", state: "broken", reason: fields.textOr("reason", "") };
    case "ship-ended":
      return { kind: "ship", state: "ended", reason: "" };
    case "thawed-by-disconnect":
      return { kind: "thawedByDisconnect" };
    default:
      return undefined;
  }
}

/** Roots of the container's files, as both ftdump and ftstore read them. */
async function writeRoots(shared: AgentShared, record: PairRecord, app: Application) {
  const paths = pairPaths(shared.config.runDir, record.id);
  const inspect = await shared.engine.inspect(record.containerId);
  const mounts = parseMountinfo(await readFile(`/proc/${app.initPid}/mountinfo`, "utf8"));
  const roots = captureRoots(inspect, mounts, policyOf(record).files.mounts);
  await mkdir(paths.dir, { recursive: true, mode: 0o700 });
  await writeFile(paths.roots, formatRoots(roots), { mode: 0o600 });
  return paths;
}

async function openDumper(
  shared: AgentShared,
  record: PairRecord,
  app: Application,
  onGone: () => void,
): Promise<PairDumper> {
  const { config } = shared;
  const paths = await writeRoots(shared, record, app);
  await mkdir(paths.dump, { recursive: true, mode: 0o700 });
  const policy = policyOf(record);
  const checkpointer = await Checkpointer.start({
    program: join(config.nativeDir, "bin/ftdump"),
    pair: record.id,
    initPid: app.initPid,
    toolkit: config.toolkitDir,
    hook: join(config.nativeDir, "lib/libfthook.so"),
    work: paths.dump,
    gate: paths.gateSocket,
    roots: paths.roots,
    freezeMsMax: policy.epoch.freezeTimeoutMs,
    filesBytesMax: policy.files.bufferBytesMax,
    kdat: join(config.runDir, "kdat"),
    // By soft-dirty bits a recorded application has not been seen to be replayed each time: docs/SPECIFICATION.md.
    tracking: policy.mode === "hybrid" && config.tracking === "auto" ? "wp-async" : config.tracking,
    // A pair of an older version has none in its record.
    compression: policy.transfer?.compression ?? "none",
    subject: `container ${record.name}`,
  });
  checkpointer.onGone(onGone);
  return {
    async dump({ epoch, base, generation, path }) {
      const result = await checkpointer.dump({ epoch, base, generation, path });
      return {
        pauseMs: result.pauseMs,
        wallMs: result.wallMs,
        bytes: result.bytes,
        full: result.full,
        pausePartsMs: result.pausePartsMs,
        plain: result.plain,
        tracking: result.tracking,
        ...(result.wholeWhy === undefined ? {} : { wholeWhy: result.wholeWhy }),
        memoryBytes: result.pages * 4096,
        ...(result.filesWalked === undefined ? {} : { filesWalked: result.filesWalked }),
      };
    },
    presync: (path, generation) => checkpointer.presync({ path, generation }),
    acked: (epoch) => checkpointer.acked(epoch),
    stop: () => checkpointer.stop(),
  };
}

async function openStore(
  shared: AgentShared,
  record: PairRecord,
  app: Application,
  onGone: () => void,
): Promise<StoreControl> {
  const { config } = shared;
  const paths = await writeRoots(shared, record, app);
  await mkdir(paths.store, { recursive: true, mode: 0o700 });
  await mkdir(paths.spool, { recursive: true, mode: 0o700 });
  const store = await CheckpointStore.start({
    program: join(config.nativeDir, "bin/ftstore"),
    pair: record.id,
    dir: paths.store,
    spool: paths.spool,
    rootPid: app.initPid,
    roots: paths.roots,
    subject: `standby of ${record.name}`,
    onGone,
  });
  let prepared: boolean | undefined;
  const lazyFromOf = (whole: boolean) => (whole ? undefined : lazyFrom(config.restore));
  const emptyImages = async () => {
    await rm(paths.images, { recursive: true, force: true });
    await mkdir(paths.images, { recursive: true, mode: 0o700 });
  };
  return {
    get epoch() {
      return store.epoch;
    },
    get generation() {
      return store.generation;
    },
    commit: (epoch, _generation, path) => store.commit({ epoch, path }),
    async prepare(whole) {
      prepared = undefined;
      await emptyImages();
      await store.prepare(paths.images, lazyFromOf(whole));
      prepared = whole;
    },
    async unprepare() {
      prepared = undefined;
      await rm(paths.images, { recursive: true, force: true });
    },
    async materialize(whole) {
      const isPrepared = prepared === whole;
      prepared = undefined;
      const given = isPrepared
        ? // An epoch may have come since.
          await store.materialize(paths.images, lazyFromOf(whole), true).catch(() => undefined)
        : undefined;
      if (given) return { ...given, imagesDir: paths.images };
      await emptyImages();
      const { epoch, generation } = await store.materialize(paths.images, lazyFromOf(whole));
      return { epoch, generation, imagesDir: paths.images };
    },
    async discard() {
      await store.discard();
      // They hold as much memory as the application; what of it is still to be given, its feeder holds open.
      await rm(paths.images, { recursive: true, force: true });
    },
    stop: () => store.stop(),
  };
}

function lazyFrom(restore: AgentConfig["restore"]): number | undefined {
  if (restore === "whole") return undefined;
  return restore === "lazy" ? 0 : limits.lazyRestoreBytesMin;
}

function shipper(shared: AgentShared, record: PairRecord) {
  const { identity, book, clock, faults, log } = shared;
  const peer = book.find(record.peer);
  if (!peer) {
    throw new FtError({
      code: "PEER_UNKNOWN",
      subject: `host ${record.peer}`,
      message: "not known here",
    });
  }
  const sender = new StreamSender({ identity, peer, pair: record.id, clock, faults, log });
  return {
    async ship(request: {
      epoch: number;
      base: number;
      generation: number;
      path: string;
      bytes: number;
    }) {
      const reply = await sender.sendEpoch(request);
      if (reply.outcome === "committed") return { commitMs: reply.commitMs };
      const why = reply.outcome === "refused" ? `${reply.code}: ${reply.detail}` : "busy";
      throw new FtError({
        code: reply.outcome === "refused" ? "EPOCH_REFUSED" : "STANDBY_BUSY",
        subject: `epoch ${request.epoch} of ${record.name}`,
        message: `${record.peer} did not commit it: ${why}`,
      });
    },
    close: () => sender.close(),
  };
}
