/** The wall clock of one host jumps: no decision may hang on it. See clock-step.c for how it is stepped. */
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { execa } from "execa";
import { checkoutRoot } from "../lab/layout.js";
import { expectThat, type Scenario, scenarioUnderLoad } from "../runner/scenario.js";
import { outFolder } from "../runner/workloads.js";

async function buildShim(): Promise<string> {
  const folder = join(outFolder(), "clock");
  mkdirSync(folder, { recursive: true });
  const library = join(folder, "clock-step.so");
  const source = join(checkoutRoot(), "e2e/scenarios/clock-step.c");
  await execa("gcc", [
    "-O2",
    "-Wall",
    "-Wextra",
    "-Werror",
    "-shared",
    "-fPIC",
    "-o",
    library,
    source,
  ]);
  return library;
}

function clockStep(which: "primary" | "standby", quick: boolean): Scenario {
  const about = { name: `clock/step-on-${which}`, quick, boundMs: 150_000 };
  return scenarioUnderLoad(about, async ({ service, primary, standby, client }, context) => {
    const library = await buildShim();
    const file = join(outFolder(), "clock/seconds");
    const host = which === "primary" ? primary : standby;
    const { generation } = await context.ftctl.status(primary, service.name);
    writeFileSync(file, "0");
    context.pool.altered(host);
    await context.hosts.agent(host, "restart", {
      LD_PRELOAD: library,
      FT_CLOCK_STEP_FILE: file,
    });
    for (const seconds of [3_600, -86_400, 0]) {
      writeFileSync(file, String(seconds));
      await client.makesProgress(100, 30_000);
    }
    const view = await service.untilProtected(primary, 30_000);
    expectThat(view.generation === generation, "a step of the wall clock moved the service");
  });
}

export const clockScenarios: Scenario[] = [clockStep("primary", true), clockStep("standby", false)];
