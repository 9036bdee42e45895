import { describe, expect, it } from "vitest";
import { bounded, type RunContext, runScenarios, select } from "./run-scenarios.js";
import type { Scenario } from "./scenario.js";

const scenario = (name: string, run: () => Promise<void>, quick = true): Scenario => ({
  ...{ name, quick, boundMs: 50 },
  run,
});
const pass = async () => {};

describe("the scenario runner", () => {
  it("chooses the quick ones, all, or those named", () => {
    const all = [scenario("a/one", pass), scenario("b/two", pass, false)];
    const names = (chosen: Scenario[]) => chosen.map(({ name }) => name);
    expect(names(select(all, false, []))).toEqual(["a/one"]);
    expect(names(select(all, true, []))).toEqual(["a/one", "b/two"]);
    expect(names(select(all, false, ["two"]))).toEqual(["b/two"]);
  });

  it("counts failures and over-long scenarios, distrusts the pair after each, and goes on", async () => {
    let distrusted = 0;
    const context = {
      hosts: { hosts: [] },
      pool: { distrust: () => (distrusted += 1) },
    } as unknown as RunContext;
    const chosen = [
      scenario("fails", async () => Promise.reject(new Error("broken"))),
      scenario("hangs", () => new Promise(() => {})),
      scenario("passes", pass),
    ];
    let text = "";
    const write = (more: string) => {
      text += more;
    };
    const results = await runScenarios(chosen, context, write, async () => "nowhere");
    expect(results.map(({ ok }) => ok)).toEqual([false, false, true]);
    expect(distrusted).toBe(2);
    expect(text).toContain("1 passed, 2 failed");
    expect(text).toContain("broken");
  });

  it("bounds what it waits for", async () => {
    await expect(bounded("x", 10, new Promise(() => {}))).rejects.toThrow("not done within 10 ms");
    await expect(bounded("x", 1_000, Promise.resolve(3))).resolves.toBe(3);
  });
});
