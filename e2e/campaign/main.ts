/**
 * `make campaign N=100`: random faults at random times under load; one failure is a bug.
 *
 *   node main.js [--runs N] [--seed S] [--workload W[,W…]] [--mode checkpoint|hybrid] [--faults KIND[,KIND…]]
 *                [--pacing off|on-retry|always] [--only-run SEED] [--keep]
 *
 * The environment's N, SEED, WORKLOAD, MODE and PACING stand for the flags. --pacing is the policy's, for mode hybrid: what races cost without it.
 * --faults draws only faults of these kinds (killHost, …).
 * --only-run repeats one run by its own seed; mode, workloads and kinds have to be the same.
 */
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";
import type { Verdict } from "../checkers/verdict.js";
import { collectEvidence } from "../runner/evidence.js";
import { Ftctl } from "../runner/ftctl.js";
import { LabHosts } from "../runner/hosts.js";
import { PairPool } from "../runner/pair-pool.js";
import { pause } from "../runner/poll.js";
import { bounded, type RunContext } from "../runner/run-scenarios.js";
import { underLoad } from "../runner/scenario.js";
import { outFolder } from "../runner/workloads.js";
import { untilCovered } from "../scenarios/hybrid.js";
import { WORKLOAD_NAMES, type WorkloadName } from "../workloads/workloads.js";
import { failureRateUpperBound } from "./confidence.js";
import { hybridWorkloads, recordable } from "./hybrid-plan.js";
import { checkpointWorkloads, describeFault, planCampaign, planRun } from "./plan.js";
import { addReplays, noReplays, type Replays, watchReplays } from "./replays.js";
import { type CampaignMode, campaignModes, faultKinds, pacings, type Run } from "./run.js";
import { strike } from "./strike.js";

const runBoundMs = 180_000;
/** Without checkpoints to wait for clients write so much that the service is made anew now and then, lest it only grow. */
const hybridRunsPerService = 10;

interface RunResult extends Run {
  ok: boolean;
  ms: number;
  verdict?: Verdict;
  /** Mode hybrid. */
  replays?: Replays;
  failure?: string;
  evidence?: string;
}

const say = (line: string) => process.stdout.write(`${line}\n`);

interface Settings {
  seed: number;
  keep: boolean;
  mode: CampaignMode;
  /** What a single run's repetition needs besides its seed. */
  again: string;
  plan: Run[];
}

function settings(): Settings {
  const { values } = parseArgs({
    options: {
      runs: { type: "string" },
      seed: { type: "string" },
      workload: { type: "string" },
      mode: { type: "string" },
      faults: { type: "string" },
      pacing: { type: "string" },
      "only-run": { type: "string" },
      keep: { type: "boolean", default: false },
    },
  });
  const given = (flag: string | undefined, variable: string) =>
    flag ?? (process.env[variable] || undefined);
  const mode = oneOf(campaignModes, given(values.mode, "MODE") ?? "checkpoint", "mode");
  const pacingText = given(values.pacing, "PACING");
  const pacing = pacingText === undefined ? undefined : oneOf(pacings, pacingText, "pacing");
  const workloadText = given(values.workload, "WORKLOAD");
  const chosen = workloadsFor(mode, workloadText);
  const kinds = values.faults?.split(",").map((kind) => oneOf(faultKinds, kind, "kind of fault"));
  const runs = wholeNumber(given(values.runs, "N") ?? "100", "runs");
  const drawn = String(Math.floor(Math.random() * 2 ** 32));
  const seed = wholeNumber(given(values.seed, "SEED") ?? drawn, "seed");
  const only = values["only-run"];
  const choice = {
    workloads: chosen,
    mode,
    ...(kinds ? { kinds } : {}),
    ...(pacing ? { pacing } : {}),
  };
  return {
    seed,
    keep: values.keep,
    mode,
    again: [
      mode === "checkpoint" ? "" : ` --mode ${mode}`,
      workloadText === undefined ? "" : ` --workload ${workloadText}`,
      kinds === undefined ? "" : ` --faults ${kinds.join(",")}`,
      pacing === undefined ? "" : ` --pacing ${pacing}`,
    ].join(""),
    plan:
      only === undefined
        ? planCampaign(seed, runs, choice)
        : [planRun(1, wholeNumber(only, "only-run"), choice)],
  };
}

function workloadsFor(mode: CampaignMode, text: string | undefined): readonly WorkloadName[] {
  const possible = mode === "hybrid" ? recordable : WORKLOAD_NAMES;
  const drawn = mode === "hybrid" ? hybridWorkloads : checkpointWorkloads;
  const chosen = text?.split(",").map((name) => oneOf(WORKLOAD_NAMES, name, "workload")) ?? drawn;
  const refused = chosen.filter((name) => !possible.includes(name));
  if (refused.length > 0) {
    throw new Error(
      `mode ${mode}: ${refused.join(", ")} cannot be recorded, ${possible.join(", ")} can`,
    );
  }
  return chosen;
}

function oneOf<T extends string>(known: readonly T[], text: string, what: string): T {
  const found = known.find((each) => each === text);
  if (found === undefined) throw new Error(`${what} ${text} is not one of ${known.join(", ")}`);
  return found;
}

function wholeNumber(text: string, name: string): number {
  if (!/^\d{1,10}$/.test(text)) throw new Error(`${name} must be a whole number, is ${text}`);
  return Number(text);
}

