/** What the demo writes to e2e/out/demo.json. */
import type { PairView, Percentiles } from "../../orchestrator/agent/api-types.js";
import type { Verdict } from "../checkers/verdict.js";
import type { Slice } from "../clients/latency.js";

export interface DemoResult {
  mode: string;
  workload: string;
  connections: number;
  resets: number;
  acknowledgedWrites: number;
  lostWrites: number;
  duplicatedWrites: number;
  wrongReplies: number;
  epochsCommitted: number;
  detectionMs: number;
  restoreMs: number;
  outageMs: number;
  pauseMs: { p50: number; p99: number };
  outputDelayMs: { avg: number; p50: number; p99: number };
  /** How long a reply took on average before the power loss: with the output of a service that is protected. */
  replyMs: number;
  /** Mode hybrid: the log that was replayed at the takeover. */
  replay?: { events: number; outputs: number; ms: number; attempts: number };
}

/** `before` is the primary's last word before it died; `after` the standby's, once it had taken over. */
export function demoResult(
  verdict: Verdict,
  before: PairView,
  after: PairView,
  replyMs: number,
  outageMs: number,
): DemoResult {
  const { takeover } = after;
  if (!takeover) throw new Error("the standby says nothing about its takeover");
  return {
    mode: before.mode,
    workload: "redis",
    connections: verdict.connections,
    resets: verdict.resets,
    acknowledgedWrites: verdict.acknowledgedWrites,
    lostWrites: verdict.lostWrites,
    duplicatedWrites: verdict.duplicatedWrites,
    // A reply in another's place is a wrong reply to both.
    wrongReplies: verdict.wrongReplies + verdict.outOfOrder,
    epochsCommitted: before.epochsCommitted,
    detectionMs: round(takeover.detectionMs),
    restoreMs: round(takeover.restoreMs),
    outageMs: round(outageMs),
    pauseMs: percentiles(before.pauseMs, "pauseMs"),
    outputDelayMs: withAverage(before.outputDelayMs),
    replyMs: fine(replyMs),
    ...(takeover.replay ? { replay: replayed(takeover.replay) } : {}),
  };
}

const lookBackUs = 2_000_000;

/** Clients that ask again as soon as they are answered are always waiting, so their number and the replies tell how long. */
export function replyMsBefore(timeline: Slice[], atUs: number, connections: number): number {
  const slices = timeline.filter((slice) => slice.atUs >= atUs - lookBackUs && slice.atUs < atUs);
  const replies = slices.reduce((sum, slice) => sum + slice.replies, 0);
  const fromUs = Math.min(...slices.map((slice) => slice.atUs));
  if (replies === 0) throw new Error("nothing was answered before the power loss");
  return (connections * (atUs - fromUs)) / 1000 / replies;
}

function replayed(replay: NonNullable<NonNullable<PairView["takeover"]>["replay"]>) {
  const { events, outputs, ms, attempts } = replay;
  return { events, outputs, ms: round(ms), attempts };
}

function percentiles(from: Percentiles | undefined, what: string): { p50: number; p99: number } {
  if (!from) throw new Error(`the primary reports no ${what}`);
  return { p50: fine(from.p50), p99: fine(from.p99) };
}

function withAverage(from: Percentiles | undefined): { avg: number; p50: number; p99: number } {
  const { p50, p99 } = percentiles(from, "outputDelayMs");
  return { avg: fine(from?.avg ?? 0), p50, p99 };
}

const round = (ms: number): number => Math.round(ms * 10) / 10;
/** Where microseconds count. */
const fine = (ms: number): number => (ms < 10 ? Math.round(ms * 100) / 100 : round(ms));
