/** Collects what a person needs to understand a failure into e2e/out/<scenario>/. */
import { cpSync, existsSync, mkdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { checkoutRoot } from "../lab/layout.js";
import type { Hosts } from "./hosts.js";
import { outFolder } from "./workloads.js";

const perCommandMs = 15_000;

/** Commands whose output tells the state of a host. */
const questions: Record<string, string[]> = {
  "status.json": ["ftctl", "ls", "-o", "json"],
  "events.json": ["ftctl", "events", "-o", "json"],
  "docker-ps.txt": ["docker", "ps", "-a", "--no-trunc"],
  "links.txt": ["ip", "-d", "addr"],
  "sockets.txt": [
    "sh",
    "-c",
    "for p in $(docker ps -q | xargs -r docker inspect -f '{{.State.Pid}}'); do nsenter -t $p -n ss -tanoi; done",
  ],
  "processes.txt": ["ps", "-eo", "pid,ppid,stat,etime,args"],
};

/** Mode hybrid: what the last replay said, what fills the log, and the log itself if it is not too large. */
const eventLogs = `
for log in /run/ftctl/pairs/*/log/events; do
  [ -f "$log" ] || continue
  ftlog=${join(checkoutRoot(), "build/bin/ftlog")}
  echo "== $log"; "$ftlog" report "$log"; "$ftlog" stats "$log"
  [ "$(du -k "$log" | cut -f1)" -gt 131072 ] || cp --sparse=always "$log" "$1/events.log"
done 2>&1; true`;

export async function collectEvidence(hosts: Hosts, name: string, error: unknown): Promise<string> {
  const folder = join(outFolder(), name.replaceAll(/[^a-zA-Z0-9.-]+/g, "-"));
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(folder, { recursive: true });
  const text = error instanceof Error ? (error.stack ?? error.message) : String(error);
  writeFileSync(join(folder, "failure.txt"), `${text}\n`);
  for (const host of hosts.hosts) await collectHost(hosts, host, join(folder, host));
  return folder;
}

async function collectHost(hosts: Hosts, host: string, folder: string): Promise<void> {
  mkdirSync(folder, { recursive: true });
  if (!(await hosts.isOn(host))) {
    writeFileSync(join(folder, "power-off"), "");
    return;
  }
  for (const [file, argv] of Object.entries(questions)) {
    const result = await hosts.exec(host, argv, perCommandMs).catch((error: unknown) => ({
      stdout: "",
      stderr: String(error),
    }));
    writeFileSync(join(folder, file), result.stdout || result.stderr);
  }
  const events = await hosts.exec(host, ["sh", "-c", eventLogs, "sh", folder], perCommandMs);
  writeFileSync(join(folder, "event-logs.txt"), events.stdout || events.stderr);
  // The host's own disk and /run, as it sees them; logs only, never memory images.
  const script =
    'mkdir -p "$1/logs"; cd / && find run/ftctl var/lib/ftctl -name "*.log" -size -8M -exec cp --parents {} "$1/logs" ";" 2>/dev/null || true';
  await hosts.exec(host, ["sh", "-c", script, "sh", folder], perCommandMs).catch(() => undefined);
  for (const log of hosts.logsOf(host)) {
    if (existsSync(log)) cpSync(log, join(folder, log.split("/").at(-1) ?? "log"));
  }
}
