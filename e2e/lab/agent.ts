/** The ftctl agent of one lab host. */
import { existsSync, readFileSync } from "node:fs";
import { connect } from "node:net";
import { join } from "node:path";
import { z } from "zod";
import { FtError } from "../../orchestrator/errors/error.js";
import { daemonRuns, enter, inHost, signalDaemon, startDaemon, waitForEnd } from "./host.js";
import type { HostLayout } from "./layout.js";
import { checkoutRoot } from "./layout.js";
import { run, until } from "./run.js";

const AGENT_SOCKET = "/run/ftctl/agent.sock";
const START_TIMEOUT_MS = 60_000;
const STOP_TIMEOUT_MS = 20_000;
/** As systemd does, which starts an ended agent again. */
const START_ATTEMPTS_MAX = 3;
const QUOTED_LINES_MAX = 12;
const INIT_TIMEOUT_MS = 30_000;

const Invitation = z.object({ token: z.string() });

const program = () => join(checkoutRoot(), "bin/ftctl");

/** Whether this host belongs to a cluster already, as its disk says. */
export function isMember(host: HostLayout): boolean {
  return existsSync(join(host.dir, "var/lib/ftctl/identity/identity.json"));
}

/** Makes the authority on the first host. */
export async function initAuthority(host: HostLayout, init: number): Promise<void> {
  await ftctl(init, ["init", "--host", host.name, "--listen", host.replicationAddress]);
}

/** Joins a host, with a token made for it on the first. */
export async function joinAuthority(
  host: HostLayout,
  init: number,
  first: HostLayout,
  firstInit: number,
): Promise<void> {
  const text = await ftctl(firstInit, ["init", "--invite", "--for", host.name, "-o", "json"]);
  const { token } = Invitation.parse(JSON.parse(text));
  const own = ["--host", host.name, "--listen", host.replicationAddress];
  // Not as an argument: every process of the machine could read it there.
  await ftctl(init, ["join", first.replicationAddress, ...own], { FTCTL_TOKEN: token });
}

async function ftctl(
  init: number,
  args: string[],
  env: Record<string, string> = {},
): Promise<string> {
  const [enterProgram = "", ...rest] = enter(init, [program(), ...args]);
  return run(enterProgram, rest, { timeoutMs: INIT_TIMEOUT_MS, env });
}

export async function startAgent(
  host: HostLayout,
  init: number,
  env: Record<string, string>,
): Promise<void> {
  if (await daemonRuns(init, "agent")) return;
  for (let attempt = 1; ; attempt += 1) {
    await startDaemon(host, init, "agent", [program(), "agent"], env);
    if (await becomesReady(host, init)) return;
    if (attempt >= START_ATTEMPTS_MAX) break;
  }
  const log = join(host.dir, "agent.log");
  throw new FtError({
    code: "LAB_AGENT_ENDED",
    subject: `agent on ${host.name}`,
    message: `ended while starting, ${START_ATTEMPTS_MAX} times`,
    log,
    quoted: readFileSync(log, "utf8").trimEnd().split("\n").slice(-QUOTED_LINES_MAX),
  });
}

/** True once this very process answers; false when it ended before. What its predecessor's socket says does not count. */
async function becomesReady(host: HostLayout, init: number): Promise<boolean> {
  let ended = false;
  await until(`start of the agent on ${host.name}`, START_TIMEOUT_MS, async () => {
    ended = !(await daemonRuns(init, "agent"));
    return (
      ended || ((await answers(inHost(init, AGENT_SOCKET))) && (await daemonRuns(init, "agent")))
    );
  });
  return !ended;
}

/** By SIGTERM as systemd would, or by SIGKILL as a crash would. */
export async function stopAgent(init: number, kill: boolean): Promise<void> {
  await signalDaemon(init, "agent", kill ? "KILL" : "TERM");
  await waitForEnd(init, "agent", STOP_TIMEOUT_MS);
}

function answers(socket: string): Promise<boolean> {
  return new Promise((resolve) => {
    const connection = connect(socket);
    connection.on("connect", () => {
      connection.destroy();
      resolve(true);
    });
    connection.on("error", () => resolve(false));
  });
}
