/**
 * What a pair needs of the machine, as narrow interfaces. `agent/wiring.ts` binds them to the gate, CRIU, Docker
 * and the links; tests bind them to fakes.
 */
import type { Percentiles } from "../agent/api-types.js";
import type { Dumper, Shipper } from "../epoch/ports.js";
import type { PairRecord } from "./record.js";

export type GateMode = "closed" | "hold" | "log" | "open" | "takeover";

/** Which end of the shipping stream a gate is (mode hybrid). */
export type ShipRole = "source" | "mirror";

export interface GateFacts {
  mode: GateMode;
  generation: number;
  /** Epoch that egress is stamped with now. */
  epoch: number;
  heldFrames: number;
  heldBytes: number;
  heldOldestMs: number | undefined;
  leaseFresh: boolean;
  outputDelayMs: Percentiles | undefined;
  /** Mode hybrid. */
  log: LogFacts | undefined;
}

export interface LogFacts {
  up: boolean;
  /** Of the event log alone, since the stream began. */
  bytes: number;
  /** In the stream and not yet acknowledged. */
  unackedBytes: number;
  freeBytes: number | undefined;
  /** How often the application waited for room in the log. */
  waits: number;
  /** From sending to the standby's acknowledgement. */
  delayMs: Percentiles | undefined;
}

export type GateNews =
  | { kind: "held"; epoch: number }
  | { kind: "bound"; reached: boolean }
  | { kind: "peerBeat"; state: "alive" | "silent"; silentMs: number }
  | {
      kind: "peerFlags";
      agent: boolean;
      app: "running" | "exited" | "none";
      lan: boolean;
      generation: number;
    }
  | { kind: "lan"; state: "up" | "down" }
  | { kind: "thawedByDisconnect" }
  /** The stream to the standby: its link, its room, its source. */
  | { kind: "ship"; state: "lost" | "back" | "full" | "room" | "broken" | "ended"; reason: string }
  /** The peer serves with a higher generation. */
  | { kind: "fenced"; generation: number }
  | { kind: "gone"; reason: string };

export interface GateControl {
  /** Its connection has ended, even if nobody was there yet to hear the news of it. */
  readonly gone: boolean;
  mode(mode: GateMode, generation: number, epoch?: number): Promise<void>;
  commit(epoch: number): Promise<{ frames: number; bytes: number; stillHeld: boolean }>;
  announce(): Promise<void>;
  /** Begins to ship the event log, or to store what the peer ships. */
  ship(role: ShipRole): Promise<void>;
  /** The standby has committed the epoch: what led to it is not needed any more. */
  trim(epoch: number): Promise<void>;
  attach(initPid: number): Promise<void>;
  beat(flags: { app: "running" | "exited" | "none"; lan: boolean; epoch: number }): Promise<void>;
  facts(): Promise<GateFacts>;
  /** Ends the gate and removes its interfaces. */
  quit(): Promise<void>;
  /** Lets go of the gate; it goes on by itself. */
  release(): void;
}

export interface GateSetup {
  record: PairRecord;
  initPid: number;
  onNews: (news: GateNews) => void;
}

export interface Application {
  /** Of ftinit, on the host. */
  initPid: number;
  /** Inside of the container; 0 while it has not started. */
  pid: number;
}

export interface ExitNews {
  status: number;
  signal: number;
}

export interface StoreControl {
  /** Last whole epoch; 0 = none. */
  readonly epoch: number;
  readonly generation: number;
  commit(
    epoch: number,
    generation: number,
    path: string,
  ): Promise<{ bytes: number; commitMs: number }>;
  /** As materialize(), ahead of a takeover that may not come; void as soon as an epoch is committed. Fails if it would take long. */
  prepare(whole: boolean): Promise<void>;
  /** It is not needed. */
  unprepare(): Promise<void>;
  /** `whole`: none of the memory may come after the restore. */
  materialize(whole: boolean): Promise<{ epoch: number; imagesDir: string; generation: number }>;
  discard(): Promise<void>;
  stop(): Promise<void>;
}

/** The container on this host, through Docker and ftinit. */
export interface ContainerControl {
  create(record: PairRecord): Promise<string>;
  /** Starts it if it does not run; ftinit waits. */
  start(containerId: string): Promise<Application>;
  /** A restored process becomes the application. */
  adopt(app: Application, pid: number): Promise<Application>;
  /** Undefined when it does not run. */
  running(containerId: string): Promise<Application | undefined>;
  /** Its ftinit runs and has not been told to start the application yet. */
  waiting(containerId: string): Promise<boolean>;
  startApplication(app: Application): Promise<Application>;
  /** Whether the process of that number (in the container) is there. One that was restored and not adopted is nobody's. */
  lives(app: Application, pid: number): Promise<boolean>;
  watchExit(app: Application, onExit: (news: ExitNews) => void): () => void;
  remove(containerId: string): Promise<void>;
  /** `wide`: for restored connections, which send all that was unacknowledged at once. */
  configureInterface(record: PairRecord, initPid: number, window: "wide" | "normal"): Promise<void>;
}

export interface RestoreResult {
  pid: number;
  restoreMs: number;
  /** Of them, CRIU's and, where memory comes later, until ftfeed was ready. */
  criuMs: number;
  /** Memory that comes while the application runs already. */
  lazyBytes: number;
}

export interface ReplayOutcome {
  outcome: "replayed" | "diverged" | "stalled" | "corrupt";
  /** `key=value` lines of the recorder's report. */
  fields: Record<string, string>;
  text: string;
}

/** `beginning`: the application was restored without its log, and its recorder is about to write a new one. */
export interface Recording {
  is: "underWay" | "beginning" | "none";
  /** If it is not under way, for a person. */
  why: string;
}

