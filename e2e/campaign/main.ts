/**
 * `make campaign N=100`: random faults at random times under load; one failure is a bug.
 *
 *   node main.js [--runs N] [--seed S] [--workload W[,W…]] [--only-run SEED] [--keep]
 *
 * The environment's N, SEED and WORKLOAD stand for the flags. --only-run repeats one run by its own seed.
 */
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";
import type { Verdict } from "../checkers/verdict.js";
import { type Workload, workloads } from "../clients/report.js";
import { collectEvidence } from "../runner/evidence.js";
import { Ftctl } from "../runner/ftctl.js";
import { LabHosts } from "../runner/hosts.js";
import { PairPool } from "../runner/pair-pool.js";
import { pause } from "../runner/poll.js";
import { bounded, type RunContext } from "../runner/run-scenarios.js";
import { underLoad } from "../runner/scenario.js";
import { outFolder } from "../runner/workloads.js";
import { failureRateUpperBound } from "./confidence.js";
import { describeFault, planCampaign, planRun, type Run } from "./plan.js";
import { strike } from "./strike.js";

const runBoundMs = 180_000;

interface RunResult extends Run {
  ok: boolean;
  ms: number;
  verdict?: Verdict;
  failure?: string;
  evidence?: string;
}

const say = (line: string) => process.stdout.write(`${line}\n`);

function settings() {
  const { values } = parseArgs({
    options: {
      runs: { type: "string" },
      seed: { type: "string" },
      workload: { type: "string" },
      "only-run": { type: "string" },
      keep: { type: "boolean", default: false },
    },
  });
  const seedText = values.seed ?? (process.env.SEED || undefined);
  const workloadText = values.workload ?? (process.env.WORKLOAD || undefined);
  const chosen = workloadText?.split(",") ?? [...workloads];
  for (const name of chosen) {
    if (!(workloads as readonly string[]).includes(name)) {
      throw new Error(`workload ${name} is not one of ${workloads.join(", ")}`);
    }
  }
  const runs = wholeNumber(values.runs ?? (process.env.N || "100"), "runs");
  const seed = wholeNumber(seedText ?? String(Math.floor(Math.random() * 2 ** 32)), "seed");
  const only = values["only-run"];
  return {
    seed,
    keep: values.keep,
    plan:
      only === undefined
        ? planCampaign(seed, runs, chosen as Workload[])
        : [planRun(1, wholeNumber(only, "only-run"), chosen as Workload[])],
  };
}

function wholeNumber(text: string, name: string): number {
  if (!/^\d{1,10}$/.test(text)) throw new Error(`${name} must be a whole number, is ${text}`);
  return Number(text);
}

async function runOne(context: RunContext, run: Run): Promise<RunResult> {
  const beganMs = performance.now();
  const took = () => Math.round(performance.now() - beganMs);
  const options = {
    workload: run.workload,
    client: { connections: run.connections, pipeline: run.pipeline },
    warmUpReplies: 10,
  };
  try {
    const { verdict } = await bounded(
      `run ${run.number}`,
      runBoundMs,
      underLoad({ ...context, note: () => {} }, options, async (loaded) => {
        await pause(run.afterMs);
        await strike({ ...context, note: () => {} }, loaded, run.fault);
      }),
    );
    return { ...run, ok: true, ms: took(), verdict };
  } catch (error) {
    const failure = error instanceof Error ? error.message : String(error);
    const name = `campaign-${run.number}-${run.seed}`;
    const evidence = await collectEvidence(context.hosts, name, error);
    writeFileSync(join(evidence, "run.json"), `${JSON.stringify(run, null, 2)}\n`);
    // Whatever is left of it must not be blamed on the next run.
    await context.pool.rebuild();
    return { ...run, ok: false, ms: took(), failure, evidence };
  }
}

function show(result: RunResult, total: number): void {
  const place = `${result.number}/${total}`.padStart(8);
  const what = `${result.workload.padEnd(9)} ${describeFault(result.fault)}`;
  say(`${place}  ${result.ok ? "ok  " : "FAIL"}  ${what}  (${(result.ms / 1000).toFixed(1)} s)`);
  if (result.ok) return;
  say(`          ${result.failure?.replaceAll("\n", "\n          ")}`);
  say(`          again: node dist/e2e/campaign/main.js --only-run ${result.seed}`);
  say(`          evidence: ${result.evidence}`);
}

function conclude(seed: number, results: RunResult[]): number {
  const failures = results.filter((result) => !result.ok).length;
  const bound = failureRateUpperBound(results.length, failures);
  const sum = (field: "acknowledgedWrites" | "lostWrites" | "duplicatedWrites" | "resets") =>
    results.reduce((total, { verdict }) => total + (verdict?.[field] ?? 0), 0);
  const summary = {
    seed,
    n: results.length,
    failures,
    failureRateUpperBound95: bound,
    acknowledgedWrites: sum("acknowledgedWrites"),
    lostWrites: sum("lostWrites"),
    duplicatedWrites: sum("duplicatedWrites"),
    resets: sum("resets"),
    runs: results,
  };
  mkdirSync(outFolder(), { recursive: true });
  writeFileSync(join(outFolder(), "campaign.json"), `${JSON.stringify(summary, null, 2)}\n`);
  say("");
  say(`${results.length} runs, ${failures} failures, seed ${seed}`);
  say(`rate of failure below ${(bound * 100).toFixed(2)} % with 95 % confidence`);
  return failures === 0 ? 0 : 1;
}

async function main(): Promise<number> {
  const { seed, plan, keep } = settings();
  say(`seed ${seed}, ${plan.length} runs`);
  const progress = (line: string) => process.stderr.write(`${line}\n`);
  const { hosts, started } = await LabHosts.up(["alpha", "beta"], progress);
  const pool = new PairPool(hosts, async () => {
    await hosts.down();
    await LabHosts.up(["alpha", "beta"], progress);
  });
  const results: RunResult[] = [];
  try {
    for (const run of plan) {
      const result = await runOne({ hosts, ftctl: new Ftctl(hosts), pool }, run);
      results.push(result);
      show(result, plan.length);
    }
    return conclude(seed, results);
  } finally {
    if (started && !keep) await hosts.down();
  }
}

main().then(
  (code) => {
    process.exitCode = code;
  },
  (error: unknown) => {
    process.stderr.write(`campaign: ${error instanceof Error ? error.message : String(error)}\n`);
    process.exitCode = 1;
  },
);
