/** Runs scenarios one after the other, each within its bound, and keeps count. */
import pc from "picocolors";
import { collectEvidence } from "./evidence.js";
import type { Context, Scenario } from "./scenario.js";

export interface ScenarioResult {
  name: string;
  ok: boolean;
  ms: number;
  notes: string[];
  failure?: string;
  evidence?: string;
}

export type RunContext = Omit<Context, "note">;

export function select(scenarios: Scenario[], all: boolean, filters: string[]): Scenario[] {
  if (filters.length > 0) {
    return scenarios.filter(({ name }) => filters.some((filter) => name.includes(filter)));
  }
  return scenarios.filter(({ quick }) => all || quick);
}

/** Rejects after `ms`; the scenario itself may go on, and is on a distrusted lab then. */
export async function bounded<T>(what: string, ms: number, work: Promise<T>): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${what}: not done within ${ms} ms`)), ms);
  });
  try {
    return await Promise.race([work, late]);
  } finally {
    clearTimeout(timer);
  }
}

export async function runScenarios(
  scenarios: Scenario[],
  context: RunContext,
  write: (text: string) => void,
  collect = collectEvidence,
): Promise<ScenarioResult[]> {
  const results: ScenarioResult[] = [];
  for (const scenario of scenarios) {
    const result = await runOne(scenario, context, collect);
    results.push(result);
    write(line(result));
  }
  const passed = results.filter((result) => result.ok).length;
  const ms = results.reduce((sum, result) => sum + result.ms, 0);
  write(`\n${passed} passed, ${results.length - passed} failed in ${(ms / 1000).toFixed(0)} s\n`);
  return results;
}

async function runOne(
  scenario: Scenario,
  context: RunContext,
  collect: typeof collectEvidence,
): Promise<ScenarioResult> {
  const notes: string[] = [];
  const note = (text: string) => notes.push(text);
  const beganMs = performance.now();
  try {
    await bounded(scenario.name, scenario.boundMs, scenario.run({ ...context, note }));
    return { name: scenario.name, ok: true, ms: performance.now() - beganMs, notes };
  } catch (error) {
    const ms = performance.now() - beganMs;
    const evidence = await collect(context.hosts, scenario.name, error);
    context.pool.distrust();
    const failure = error instanceof Error ? error.message : String(error);
    return { name: scenario.name, ok: false, ms, notes, failure, evidence };
  }
}

function line(result: ScenarioResult): string {
  const mark = result.ok ? pc.green("ok  ") : pc.red("FAIL");
  const time = `${(result.ms / 1000).toFixed(1)} s`.padStart(8);
  const notes = result.notes.length > 0 ? pc.dim(`  ${result.notes.join("; ")}`) : "";
  const failure = result.ok
    ? ""
    : `\n    ${result.failure?.replaceAll("\n", "\n    ")}\n    evidence: ${result.evidence}`;
  return `${mark} ${result.name.padEnd(48)}${time}${notes}${failure}\n`;
}
