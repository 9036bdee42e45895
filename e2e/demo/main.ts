/**
 * `make demo`: a redis container outlives the power loss of its host, once in each mode.
 *
 *   node main.js [--keep] [--connections N] [--seconds S] [--modes checkpoint,hybrid]
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
import { count, type DemoAct, renderReport } from "./report.js";
import { demoResult, replyMsBefore } from "./result.js";
import { Steps } from "./steps.js";

const { values: flags } = parseArgs({
  options: {
    keep: { type: "boolean", default: false },
    connections: { type: "string", default: "8" },
    seconds: { type: "string", default: "3" },
    modes: { type: "string", default: "checkpoint,hybrid" },
  },
});
const colorful = process.stdout.isTTY === true && !process.env.NO_COLOR;
const steps = new Steps(process.stdout, colorful);
const waitsFor: Record<string, string> = {
  checkpoint: "output waits for the next checkpoint",
  hybrid: "output waits for the log of what led to it",
};

interface Outcome {
  mode: string;
  before: PairView;
  after: PairView;
  report: ClientReport;
  verdict: Verdict;
  killedUs: number;
  statusText: string;
}

async function protectRedis(service: Service, mode: string): Promise<void> {
  await steps.step("docker run redis on alpha", async () => {
    for (const host of service.hosts.hosts) {
      if (!(await service.hosts.isOn(host))) await service.hosts.boot(host);
    }
    await clearHosts(service.hosts);
    await service.run("alpha");
  });
  await steps.step(
    "ftctl protect redis --standby beta",
    () => service.protect("alpha", "beta", { mode }),
    (view) => `${view.mode} mode, ${view.address}`,
  );
  if (mode === "hybrid") {
    const covers = (view: PairView) => view.log?.covers === true;
    await service.ftctl.until("alpha", service.name, "a log that covers output", covers, 30_000);
  }
  await service.untilListening();
}

async function loadFor(client: ClientProcess, ms: number, show: (text: string) => void) {
  client.onProgress = ({ acknowledged }) => show(`${count(acknowledged)} writes acknowledged`);
  await client.makesProgress(1, 20_000);
  await new Promise((resolve) => setTimeout(resolve, ms));
}

async function failOver(service: Service, mode: string): Promise<Outcome> {
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
    const verdict = verdictOf(report, readBack);
    return { mode, before, after, report, verdict, killedUs, statusText };
  } finally {
    client.dispose();
  }
}

function act({ mode, before, after, report, verdict, killedUs }: Outcome): DemoAct {
  const outageMs = outageMsAround(report.gaps, killedUs);
  const broken = brokenPromises(verdict).map((text) => `mode ${mode}: ${text}`);
  const replyMs = replyMsBefore(report.timeline, killedUs, report.connections);
  const result = demoResult(verdict, before, after, replyMs, outageMs);
  return { result, broken, timeline: report.timeline, killedUs };
}

function conclude(outcomes: Outcome[]): number {
  const acts = outcomes.map(act);
  const [first, ...others] = acts.map(({ result }) => result);
  const file = join(outFolder(), "demo.json");
  mkdirSync(outFolder(), { recursive: true });
  // The first mode's figures at the top, as they have always been there; the others' below their names.
  const document = {
    ...first,
    ...Object.fromEntries(others.map((result) => [result.mode, result])),
  };
  writeFileSync(file, `${JSON.stringify(document, null, 2)}\n`);
  const screen = renderReport({
    acts,
    statusText: outcomes.at(-1)?.statusText ?? "",
    file: relative(process.cwd(), file),
    colorful,
  });
  process.stdout.write(`\n${screen}\n`);
  for (const { verdict } of outcomes) {
    for (const complaint of verdict.complaints) process.stdout.write(`  ${complaint}\n`);
  }
  return acts.every(({ broken }) => broken.length === 0) ? 0 : 1;
}

async function main(): Promise<number> {
  const modes = flags.modes.split(",");
  process.stdout.write("\nA redis container outlives the power loss of its host\n\n");
  const { hosts, started } = await steps.step(
    "Two hosts, each with its own Docker and agent",
    (show) => LabHosts.up(["alpha", "beta"], show),
  );
  try {
    const service = new Service(hosts, specOf("redis"));
    await steps.step("Image of redis, made from Debian's package", () => buildImage(service.spec));
    const outcomes: Outcome[] = [];
    for (const mode of modes) {
      steps.heading(`mode ${mode}: ${waitsFor[mode] ?? ""}`);
      await protectRedis(service, mode);
      outcomes.push(await failOver(service, mode));
    }
    return conclude(outcomes);
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
