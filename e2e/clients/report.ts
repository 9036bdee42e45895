/** What a load client says at its end; one JSON line. */
import type { Findings } from "./findings.js";
import type { Gap, LatencySummary, Slice } from "./latency.js";

export const workloads = [
  "redis",
  "memcached",
  "nginx",
  "lighttpd",
  "echo",
  "disk",
  "tree",
  "bank",
  "race-none",
  "race-counter",
  "race-flag",
] as const;
export type Workload = (typeof workloads)[number];

export interface ConnectionLedger {
  connection: number;
  sent: number;
  acknowledged: number;
  ending: string;
}

export interface ClientReport {
  workload: Workload;
  run: string;
  connections: number;
  startedUs: number;
  endedUs: number;
  /** Requests answered; for nginx these are reads. */
  acknowledged: number;
  /** Connections that the service (or the network in its name) broke. */
  resets: number;
  /** Connections given up because no answer came within the stall bound. */
  stalled: number;
  /** Connections that were never accepted. */
  refused: number;
  findings: Findings;
  complaints: string[];
  latencyUs: LatencySummary;
  /** Silences of at least 100 ms, longest first, at most 200. */
  gaps: Gap[];
  timeline: Slice[];
  ledgers: ConnectionLedger[];
}

/** What the read-back found after the load. */
export interface VerifyReport {
  findings: Findings;
  complaints: string[];
  /** Records read back and compared. */
  recordsChecked: number;
}

/** A connection (by its port on the client's side) that waits for an answer. */
export interface Waiting {
  connection: number;
  port: number;
  sinceUs: number;
}

export type ClientLine =
  | { kind: "ready"; connections: number }
  | {
      kind: "progress";
      nowUs: number;
      acknowledged: number;
      open: number;
      lastReplyUs: number;
      /** Who has waited longest for an answer, and since when. */
      waiting?: Waiting;
    }
  | { kind: "report"; report: ClientReport }
  | { kind: "verified"; verify: VerifyReport }
  | { kind: "failed"; message: string };
