/**
 * What scenarios, demo, campaign and benchmark ask of a lab: narrow, so that a scenario can be read without
 * knowing how a lab is made, and so that the campaign's choices can be tested against a fake.
 */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { execa } from "execa";
import { monotonicUs } from "../clients/latency.js";
import { Lab } from "../lab/lab.js";
import { checkoutRoot } from "../lab/layout.js";

export type Host = string;
export type Link = "lan" | "replication";
export type AgentAction = "start" | "stop" | "restart" | "kill";

export interface ExecResult {
  exitCode: number;
  stdout: string;
  stderr: string;
}

export interface HostState {
  on: boolean;
  dockerd: boolean;
  agent: boolean;
  cut: Link[];
}

export interface Hosts {
  readonly hosts: Host[];
  /** Runs a program on a host or, as `client`, in the client's network. Never throws for an exit code. */
  exec(where: Host | "client", argv: string[], timeoutMs?: number): Promise<ExecResult>;
  /** Power loss. Returns the monotonic instant, in microseconds, just before the links went dead. */
  kill(host: Host): Promise<number>;
  boot(host: Host): Promise<void>;
  cut(host: Host, link: Link): Promise<number>;
  mend(host: Host, link: Link): Promise<void>;
  agent(host: Host, action: AgentAction, env?: Record<string, string>): Promise<void>;
  dockerd(host: Host, action: "kill" | "start"): Promise<void>;
  /** Pids, as this machine sees them, of a host's processes whose command line matches. */
  pids(host: Host, pattern: RegExp): number[];
  /** Of those, the ones that carry a fault of a scenario's in their environment. */
  faultyPids(host: Host, pattern: RegExp): number[];
  isOn(host: Host): Promise<boolean>;
  state(host: Host): Promise<HostState>;
  replicationAddress(host: Host): string;
  /** The host's own root folder, as a path of this machine. */
  rootOf(host: Host): string;
  /** Log files that the lab keeps of a host's daemons. */
  logsOf(host: Host): string[];
  /** To be put in front of a command to run it in the client's network. */
  readonly enterClient: string[];
}

const execTimeoutMs = 60_000;

export class LabHosts implements Hosts {
  readonly #lab: Lab;

  private constructor(lab: Lab) {
    this.#lab = lab;
  }

  /** Takes the lab that is up, or brings one up; `started` tells which. */
  static async up(
    hosts: Host[],
    progress: (line: string) => void,
  ): Promise<{ hosts: LabHosts; started: boolean }> {
    const lab = new Lab(process.env);
    const running = lab.state() !== undefined && lab.runningHosts().length > 0;
    await lab.up({ hosts, agents: true, keep: false, progress });
    return { hosts: new LabHosts(lab), started: !running };
  }

  async down(): Promise<void> {
    await this.#lab.down({ keep: false, purge: false });
  }

  get hosts(): Host[] {
    return this.#lab.layout().hosts.map((host) => host.name);
  }

  get enterClient(): string[] {
    return this.#lab.commandOn("client", []);
  }

  async exec(
    where: Host | "client",
    argv: string[],
    timeoutMs = execTimeoutMs,
  ): Promise<ExecResult> {
    const [program = "", ...args] = this.#lab.commandOn(where, argv);
    const path = `${join(checkoutRoot(), "bin")}:${process.env.PATH ?? ""}`;
    const result = await execa(program, args, {
      reject: false,
      timeout: timeoutMs,
      stdin: "ignore",
      maxBuffer: 64 << 20,
      env: { PATH: path, NO_COLOR: "1", DOCKER_HOST: undefined },
    });
    const late = result.timedOut ? `\n(ended by force after ${timeoutMs} ms)` : "";
    return {
      exitCode: result.exitCode ?? 124,
      stdout: result.stdout,
      stderr: `${result.stderr}${late}`,
    };
  }

  async kill(host: Host): Promise<number> {
    const beforeUs = monotonicUs();
    const beforeMs = Date.now();
    const loss = await this.#lab.kill(host);
    // The lab says when the links were dead by the wall clock; no earlier than when we asked.
    return beforeUs + Math.max(0, loss.cutAtMs - beforeMs) * 1000;
  }

  boot(host: Host): Promise<void> {
    return this.#lab.boot(host);
  }

  async cut(host: Host, link: Link): Promise<number> {
    const atUs = monotonicUs();
    await this.#lab.setLink(host, link, "down");
    return atUs;
  }

  mend(host: Host, link: Link): Promise<void> {
    return this.#lab.setLink(host, link, "up");
  }

  async agent(host: Host, action: AgentAction, env: Record<string, string> = {}): Promise<void> {
    if (action === "kill") await this.#lab.agent(host, "stop", { env, kill: true });
    else await this.#lab.agent(host, action, { env, kill: false });
  }

  dockerd(host: Host, action: "kill" | "start"): Promise<void> {
    return this.#lab.dockerd(host, action);
  }

  pids(host: Host, pattern: RegExp): number[] {
    return this.#lab.pids(host).filter((pid) => pattern.test(commandLine(pid)));
  }

  faultyPids(host: Host, pattern: RegExp): number[] {
    return this.pids(host, pattern).filter((pid) => environment(pid).includes("FTCTL_FAULT="));
  }

  replicationAddress(host: Host): string {
    return this.#lab.host(host).replicationAddress;
  }

  rootOf(host: Host): string {
    return `/proc/${this.#lab.initOf(this.#lab.host(host))}/root`;
  }

  logsOf(host: Host): string[] {
    const { dir } = this.#lab.host(host);
    return ["agent.log", "dockerd.log", "init.log"].map((name) => join(dir, name));
  }

  async state(host: Host): Promise<HostState> {
    const status = (await this.#lab.status()).find((each) => each.host === host);
    if (!status) throw new Error(`no host ${host}`);
    const cut: Link[] = [];
    if (status.lan === "cut") cut.push("lan");
    if (status.replication === "cut") cut.push("replication");
    return { on: status.power === "on", dockerd: status.dockerd, agent: status.agent, cut };
  }

  async isOn(host: Host): Promise<boolean> {
    return this.#lab.runningHosts().some((running) => running.name === host);
  }
}

const commandLine = (pid: number) => ofProcess(pid, "cmdline");
const environment = (pid: number) => ofProcess(pid, "environ");

function ofProcess(pid: number, file: "cmdline" | "environ"): string {
  try {
    return readFileSync(`/proc/${pid}/${file}`, "utf8").replaceAll("\0", " ").trim();
  } catch {
    // It ended while we looked: no match.
    return "";
  }
}
