import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { describe, expect, it } from "vitest";
import { endChild } from "./child.js";

const shell = (script: string): ChildProcess =>
  spawn("/bin/sh", ["-c", script], { stdio: ["pipe", "pipe", "ignore"] });

describe("endChild", () => {
  it("lets a child that heeds its closed stdin clean up", async () => {
    const child = shell("cat; exit 7");
    await endChild(child, 10_000);
    expect([child.exitCode, child.signalCode]).toEqual([7, null]);
  });
  it("kills one that does not, when its time is over and not before", async () => {
    const child = shell("echo; exec sleep 30");
    await once(child.stdout!, "data");
    const fromMs = performance.now();
    await endChild(child, 200);
    expect(child.signalCode).toBe("SIGKILL");
    expect(performance.now() - fromMs).toBeGreaterThan(190);
  });
  it("does not wait for one that has ended, or never started", async () => {
    const child = shell("exit 3");
    await once(child, "exit");
    await endChild(child);
    const none = spawn("/nonexistent/program", { stdio: ["pipe", "pipe", "ignore"] });
    none.on("error", () => {});
    await endChild(none);
  });
});
