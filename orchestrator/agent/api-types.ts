/** What the local API speaks: the shapes behind `ftctl status -o json`, `ls`, `events`, `check`. */
import type { FtErrorJson } from "../errors/error.js";

export type Role = "primary" | "standby";

/**
 * State of a pair as seen by one host. Every loss of protection has a name here.
 *
 * primary: starting → syncing → protected ⇄ blocked (standby lost, output waits)
 *          protected → unprotected (runs alone: after a takeover, or by policy)
 * standby: preparing → warm → takingOver → (becomes primary)
 * both:    switching, standingDown, stopped (the application ended), failed (needs a person)
 */
export type PairState =
  | "starting"
  | "syncing"
  | "protected"
  | "blocked"
  | "unprotected"
  | "preparing"
  | "warm"
  | "awaitingOperator"
  | "takingOver"
  | "switching"
  | "standingDown"
  | "stopped"
  | "failed";

export interface Percentiles {
  avg: number;
  p50: number;
  p99: number;
  max: number;
  /** Of how many values, where they are all since the beginning. */
  count?: number;
}

export interface PairView {
  id: string;
  /** Name of the container, the same on both hosts. */
  name: string;
  containerId: string;
  image: string;
  role: Role;
  state: PairState;
  /** Why, when the state is not the good one. */
  reason?: string;
  /** The other host's name. */
  peer: string;
  host: string;
  generation: number;
  mode: "checkpoint" | "hybrid";
  policy: string;
  address: string;
  protectedSince?: string;
  /** Last epoch the standby has committed, and its age in milliseconds. */
  committedEpoch: number;
  committedAgeMs?: number;
  epochsCommitted: number;
  epochsSkipped: number;
  heldFrames: number;
  heldBytes: number;
  heldOldestMs?: number;
  leaseFresh: boolean;
  pauseMs?: Percentiles;
  /** Medians of what the pause consists of. */
  pausePartsMs?: Record<string, number>;
  /** How written memory is found: `wp-async`, `soft-dirty`, or `full` where all of it is dumped every time. */
  tracking?: string;
  /** Why all memory, or that of some process, is dumped whole. */
  wholeWhy?: string;
  memoryBytes?: number;
  /** Of the last checkpoint: why all files were looked at; absent when the kernel told which changed. */
  filesWalked?: string;
  dumpMs?: Percentiles;
  shipMs?: Percentiles;
  commitMs?: Percentiles;
  outputDelayMs?: Percentiles;
  bytesPerEpoch?: Percentiles;
  /** Mode hybrid: the event log. */
  log?: LogView;
  peerState: "alive" | "silent" | "unknown";
  /** Of the last takeover on this host. */
  takeover?: {
    at: string;
    detectionMs: number;
    restoreMs: number;
    totalMs: number;
    epoch: number;
    /** Memory that came while the application ran already; 0: all of it was there. */
    lazyBytes?: number;
    /** Until it was all there; undefined: not yet, or none came later. */
    fillMs?: number;
    /** When each step began, counted from the takeover's beginning, and how long it took. Some run beside others. */
    steps?: { name: string; atMs: number; ms: number }[];
    /** Mode hybrid: what was replayed from that epoch on. */
    replay?: {
      ms: number;
      events: number;
      outputs: number;
      /** From the checkpoint on; more than one: a replay diverged or stalled, and was made again. */
      attempts: number;
      rebuilt: number;
      failed: number;
      /** At the log's end: records that wait for what never came, and did not happen again (docs/recorder.md). */
      unreachedBytes: number;
    };
  };
  lastError?: FtErrorJson;
}

export interface LogView {
  /** Output waits for the log; if not, for checkpoints. */
  covers: boolean;
  /** Why it does not, as the last checkpoint found. */
  why?: string;
  /** The standby receives it. */
  up: boolean;
  bytes: number;
  unackedBytes: number;
  freeBytes?: number | undefined;
  waits: number;
  delayMs?: Percentiles | undefined;
}

export interface FtEvent {
  seq: number;
  at: string;
  host: string;
  pair?: string;
  name?: string;
  /** Stable, kebab-case: `protected`, `standby-lost`, `takeover-done`, `epoch-skipped`… */
  type: string;
  level: "info" | "warning" | "error";
  message: string;
  fields?: Record<string, string | number | boolean>;
}

export interface CheckResult {
  name: string;
  host: string;
  status: "ok" | "warning" | "failed";
  reason: string;
  remedy?: string;
}

export interface Progress {
  step: string;
  message: string;
  done?: number;
  total?: number;
}

/** A line of a streamed answer (`protect`, `unprotect`, `switchover`, `failover`): any number of progress, then one end. */
export type StreamLine<T> =
  | { kind: "progress"; progress: Progress }
  | { kind: "result"; result: T }
  | { kind: "error"; error: FtErrorJson };

export interface CheckRequest {
  container: string;
  standby?: string;
  /** The parsed and validated ProtectionPolicy document; absent: built-in `default` and container labels. */
  policy?: unknown;
}
export interface ProtectRequest extends CheckRequest {
  policyName?: string;
}
export interface PairRequest {
  pair: string;
  force?: boolean;
}

export interface AgentInfo {
  version: string;
  protocol: number;
  host: string;
  pid: number;
  startedAt: string;
  peers: { host: string; state: "connected" | "unreachable"; version?: string }[];
  criuVersion?: string;
  dockerVersion?: string;
  kernel: string;
}

/** The local API's server side; HTTP over a unix socket is only its transport. */
export interface AgentService {
  info(): Promise<AgentInfo>;
  check(request: CheckRequest): Promise<CheckResult[]>;
  protect(request: ProtectRequest, progress: (p: Progress) => void): Promise<PairView>;
  unprotect(request: PairRequest, progress: (p: Progress) => void): Promise<{ name: string }>;
  switchover(request: PairRequest, progress: (p: Progress) => void): Promise<PairView>;
  failover(request: PairRequest, progress: (p: Progress) => void): Promise<PairView>;
  list(): Promise<PairView[]>;
  /** By id prefix or name; throws NOT_FOUND or AMBIGUOUS. */
  find(ref: string): Promise<PairView>;
  /** Everything known: spec, policy, both views, paths, pids. */
  inspect(ref: string): Promise<Record<string, unknown>>;
  events(after: number, pair: string | undefined, signal: AbortSignal): AsyncIterable<FtEvent>;
  /** Events kept so far, without following. */
  eventsKept(pair: string | undefined): FtEvent[];
  /** The pair's own log lines (agent, gate, CRIU), newest last. */
  logs(ref: string, lines: number): Promise<string[]>;
  metrics(): Promise<string>;
}
