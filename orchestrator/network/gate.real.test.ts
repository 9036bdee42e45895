/** The wrapper against the real program, in network namespaces of its own. Needs root and build/bin/ftgate. */
import { type ChildProcess, spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { execa } from "execa";
import { pino } from "pino";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { endLeftGates } from "../agent/leftovers.js";
import { pairPaths } from "../agent/paths.js";
import { systemClock } from "../clock.js";
import type { FtError } from "../errors/error.js";
import { Gate, type GateOptions } from "./gate.js";
import { configureInterface } from "./interface.js";
import type { LineFailure } from "./line-client.js";

const program = resolve("build/bin/ftgate");
const usable = process.getuid?.() === 0 && existsSync(program);

describe.skipIf(!usable)("a real gate", () => {
  let dir = "";
  let host: ChildProcess;
  let box: ChildProcess;
  let options: GateOptions;

  const holder = async () => {
    const child = spawn("unshare", ["--net", "sleep", "120"], { stdio: "ignore" });
    for (let i = 0; i < 500; i += 1) {
      if ((await readFile(`/proc/${child.pid}/comm`, "utf8").catch(() => "")) === "sleep\n") break;
      await systemClock.sleep(10);
    }
    return child;
  };
  const inHost = (...command: string[]) =>
    execa("nsenter", [`--net=/proc/${host.pid}/ns/net`, ...command]);

  beforeAll(async () => {
    dir = await mkdtemp(join(tmpdir(), "gate-real-"));
    host = await holder();
    box = await holder();
    await inHost("ip", "link", "add", "br0", "type", "bridge");
    await inHost("ip", "link", "set", "br0", "up");
    await writeFile(join(dir, "key"), `${"0f".repeat(16)}\n`);
    // The agent shares its host's namespace with the gate; this test does not.
    const wrapper = join(dir, "ftgate");
    await writeFile(
      wrapper,
      `#!/bin/sh\nexec nsenter --net=/proc/${host.pid}/ns/net ${program} "$@"\n`,
      { mode: 0o755 },
    );
    options = {
      pair: "feedfacecafe",
      program: wrapper,
      controlSocket: join(dir, "gate.sock"),
      logFile: join(dir, "gate.log"),
      containerInterface: "eth0",
      lanInterface: "ftfeedfacecafe",
      uplink: "br0",
      mac: "02:00:00:00:00:01",
      mtu: 1500,
      keyFile: join(dir, "key"),
      heartbeat: {
        local: "127.0.0.1",
        peer: "127.0.0.2",
        port: 7400,
        intervalMs: 30,
        missLimit: 3,
      },
      leaseMs: 60,
      heldBytesMax: 1 << 20,
      queuedBytesMax: 1 << 20,
      generation: 4,
      clock: systemClock,
    };
  });

  afterAll(async () => {
    host?.kill("SIGKILL");
    box?.kill("SIGKILL");
    if (dir !== "") await rm(dir, { recursive: true });
  });

  it("is started, configured, let go, adopted again and ended", async () => {
    const first = await Gate.open(options, box.pid!);
    expect(first.adopted).toBe(false);
    const setup = {
      pid: box.pid!,
      name: "eth0",
      address: "10.0.0.5/24",
      gateway: "10.0.0.1",
      mtu: 1500,
    };
    await configureInterface(setup);
    await configureInterface(setup);
    await first.gate.mode("hold", 4, 7);
    const refused = await first.gate.mode("open", 3).catch((error: unknown) => error);
    expect((refused as LineFailure).slug).toBe("stale-generation");
    first.gate.release();

    const second = await Gate.open(options, box.pid!);
    expect(second.adopted).toBe(true);
    expect(await second.gate.stats()).toMatchObject({ mode: "hold", generation: 4, epoch: 7 });
    await second.gate.quit();
    await expect.poll(() => existsSync(options.controlSocket)).toBe(false);
    const left = await inHost("ip", "-o", "link", "show");
    expect(left.stdout).not.toContain(options.lanInterface);
  });

  it("is ended at the start of an agent that has no record of its pair, and only then", async () => {
    const runDir = join(dir, "run");
    const paths = pairPaths(runDir, options.pair);
    await mkdir(paths.dir, { recursive: true });
    const left = { ...options, controlSocket: paths.gateSocket };
    (await Gate.open(left, box.pid!)).gate.release();
    const log = pino({ level: "silent" });
    expect(await endLeftGates(runDir, () => true, log)).toEqual([]);
    expect(existsSync(paths.gateSocket)).toBe(true);
    expect(await endLeftGates(runDir, () => false, log)).toEqual([options.pair]);
    expect(existsSync(paths.dir)).toBe(false);
    const again = await Gate.open(options, box.pid!);
    expect(again.adopted).toBe(false);
    await again.gate.quit();
  });

  it("says what is wrong with the uplink", async () => {
    const error = await Gate.open({ ...options, uplink: "nobridge" }, box.pid!).catch(
      (thrown: FtError) => thrown,
    );
    expect((error as FtError).code).toBe("GATE_NOT_STARTED");
    expect((error as FtError).quoted.join()).toContain("nobridge");
  });
});
