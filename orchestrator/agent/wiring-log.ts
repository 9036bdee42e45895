/** Binds the pair's event log to its file, ftlog and ftlive. */
import { existsSync } from "node:fs";
import { chmod, mkdir, open, readdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { WaitingProgram } from "../../criu/waiting-program.js";
import { FtError } from "../errors/error.js";
import { limits } from "../limits.js";
import { LineFields, parseLine } from "../network/line-client.js";
import type { Application, LogControl, Recording, ReplayOutcome } from "../pair/ports.js";
import type { PairRecord } from "../pair/record.js";
import { ftlogOf, logFailure, SAME_BUILD } from "./ftlog.js";
import type { AgentShared } from "./main.js";
import { pairPaths } from "./paths.js";
import { filesAsOf, forgetFiles } from "./wiring-files.js";

/** Where a replayed process finds ftlive: an abstract socket of the container's network namespace (native/init). */
const LIVE_NAME = "ftctl-live";
const OUTCOMES = ["none", "replayed", "diverged", "stalled", "corrupt"] as const;
/** The report page of docs/log-format.md. */
const REPORT = { at: 4096, bytes: 4096, textAt: 64 };

/** The lane table: heads, tails, states. */
const LANES = { at: 2 * 4096, bytes: limits.logLanes * 128 };
/** Of its header, likewise. */
const HEADER = { bytes: 192, version: 8, mode: 64, lost: 124, owner: 128 };
const MODES = { record: 1, anew: 5 };
const LOSSES = ["nothing", "lanes", "objects", "descriptor", "record", "fork", "call"];
/** Of native/log/format.h. */
const LOG_VERSION = 2;

/** Started ahead, for a replay from this epoch: ftlive, and ftlog that checks and then arms. */
interface Prepared {
  epoch: number;
  broker: WaitingProgram;
  armer: WaitingProgram;
}

export function logControl(shared: AgentShared): LogControl {
  const { config } = shared;
  const program = (name: string) => join(config.nativeDir, "bin", name);
  /** Those that hand over connections, once armed. */
  const brokers = new Map<string, WaitingProgram>();
  const prepared = new Map<string, Prepared>();
  const ftlog = ftlogOf(config.nativeDir);
  const make = async (record: PairRecord, ...how: "anew"[]) => {
    const { logFolder, log } = pairPaths(config.runDir, record.id);
    await mkdir(logFolder, { recursive: true, mode: 0o755 });
    const fresh = `${log}.new`;
    await ftlog("create", fresh, limits.logLanes, limits.logSegments, ...how);
    // The application may be any user; the folders above it on the host are root's alone.
    await chmod(fresh, 0o666);
    await rename(fresh, log);
  };
  /** Resolves when the last one is gone, and with it the name that it listened under: the next one wants the same. */
  const leaving = new Map<string, Promise<unknown>>();
  const disarm: LogControl["disarm"] = (record) => {
    const broker = brokers.get(record.id);
    if (broker === undefined) return;
    broker.end();
    brokers.delete(record.id);
    leaving.set(record.id, broker.outcome());
  };
  const startBroker = (record: PairRecord, app: Application, epoch: number) =>
    new WaitingProgram(program("ftlive"), [
      ...["--pid", app.initPid, "--name", LIVE_NAME, "--epoch", epoch, "--wait"],
      ...["--frames", pairPaths(config.runDir, record.id).frames],
      ...["--timeout-ms", limits.replayTimeoutMs],
    ]);
  const startArmer = (record: PairRecord) =>
    new WaitingProgram(
      program("ftlog"),
      ["arm", pairPaths(config.runDir, record.id).log, join(config.nativeDir, "lib/libftrec.so")],
      { errors: "kept" },
    );
  const unprepare = (pair: string) => {
    prepared.get(pair)?.broker.end();
    prepared.get(pair)?.armer.end();
    prepared.delete(pair);
  };
  /** For this epoch, and still there; the other one is ended. */
  const takePrepared = (record: PairRecord, epoch: number) => {
    const found = prepared.get(record.id);
    const fits = found?.epoch === epoch ? found : undefined;
    if (fits) prepared.delete(record.id);
    else unprepare(record.id);
    return {
      broker: fits?.broker.lives ? fits.broker : undefined,
      armer: fits?.armer.lives ? fits.armer : undefined,
    };
  };
  return {
    make: (record) => make(record),
    async prepare(record, app, epoch) {
      unprepare(record.id);
      const broker = startBroker(record, app, epoch);
      await yieldToNews();
      prepared.set(record.id, { epoch, broker, armer: startArmer(record) });
    },
    unprepare: (record) => unprepare(record.id),
    async recording(record) {
      const header = await readAt(pairPaths(config.runDir, record.id).log, 0, HEADER.bytes);
      const word = (at: number) => header.readUInt32LE(at);
      if (word(HEADER.version) !== LOG_VERSION) {
        throw new FtError({
          code: "LOG_VERSION",
          subject: record.name,
          message: `its event log has version ${word(HEADER.version)}, not ${LOG_VERSION}`,
          hint: SAME_BUILD,
        });
      }
      return recordingOf(word(HEADER.mode), word(HEADER.lost), word(HEADER.owner));
    },
    discard: (record) => ftlog("trim", pairPaths(config.runDir, record.id).log),
    async clear(record) {
      const { dir, logFolder, log, frames } = pairPaths(config.runDir, record.id);
      await mkdir(logFolder, { recursive: true, mode: 0o755 });
      const kept = (await readdir(dir)).filter((name) => /^(lanes|files)-/.test(name));
      for (const name of kept) await rm(join(dir, name), { recursive: true, force: true });
      await rm(log, { force: true });
      await rm(frames, { force: true });
    },
    async arm(record, app, epoch, paced) {
      const { dir, log } = pairPaths(config.runDir, record.id);
      disarm(record);
      const late = sleep(limits.handoverTimeoutMs, undefined, { ref: false });
      await Promise.race([leaving.get(record.id), late]);
      const ahead = takePrepared(record, epoch);
      const broker = ahead.broker ?? startBroker(record, app, epoch);
      const armer = ahead.armer ?? startArmer(record);
      broker.tell("go");
      // Docker is asked for the roots, which takes milliseconds, while ftlive gets ready.
      const files = filesAsOf(shared, record, app, epoch);
      files.catch(() => {}); // nobody waits for it if there is nothing to replay
      const first = await broker.next(limits.handoverTimeoutMs);
      if (first === "ready") {
        brokers.set(record.id, broker);
        try {
          await asShipped(log, join(dir, `lanes-${epoch}`));
          await files;
          await chmod(log, 0o666);
          armer.tell(paced ? "go paced" : "go");
          await armed(log, armer);
        } catch (error) {
          armer.end();
          disarm(record);
          throw error;
        }
        return true;
      }
      armer.end();
      const line = first === undefined ? undefined : parseLine(first);
      if (line?.values.get("code") === "uncovered") {
        // What is restored maps a file of that size; there is nothing in the mirror's that it may go by.
        await make(record, "anew");
        return false;
      }
      throw brokerFailed(record.name, first);
    },
    async outcome(record) {
      const { log } = pairPaths(config.runDir, record.id);
      return decodeReport(await readAt(log, REPORT.at, REPORT.bytes));
    },
    async connections(record) {
      const broker = brokers.get(record.id);
      brokers.delete(record.id);
      const last = await broker?.next(limits.handoverTimeoutMs);
      const line = last === undefined ? undefined : parseLine(last);
      if (line?.kind !== "ok") throw brokerFailed(record.name, last);
      const fields = new LineFields(record.name, line.values);
      return {
        claims: fields.number("claims"),
        rebuilt: fields.number("rebuilt"),
        failed: fields.number("failed"),
        waiting: fields.number("waiting"),
      };
    },
    settled: (record, epoch) => forgetFiles(shared, record, epoch),
    disarm,
    async giveUp(record, app, epoch) {
      disarm(record);
      await filesAsOf(shared, record, app, epoch);
      await make(record, "anew");
    },
  };
}

export function recordingOf(mode: number, lost: number, owner: number): Recording {
  const none = (why: string) => ({ is: "none" as const, why });
  if (lost !== 0) return none(`its recording is lost: ${LOSSES[lost] ?? lost}`);
  if (mode === MODES.anew) {
    const why = "it was restored without its event log, and its recorder has not begun anew yet";
    return { is: "beginning", why };
  }
  if (mode !== MODES.record) return none("the application is not recorded");
  return owner === 0
    ? none("no recorder is loaded in the application")
    : { is: "underWay", why: "" };
}

/**
 * An earlier attempt may have come to the end of its replay and have recorded more. From the checkpoint that cannot be
 * replayed, and nothing of it has left: the lanes end again where the primary's did.
 */
async function asShipped(log: string, kept: string): Promise<void> {
  if (!existsSync(kept)) {
    const lanes = await readAt(log, LANES.at, LANES.bytes);
    await writeFile(`${kept}.new`, lanes, { mode: 0o600 });
    return rename(`${kept}.new`, kept);
  }
  const lanes = asReached(await readFile(kept), await readAt(log, LANES.at, LANES.bytes));
  // Before the file says nothing of it any more.
  await writeFile(`${kept}.new`, lanes, { mode: 0o600 });
  await rename(`${kept}.new`, kept);
  const file = await open(log, "r+");
  try {
    await file.write(lanes, 0, LANES.bytes, LANES.at);
  } finally {
    await file.close();
  }
}

/** Offsets in a lane's entry; the accounts of what was stored are between `stored` and the next field, and again. */
const LANE = { bytes: 128, head: 0, accounts: [16, 80], accountBytes: 32, reached: 48 };

/**
 * The lanes as they were shipped, and where a replay has reached its end before theirs, cut there: what it did not reach
 * waits for what never came, so it is no part of what happened; and recording has gone on over those bytes.
 */
export function asReached(shipped: Buffer, now: Buffer): Buffer {
  const lanes = Buffer.from(shipped);
  for (let at = 0; at < lanes.length; at += LANE.bytes) {
    const reached = now.readBigUInt64LE(at + LANE.reached);
    if (reached === 0n || reached - 1n >= lanes.readBigUInt64LE(at + LANE.head)) continue;
    lanes.writeBigUInt64LE(reached - 1n, at + LANE.head);
    // They speak of an end that is none any more.
    for (const account of LANE.accounts) {
      lanes.fill(0, at + account, at + account + LANE.accountBytes);
    }
  }
  return lanes;
}

async function readAt(path: string, at: number, bytes: number): Promise<Buffer> {
  const file = await open(path, "r");
  try {
    const buffer = Buffer.alloc(bytes);
    await file.read(buffer, 0, bytes, at);
    return buffer;
  } finally {
    await file.close();
  }
}

/** What is left of the log is whole, and the next process that is restored replays it. */
async function armed(log: string, armer: WaitingProgram): Promise<void> {
  const said = await armer.next(limits.logCommandTimeoutMs);
  if (said === "armed") return;
  armer.end();
  const { code, errors } = await armer.outcome();
  throw logFailure("arm", log, code, errors.trim() || said || "it ended without a word");
}

/** To start a program holds up everything else here. */
const yieldToNews = () => new Promise((resolve) => setImmediate(resolve));

function brokerFailed(name: string, said: string | undefined): FtError {
  return new FtError({
    code: "CONNECTIONS_FAILED",
    subject: `container ${name}`,
    message: `its connections cannot be handed over: ftlive said ${said ?? "nothing"}`,
  });
}

export function decodeReport(page: Buffer): ReplayOutcome | undefined {
  if (page.readUInt32LE(0) === 0) return undefined;
  const outcome = OUTCOMES[page.readUInt32LE(4)];
  const bytes = Math.min(page.readUInt32LE(8), REPORT.bytes - REPORT.textAt);
  const text = page.toString("utf8", REPORT.textAt, REPORT.textAt + bytes);
  const fields: Record<string, string> = {};
  for (const line of text.split("\n")) {
    const at = line.indexOf("=");
    if (at > 0) fields[line.slice(0, at)] ??= line.slice(at + 1);
  }
  return {
    outcome: outcome === undefined || outcome === "none" ? "corrupt" : outcome,
    fields,
    text,
  };
}
