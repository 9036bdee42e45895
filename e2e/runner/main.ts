/**
 * The end-to-end tests on a real lab: `make test-e2e`.
 *
 *   node main.js [--all] [--list] [--keep] [name…]     names are parts of scenario names
 */
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { allScenarios } from "../scenarios/index.js";
import { Ftctl } from "./ftctl.js";
import { LabHosts } from "./hosts.js";
import { PairPool } from "./pair-pool.js";
import { runScenarios, type ScenarioResult, select } from "./run-scenarios.js";
import { outFolder } from "./workloads.js";

const { values: flags, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    all: { type: "boolean", default: false },
    list: { type: "boolean", default: false },
    keep: { type: "boolean", default: false },
  },
});

const say = (line: string) => process.stderr.write(`${line}\n`);

async function run(): Promise<ScenarioResult[]> {
  const chosen = select(allScenarios(), flags.all, positionals);
  if (chosen.length === 0) throw new Error(`no scenario is called like ${positionals.join(", ")}`);
  const { hosts, started } = await LabHosts.up(["alpha", "beta"], say);
  const pool = new PairPool(hosts, async () => {
    await hosts.down();
    await LabHosts.up(["alpha", "beta"], say);
  });
  try {
    const context = { hosts, ftctl: new Ftctl(hosts), pool };
    const results = await runScenarios(chosen, context, (text) => process.stdout.write(text));
    if (!flags.keep) await pool.clear();
    return results;
  } finally {
    if (started && !flags.keep) await hosts.down();
  }
}

async function main(): Promise<number> {
  if (flags.list) {
    for (const { name, quick } of allScenarios()) {
      process.stdout.write(`${quick ? "quick" : "all  "}  ${name}\n`);
    }
    return 0;
  }
  const results = await run();
  mkdirSync(outFolder(), { recursive: true });
  writeFileSync(join(outFolder(), "e2e.json"), `${JSON.stringify(results, null, 2)}\n`);
  return results.every((result) => result.ok) ? 0 : 1;
}

main().then(
  (code) => {
    process.exitCode = code;
  },
  (error: unknown) => {
    process.stderr.write(`e2e: ${error instanceof Error ? error.message : String(error)}\n`);
    process.exitCode = 1;
  },
);
