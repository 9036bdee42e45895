/** What the figures were measured on. */
import { cpus, release, totalmem } from "node:os";
import { execa } from "execa";
import { checkoutRoot } from "../lab/layout.js";
import type { Machine } from "./rows.js";

export async function describeMachine(): Promise<Machine> {
  const docker = await execa("dockerd", ["--version"], { reject: false });
  const all = cpus();
  return {
    cpu: all[0]?.model ?? "unknown",
    cores: all.length,
    memoryMiB: Math.round(totalmem() / 2 ** 20),
    kernel: release(),
    node: process.version,
    docker: docker.stdout?.trim() || "unknown",
  };
}

export async function commitId(): Promise<string> {
  const options = { cwd: checkoutRoot(), reject: false } as const;
  const head = await execa("git", ["rev-parse", "--short=12", "HEAD"], options);
  const changes = await execa("git", ["status", "--porcelain", "--untracked-files=no"], options);
  const id = head.stdout?.trim() || "unknown";
  return changes.stdout?.trim() ? `${id}+changes` : id;
}
