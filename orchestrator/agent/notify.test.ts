import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { notifyReady, notifyStatus, notifyStopping } from "./notify.js";

// Node cannot listen on a unix datagram socket either; perl is on every Debian.
const RECEIVER = `
use IO::Socket::UNIX; use Socket; $| = 1;
my $s = IO::Socket::UNIX->new(Type => SOCK_DGRAM, Local => $ARGV[0]) or die;
while (defined $s->recv(my $m, 4096)) { for (split /\\n/, $m) { print "$_\\n" } }`;

const present = spawnSync("systemd-notify", ["--version"]).status === 0;

describe.skipIf(!present)("notifying systemd", () => {
  let dir: string;
  let receiver: ChildProcess;
  let heard = "";
  let env: NodeJS.ProcessEnv;

  beforeEach(async () => {
    dir = mkdtempSync(join(tmpdir(), "ftctl-notify-"));
    const socket = join(dir, "notify");
    heard = "";
    receiver = spawn("perl", ["-e", RECEIVER, socket], { stdio: ["ignore", "pipe", "inherit"] });
    receiver.stdout?.on("data", (text) => {
      heard += text;
    });
    await until(() => existsSync(socket));
    env = { ...process.env, NOTIFY_SOCKET: socket };
  });
  afterEach(() => {
    receiver.kill();
    rmSync(dir, { recursive: true, force: true });
  });

  it("says when the agent is ready, how it is, and when it stops", async () => {
    await notifyReady(env);
    await until(() => heard.includes("READY=1"));
    await notifyStatus("2 pairs\nprotected", env);
    await until(() => heard.includes("STATUS=2 pairs protected"));
    await notifyStopping(env);
    await until(() => heard.includes("STOPPING=1"));
  });

  it("feeds the watchdog after that, until told to stop", async () => {
    const stop = await notifyReady({ ...env, WATCHDOG_USEC: "150000" });
    try {
      await until(() => heard.split("WATCHDOG=1").length > 3);
    } finally {
      stop();
    }
  });

  it("does not feed a watchdog that is meant for another process", async () => {
    const stop = await notifyReady({ ...env, WATCHDOG_USEC: "30000", WATCHDOG_PID: "1" });
    await notifyStatus("after", env);
    await until(() => heard.includes("STATUS=after"));
    stop();
    expect(heard).not.toContain("WATCHDOG");
  });

  it("fails clearly when nobody listens", async () => {
    const gone = { ...env, NOTIFY_SOCKET: join(dir, "gone") };
    await expect(notifyStopping(gone)).rejects.toMatchObject({ code: "NOTIFY_FAILED" });
  });
});

it("without systemd nothing happens", async () => {
  await notifyReady({});
  await notifyStopping({});
});

async function until(probe: () => boolean): Promise<void> {
  for (let n = 0; n < 1_000; n += 1) {
    if (probe()) return;
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  throw new Error("not within 5 s");
}
