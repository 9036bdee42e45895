/** The ftctl agent of one lab host. */
import { connect } from "node:net";
import { join } from "node:path";
import { FtError } from "../../orchestrator/errors/error.js";
import { daemonRuns, enter, inHost, signalDaemon, startDaemon, waitForEnd } from "./host.js";
import type { HostLayout } from "./layout.js";
import { checkoutRoot } from "./layout.js";
import { run, until } from "./run.js";

const AGENT_SOCKET = "/run/ftctl/agent.sock";
const START_TIMEOUT_MS = 20_000;
const STOP_TIMEOUT_MS = 20_000;
const INIT_TIMEOUT_MS = 30_000;

const program = () => join(checkoutRoot(), "bin/ftctl");

export interface Invitation {
  token: string;
}

/** Makes the authority on the first host. Returns what the others need to join. */
export async function initAuthority(host: HostLayout, init: number): Promise<Invitation> {
  const text = await ftctl(init, [
    "init",
    "--host",
    host.name,
    "--listen",
    host.replicationAddress,
    "-o",
    "json",
  ]);
  const answer = JSON.parse(text) as Partial<Invitation>;
  if (typeof answer.token !== "string") {
    throw new FtError({
      code: "LAB_NO_TOKEN",
      subject: `ftctl init on ${host.name}`,
      message: "printed no token",
      quoted: text.split("\n").slice(0, 5),
    });
  }
  return { token: answer.token };
}

export async function joinAuthority(
  host: HostLayout,
  init: number,
  first: HostLayout,
  invitation: Invitation,
): Promise<void> {
  await ftctl(init, [
    "join",
    first.replicationAddress,
    "--host",
    host.name,
    "--listen",
    host.replicationAddress,
    "--token",
    invitation.token,
  ]);
}

async function ftctl(init: number, args: string[]): Promise<string> {
  const argv = enter(init, [program(), ...args]);
  return run(argv[0]!, argv.slice(1), { timeoutMs: INIT_TIMEOUT_MS });
}

export async function startAgent(
  host: HostLayout,
  init: number,
  env: Record<string, string>,
): Promise<void> {
  if (await daemonRuns(init, "agent")) return;
  await startDaemon(host, init, "agent", [program(), "agent"], env);
  await until(`start of the agent on ${host.name}`, START_TIMEOUT_MS, async () => {
    if (await answers(inHost(init, AGENT_SOCKET))) return true;
    if (await daemonRuns(init, "agent")) return false;
    throw new FtError({
      code: "LAB_AGENT_ENDED",
      subject: `agent on ${host.name}`,
      message: "ended while starting",
      log: join(host.dir, "agent.log"),
    });
  });
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
