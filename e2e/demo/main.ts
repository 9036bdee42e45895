/**
 * `make demo`: a redis container outlives the power loss of its host.
 *
 *   node main.js [--keep] [--connections N] [--seconds S]
 *
 * Exits non-zero if a promise was broken or a step failed; leaves no lab behind unless told to, or unless
 * one was up before.
 */
import { mkdirSync, writeFileSync } from "node:fs";
import { join, relative } from "node:path";
import { parseArgs } from "node:util";
import type { PairView } from "../../orchestrator/agent/api-types.js";
import { brokenPromises, type Verdict, verdictOf } from "../checkers/verdict.js";
import type { ClientProcess } from "../clients/client-process.js";
import { outageMsAround } from "../clients/latency.js";
import type { ClientReport } from "../clients/report.js";
import { clearHosts } from "../runner/clear.js";
import { LabHosts } from "../runner/hosts.js";
import { buildImage, Service } from "../runner/service.js";
import { outFolder, specOf } from "../runner/workloads.js";
import { count, renderReport } from "./report.js";
import { demoResult } from "./result.js";
import { Steps } from "./steps.js";

const { values: flags } = parseArgs({
  options: {
    keep: { type: "boolean", default: false },
    connections: { type: "string", default: "8" },
    seconds: { type: "string", default: "4" },
  },
});
const colorful = process.stdout.isTTY === true && !process.env.NO_COLOR;
const steps = new Steps(process.stdout, colorful);

interface Outcome {
  before: PairView;
  after: PairView;
  report: ClientReport;
  verdict: Verdict;
  killedUs: number;
  statusText: string;
}

async function protectRedis(service: Service): Promise<void> {
  await steps.step("Image of redis, made from Debian's package", () => buildImage(service.spec));
  await steps.step("docker run redis on alpha", async () => {
    await clearHosts(service.hosts);
    await service.run("alpha");
  });
  await steps.step(
    "ftctl protect redis --standby beta",
    () => service.protect("alpha", "beta"),
    (view) => `${view.mode} mode, ${view.address}`,
  );
  await service.untilListening();
}

async function loadFor(client: ClientProcess, ms: number, show: (text: string) => void) {
  client.onProgress = ({ acknowledged }) => show(`${count(acknowledged)} writes acknowledged`);
  await client.makesProgress(1, 20_000);
  await new Promise((resolve) => setTimeout(resolve, ms));
}

async function failOver(service: Service): Promise<Outcome> {
  const loadMs = Number(flags.seconds) * 1000;
  const client = await service.load({ connections: Number(flags.connections) });
  try {
    const before = await steps.step(
      `${flags.connections} connections write and check every reply`,
      async (show) => {
        await loadFor(client, loadMs, show);
        return service.ftctl.status("alpha", service.name);
      },
      (view) => `${count(client.progress?.acknowledged ?? 0)} writes, epoch ${view.committedEpoch}`,
    );
    const killedUs = await steps.step("Power loss on alpha", () => service.hosts.kill("alpha"));
    await steps.step("The same connections go on at beta", async (show) => {
      await client.makesProgress(Number(flags.connections), 30_000);
      await loadFor(client, loadMs, show);
    });
    const report = await client.stop();
    const readBack = await steps.step(
      "Read everything back",
      () => client.verify(),
      (found) => `${count(found.recordsChecked)} records compared`,
    );
    const after = await service.untilTakenOver("beta", 10_000);
    const status = await service.ftctl.run("beta", ["status", service.name]);
    const statusText = status.stdout || status.stderr;
    return { before, after, report, verdict: verdictOf(report, readBack), killedUs, statusText };
  } finally {
    client.dispose();
  }
}

function conclude(outcome: Outcome): number {
  const outageMs = outageMsAround(outcome.report.gaps, outcome.killedUs);
  const result = demoResult(outcome.verdict, outcome.before, outcome.after, outageMs);
  const file = join(outFolder(), "demo.json");
  mkdirSync(outFolder(), { recursive: true });
  writeFileSync(file, `${JSON.stringify(result, null, 2)}\n`);
  const broken = brokenPromises(outcome.verdict);
  const { timeline } = outcome.report;
  const screen = renderReport({
    ...{ result, broken, timeline, colorful },
    killedUs: outcome.killedUs,
    statusText: outcome.statusText,
    file: relative(process.cwd(), file),
  });
  process.stdout.write(`\n${screen}\n`);
  for (const complaint of outcome.verdict.complaints) process.stdout.write(`  ${complaint}\n`);
  return broken.length === 0 ? 0 : 1;
}

async function main(): Promise<number> {
  process.stdout.write("\nA redis container outlives the power loss of its host\n\n");
  const { hosts, started } = await steps.step(
    "Two hosts, each with its own Docker and agent",
    (show) => LabHosts.up(["alpha", "beta"], show),
  );
  try {
    for (const host of hosts.hosts) if (!(await hosts.isOn(host))) await hosts.boot(host);
    const service = new Service(hosts, specOf("redis"));
    await protectRedis(service);
    return conclude(await failOver(service));
  } finally {
    if (started && !flags.keep) await steps.step("Clear the lab away", () => hosts.down());
  }
}

main().then(
  (code) => {
    process.exitCode = code;
  },
  (error: unknown) => {
    const message = error instanceof Error ? error.message : String(error);
    process.stderr.write(`\ndemo failed: ${message}\n`);
    process.exitCode = 1;
  },
);
