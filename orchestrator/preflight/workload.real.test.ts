/** A real process that holds one of everything that cannot be protected: each must be found and named. Needs root. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { createServer, type Server } from "node:net";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { createInterface } from "node:readline";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { CheckResult } from "../agent/api-types.js";
import { childrenOf } from "../docker/container-process.js";
import { workloadChecks } from "./workload-checks.js";
import { gatherWorkloadFacts } from "./workload-facts.js";

const holder = resolve("build/test/odd-holder");
const usable = process.getuid?.() === 0 && existsSync(holder);

describe.runIf(usable)("the workload's checks on a real process", () => {
  let folder: string;
  let server: Server;
  let outer: ChildProcess;
  let initPid: number;
  let checks: CheckResult[];
  const granted = new Map<string, string>();

  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), "k-odd-"));
    server = createServer().listen(join(folder, "outside.sock"));
    await once(server, "listening");
    const args = ["--pid", "--net", "--ipc", "--fork", "--kill-child", "--mount-proc", holder];
    outer = spawn("unshare", [...args, join(folder, "outside.sock"), join(folder, "file")], {
      stdio: ["ignore", "pipe", "inherit"],
    });
    for await (const line of createInterface({ input: outer.stdout! })) {
      if (line === "ready") break;
      const [name, ...value] = line.split(" ");
      granted.set(name!, value.join(" "));
    }
    initPid = (await childrenOf(outer.pid!))[0]!;
    checks = workloadChecks(await gatherWorkloadFacts(initPid), "alpha");
  });
  afterAll(async () => {
    outer.kill("SIGKILL");
    server.close();
    await rm(folder, { recursive: true });
  });

  const has = (name: string) => !granted.get(name)!.startsWith("refused");
  const said = (check: string) => checks.filter((c) => c.name === check && c.status !== "ok");
  const prefix = (name: string) =>
    `process ${initPid} (odd-holder) descriptor ${granted.get(name)}`;

  it.each([
    ["io_uring", "io-uring"],
    ["userfaultfd", "userfaultfd"],
    ["perf", "kernel-objects"],
    ["mptcp", "mptcp"],
    ["packet", "other-sockets"],
    ["raw", "other-sockets"],
    ["unix", "unix-sockets"],
    ["deleted", "deleted-files"],
    ["tun", "open-devices"],
  ])("finds %s and names process and descriptor", (name, check) => {
    if (!has(name)) return; // this kernel has no such thing to find
    const reasons = said(check).map((finding) => finding.reason);
    expect(
      reasons.some((reason) => reason.startsWith(prefix(name))),
      reasons.join("\n"),
    ).toBe(true);
  });

  it("finds System V memory and who maps it", () => {
    expect(said("ipc")).toHaveLength(1);
    expect(said("ipc")[0]?.reason).toContain(`process ${initPid} (odd-holder)`);
  });

  it("holds nothing against a socket pair inside, the tree, or tracing", () => {
    expect(said("unix-sockets")).toHaveLength(1);
    expect(said("process-tree")).toEqual([]);
    expect(said("ptrace")).toEqual([]);
  });

  it("had something to find", () => {
    expect([...granted.keys()].filter(has)).toEqual(
      expect.arrayContaining(["packet", "raw", "unix", "pair", "deleted", "shm"]),
    );
  });
});
