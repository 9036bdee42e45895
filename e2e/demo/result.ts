/** What the demo writes to e2e/out/demo.json. */
import type { PairView, Percentiles } from "../../orchestrator/agent/api-types.js";
import type { Verdict } from "../checkers/verdict.js";

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
}

/** `before` is the primary's last word before it died; `after` the standby's, once it had taken over. */
export function demoResult(
  verdict: Verdict,
  before: PairView,
  after: PairView,
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
  };
}

function percentiles(from: Percentiles | undefined, what: string): { p50: number; p99: number } {
  if (!from) throw new Error(`the primary reports no ${what}`);
  return { p50: round(from.p50), p99: round(from.p99) };
}

function withAverage(from: Percentiles | undefined): { avg: number; p50: number; p99: number } {
  const { p50, p99 } = percentiles(from, "outputDelayMs");
  return { avg: round(from?.avg ?? 0), p50, p99 };
}

const round = (ms: number): number => Math.round(ms * 10) / 10;