/** The event log's file on this host (mode hybrid). */
export interface LogControl {
  /** An empty one, for an application that is about to start. */
  make(record: PairRecord): Promise<void>;
  /** Whether a recorder writes it: one is loaded, and has not given up. */
  recording(record: PairRecord): Promise<Recording>;
  /** Forgets what nobody will ever replay: while there is no standby, and no gate ships. */
  discard(record: PairRecord): Promise<void>;
  /** None: the gate of a new standby makes its copy of the primary's. */
  clear(record: PairRecord): Promise<void>;
  /**
   * A process that is restored from now on replays, then its connections are rebuilt, and it goes on recording. False:
   * what was shipped does not lead from that checkpoint, so no output later than it can have been released. A process that
   * is restored from now on does not replay, and begins a new log.
   * What an earlier replay did to the container's files is undone.
   * @throws FILES_CHANGED if it cannot be
   * @param paced  the recorded intervals between calls are enforced
   */
  arm(record: PairRecord, app: Application, epoch: number, paced: boolean): Promise<boolean>;
  /** Starts what arm() needs, ahead of a takeover that may not come. */
  prepare(record: PairRecord, app: Application, epoch: number): Promise<void>;
  /** It is not needed. */
  unprepare(record: PairRecord): void;
  /** Of the replay that was armed; undefined while it runs. */
  outcome(record: PairRecord): Promise<ReplayOutcome | undefined>;
  /** What became of the connections; throws if they could not be handed over. */
  connections(record: PairRecord): Promise<ConnectionsOutcome>;
  /** Nobody waits for a replay any more. */
  disarm(record: PairRecord): void;
  /** The same, and what is restored from now on, from that checkpoint, does not replay: it begins a new log. */
  giveUp(record: PairRecord, app: Application, epoch: number): Promise<void>;
  /** The takeover is over: there will be no other replay from that checkpoint. */
  settled(record: PairRecord, epoch: number): Promise<void>;
}

export interface ConnectionsOutcome {
  claims: number;
  rebuilt: number;
  failed: number;
  waiting: number;
}

/** Makes the working parts of a pair on this host. */
export interface PairParts {
  log: LogControl;
  container: ContainerControl;
  openGate(setup: GateSetup): Promise<GateControl>;
  /** `onGone`: it died or hung, without having been told to stop. */
  openDumper(record: PairRecord, app: Application, onGone: () => void): Promise<PairDumper>;
  openStore(record: PairRecord, app: Application, onGone: () => void): Promise<StoreControl>;
  shipper(record: PairRecord): Shipper & { close(): void };
  /** `keep`: it is not the application yet, `container.adopt` makes it that; `clear`: only ends what `keep` has left. */
  restore(
    record: PairRecord,
    app: Application,
    imagesDir: string,
    only?: "keep" | "clear",
  ): Promise<RestoreResult>;
  /** Starts what restore() needs with the same `only`, ahead of a takeover that may not come. */
  prepareRestore(record: PairRecord, app: Application, only?: "keep"): void;
  /** It is not needed. */
  unprepareRestore(record: PairRecord): void;
  /** Whether nothing of a restored application's memory is missing; waits for it so long. */
  memoryIsThere(app: Application, waitMs: number): Promise<boolean>;
  /** Why memory that was missing did not come; undefined: it did, or still comes. */
  memoryLoss(record: PairRecord): Promise<string | undefined>;
  /** Removes what is left of the pair on the run dir's tmpfs. Nothing of it may run any more. */
  forget(pair: string): Promise<void>;
}

export interface PairDumper extends Dumper {
  /** Ships nothing; makes the blob of a files-only epoch while the application runs. */
  presync(path: string, generation: number): Promise<{ bytes: number; more: boolean }>;
  stop(): Promise<void>;
}

export interface PeerStatus {
  known: boolean;
  role: "primary" | "standby" | "none";
  state: string;
  generation: number;
  committedEpoch: number;
  standbyReady: boolean;
  /** A standby that cannot say yet whether it goes on, or from what: its agent has just started, or it is taking over. */
  undecided: boolean;
  lan: "up" | "down" | "unknown";
}

/** The other host's agent. Every call is bounded; `PEER_UNREACHABLE` when it does not answer. */
export interface PeerControl {
  ping(timeoutMs: number): Promise<void>;
  status(pair: string, mine: { role: string; generation: number }): Promise<PeerStatus>;
  buildStandby(
    record: PairRecord,
    progress: (message: string, done?: number, total?: number) => void,
  ): Promise<void>;
  takeOver(
    pair: string,
    generation: number,
    epoch: number,
    reason: string,
  ): Promise<{ done: boolean; generation: number; why?: string }>;
  stopped(pair: string, generation: number): Promise<void>;
  remove(pair: string, generation: number): Promise<void>;
}

/** The container as it was before `protect`, and as `unprotect` makes it again. */
export interface Origin {
  id: string;
  name: string;
  image: string;
  imageId: string;
  containerSpec: Record<string, unknown>;
  plainSpec: Record<string, unknown>;
}

/** Docker's side of `protect` and `unprotect`. */
export interface OriginControl {
  inspect(ref: string, pairId: string, address: string, recorded: boolean): Promise<Origin>;
  /**
   * The original aside and stopped, its protected form in its place with the same files, ftinit waiting. Fails whole;
   * `undo` brings the original back as it was.
   */
  replace(
    origin: Origin,
    tell: (message: string) => void,
  ): Promise<{ containerId: string; undo: () => Promise<void> }>;
  remove(containerId: string): Promise<void>;
  /** Ends a protected container and makes the plain one in its place, with its files as they are now. Returns its id. */
  makePlain(
    containerId: string,
    plainSpec: Record<string, unknown>,
    originalId: string,
  ): Promise<string>;
}