async function runOne(context: RunContext, run: Run): Promise<RunResult> {
  const beganMs = performance.now();
  const took = () => Math.round(performance.now() - beganMs);
  const replaysSince = watchReplays(context.hosts);
  const replays = () => (run.mode === "hybrid" ? { replays: replaysSince() } : {});
  try {
    const { verdict } = await bounded(`run ${run.number}`, runBoundMs, loadAndStrike(context, run));
    const seen = replays();
    // What was restored without its log goes on unrecorded, and would be none for the next run.
    if (seen.replays && seen.replays.uncovered > 0) context.pool.distrust();
    return { ...run, ok: true, ms: took(), verdict, ...seen };
  } catch (error) {
    const failure = error instanceof Error ? error.message : String(error);
    const name = `campaign-${run.number}-${run.seed}`;
    const evidence = await collectEvidence(context.hosts, name, error);
    writeFileSync(join(evidence, "run.json"), `${JSON.stringify(run, null, 2)}\n`);
    const result = { ...run, ok: false, ms: took(), failure, evidence, ...replays() };
    // Whatever is left of it must not be blamed on the next run.
    await context.pool.rebuild();
    return result;
  }
}

async function loadAndStrike(given: RunContext, run: Run) {
  const context = { ...given, note: () => {} };
  const { workload, connections, pipeline, thinkMs, mode, pacing } = run;
  if (mode === "hybrid" && run.number % hybridRunsPerService === 0) await context.pool.clear();
  const options = {
    workload,
    client: {
      ...{ connections, pipeline },
      ...(thinkMs === undefined ? {} : { thinkMs, requestsMax: 4_000_000 }),
    },
    warmUpReplies: 10,
    ...(mode === undefined ? {} : { policy: { mode, ...(pacing ? { pacing } : {}) } }),
  };
  return underLoad(context, options, async (loaded) => {
    if (run.covered) await untilCovered(context, loaded.service, loaded.primary);
    await pause(run.afterMs);
    await strike(context, loaded, run.fault, run.covered ?? false);
  });
}

function show(result: RunResult, total: number, again: string): void {
  const place = `${result.number}/${total}`.padStart(8);
  const what = `${result.workload.padEnd(9)} ${describeFault(result.fault)}`;
  const { replays } = result;
  const replayed =
    replays && replays.attempts > 0
      ? `, ${replays.events} events and ${replays.outputs} outputs replayed in ${Math.round(replays.ms)} ms`
      : "";
  say(
    `${place}  ${result.ok ? "ok  " : "FAIL"}  ${what}  (${(result.ms / 1000).toFixed(1)} s${replayed})`,
  );
  for (const why of replays?.why ?? []) say(`          replayed again: ${why}`);
  if (result.ok) return;
  say(`          ${result.failure?.replaceAll("\n", "\n          ")}`);
  say(`          again: node dist/e2e/campaign/main.js --only-run ${result.seed}${again}`);
  say(`          evidence: ${result.evidence}`);
}

function conclude(mode: CampaignMode, seed: number, results: RunResult[]): number {
  const failures = results.filter((result) => !result.ok).length;
  const bound = failureRateUpperBound(results.length, failures);
  const sum = (field: "acknowledgedWrites" | "lostWrites" | "duplicatedWrites" | "resets") =>
    results.reduce((total, { verdict }) => total + (verdict?.[field] ?? 0), 0);
  const replays = results.reduce(
    (total, result) => addReplays(total, result.replays ?? noReplays()),
    noReplays(),
  );
  const summary = {
    mode,
    seed,
    ...(results[0]?.pacing ? { pacing: results[0].pacing } : {}),
    n: results.length,
    failures,
    failureRateUpperBound95: bound,
    acknowledgedWrites: sum("acknowledgedWrites"),
    lostWrites: sum("lostWrites"),
    duplicatedWrites: sum("duplicatedWrites"),
    resets: sum("resets"),
    ...(mode === "hybrid" ? { replays } : {}),
    runs: results,
  };
  mkdirSync(outFolder(), { recursive: true });
  writeFileSync(join(outFolder(), "campaign.json"), `${JSON.stringify(summary, null, 2)}\n`);
  say("");
  say(
    `${results.length} runs, ${failures} failures, seed ${seed}; ${summary.acknowledgedWrites} acknowledged, ${summary.lostWrites} lost, ${summary.duplicatedWrites} doubled, ${summary.resets} reset`,
  );
  if (mode === "hybrid") {
    const {
      replayed,
      atOnce,
      uncovered,
      attempts,
      diverged,
      stalled,
      otherwise,
      events,
      outputs,
      ms,
    } = replays;
    say(
      `${replayed} replays, ${atOnce} of them at the first attempt, in ${attempts} attempts (${diverged} diverged, ${stalled} stalled, ${otherwise} otherwise), ${uncovered} takeovers without a log; ${events} events and ${outputs} outputs in ${Math.round(ms)} ms`,
    );
  }
  say(`rate of failure below ${(bound * 100).toFixed(2)} % with 95 % confidence`);
  const ms = results.map((result) => result.ms).sort((a, b) => a - b);
  say(`a run took ${((ms[ms.length >> 1] ?? 0) / 1000).toFixed(1)} s (median)`);
  return failures === 0 ? 0 : 1;
}

async function main(): Promise<number> {
  const { seed, plan, keep, mode, again } = settings();
  say(`seed ${seed}, ${plan.length} runs, mode ${mode}`);
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
      show(result, plan.length, again);
    }
    return conclude(mode, seed, results);
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
