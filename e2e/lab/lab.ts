/**
 * A lab: hosts that are network namespaces with a Docker and an agent each, on one LAN, with a replication link and a
 * client. The namespaces themselves are the truth; `lab.json` adds only what they cannot tell.
 *
 * Invariants: what runs in a host's namespaces dies with its first process; whatever carries the lab's name
 * (namespaces, control groups, folders) is the lab's and is removed by `down`.
 */
import { cpSync, existsSync, mkdirSync, readdirSync, rmdirSync, rmSync } from "node:fs";
import { dirname, join } from "node:path";
import type Docker from "dockerode";
import { installToolkit } from "../../criu/toolkit.js";
import { FtError } from "../../orchestrator/errors/error.js";
import { initAuthority, isMember, joinAuthority, startAgent, stopAgent } from "./agent.js";
import { removeCgroups } from "./cgroups.js";
import { dockerOf, hasSocket, killDockerd, sharedSocket, startDockerd } from "./dockerd.js";
import { daemonRuns, enter, HIDDEN_FOLDERS, powerOn } from "./host.js";
import type { HostLayout, LabLayout } from "./layout.js";
import { checkoutRoot, labLayout, labNameFrom, usage } from "./layout.js";
import type { LinkName } from "./network.js";
import {
  layCables,
  linkStates,
  netnsPath,
  plugIn,
  removeNetns,
  setLinks,
  unplug,
} from "./network.js";
import {
  findInit,
  killAllInNetns,
  killNow,
  killTree,
  pidsInNetns,
  pidsOfHost,
} from "./processes.js";
import type { LabState } from "./state.js";
import { readState, removeState, writeState } from "./state.js";

const DEATH_TIMEOUT_MS = 15_000;
const CGROUP_TIMEOUT_MS = 10_000;

export interface UpOptions {
  hosts: string[];
  agents: boolean;
  /** Keeps the hosts' disks of an earlier lab. */
  keep: boolean;
  /** Told what is going on, for people. */
  progress: (line: string) => void;
}

export interface HostStatus {
  host: string;
  power: "on" | "off";
  initPid?: number;
  lanAddress: string;
  replicationAddress: string;
  lan: "up" | "cut";
  replication: "up" | "cut";
  dockerd: boolean;
  agent: boolean;
  processes: number;
}

/** Wall clock in milliseconds, for the time line of a test's report. */
export interface PowerLoss {
  host: string;
  cutAtMs: number;
  deadAtMs: number;
}

export class Lab {
  readonly name: string;
  private readonly env: NodeJS.ProcessEnv;

  constructor(env: NodeJS.ProcessEnv) {
    this.env = env;
    this.name = labNameFrom(env);
  }

  layout(hosts = this.state()?.hosts ?? []): LabLayout {
    return labLayout(this.name, hosts, this.env);
  }

  state(): LabState | undefined {
    return readState(labLayout(this.name, [], this.env).stateFile);
  }

  /** Brings the lab up, or completes one that is. What is left of a crashed lab is cleared away first. */
  async up(options: UpOptions): Promise<void> {
    const layout = this.layout(options.hosts);
    const before = this.state();
    if (before !== undefined && this.runs(before)) {
      if (before.hosts.join() !== options.hosts.join()) {
        throw usage(
          `hosts ${options.hosts}`,
          `the lab runs with ${before.hosts}`,
          "ftlab down first",
        );
      }
      options.progress("the lab is up already");
    } else {
      await this.down({ keep: options.keep, purge: false });
      const foldersMade = HIDDEN_FOLDERS.filter((folder) => !existsSync(folder));
      const state = { version: 1 as const, hosts: options.hosts, agents: false, foldersMade };
      writeState(layout.stateFile, state);
      await layCables(layout);
    }
    await this.startHosts(layout, options);
    if (options.agents) await this.startAgents(layout, options);
  }

  /** Starts the hosts that have no power. */
  private async startHosts(layout: LabLayout, options: UpOptions): Promise<void> {
    const off = layout.hosts.filter((host) => findInit(host.netns) === undefined);
    await Promise.all(
      off.map(async (host) => {
        await this.start(layout, host);
        options.progress(`${host.name}: Docker runs, ${host.lanAddress}`);
      }),
    );
  }

  /** Puts the CRIU toolkit on every host's disk, as an installation would. */
  private async furnish(layout: LabLayout, options: UpOptions): Promise<void> {
    const source = join(checkoutRoot(), "build/toolkit");
    const { warnings } = await installToolkit(source, options.progress);
    for (const warning of warnings) options.progress(`warning: ${warning}`);
    for (const host of layout.hosts) {
      const target = join(host.dir, "var/lib/ftctl/toolkit");
      if (existsSync(target)) continue;
      mkdirSync(dirname(target), { recursive: true });
      cpSync(source, target, { recursive: true, preserveTimestamps: true });
    }
  }

  private runs(state: LabState): boolean {
    return this.layout(state.hosts).hosts.some((host) => findInit(host.netns) !== undefined);
  }

  private async start(layout: LabLayout, host: HostLayout): Promise<number> {
    // Left by a first process that ended on its own.
    for (const pid of pidsInNetns(host.netns)) killNow(pid);
    await unplug(layout, host);
    await plugIn(layout, host);
    const init = await powerOn(host);
    await startDockerd(host, init);
    return init;
  }

  private async startAgents(layout: LabLayout, options: UpOptions): Promise<void> {
    const [first, ...others] = layout.hosts;
    if (first === undefined) return;
    await this.furnish(layout, options);
    const firstInit = this.initOf(first);
    if (!isMember(first)) await initAuthority(first, firstInit);
    await startAgent(first, firstInit, {});
    options.progress(`${first.name}: agent runs`);
    for (const host of others) {
      const init = this.initOf(host);
      if (!isMember(host)) await joinAuthority(host, init, first, firstInit);
      await startAgent(host, init, {});
      options.progress(`${host.name}: agent runs`);
    }
    const state = this.state();
    if (state !== undefined) writeState(layout.stateFile, { ...state, agents: true });
  }

  /** Removes every trace of the lab, also of one that crashed; keeps the caches unless told to purge. */
  async down(options: { keep: boolean; purge: boolean }): Promise<void> {
    const state = this.stateOrNothing();
    const layout = this.layout([]);
    const netnses = this.netnses();
    for (const netns of netnses) await killAllInNetns(netns, DEATH_TIMEOUT_MS);
    for (const netns of netnses) await removeNetns(netns);
    for (const cgroup of this.cgroupNames(netnses, state)) {
      await removeCgroups(cgroup, CGROUP_TIMEOUT_MS);
    }
    if (!options.keep) {
      for (const host of this.hostFolders(layout, state)) {
        rmSync(host, { recursive: true, force: true });
      }
    }
    if (options.purge) {
      rmSync(layout.imagesDir, { recursive: true, force: true });
      rmSync(layout.packagesDir, { recursive: true, force: true });
    }
    for (const folder of state?.foldersMade ?? []) removeIfEmpty(folder);
    removeState(layout.stateFile);
    removeIfEmpty(layout.root);
  }

  private stateOrNothing(): LabState | undefined {
    try {
      return this.state();
    } catch (error) {
      // `down` is the remedy for a damaged state file: names alone must be enough.
      if (error instanceof FtError && error.code === "LAB_STATE_BAD") return undefined;
      throw error;
    }
  }

  private netnses(): string[] {
    const all = existsSync("/run/netns") ? readdirSync("/run/netns") : [];
    return all.filter((netns) => netns.startsWith(`${this.name}-`));
  }

  private cgroupNames(netnses: string[], state: LabState | undefined): Set<string> {
    const named = (state?.hosts ?? []).map((host) => `${this.name}-${host}`);
    return new Set([...netnses, ...named]);
  }

  private hostFolders(layout: LabLayout, state: LabState | undefined): string[] {
    if (!existsSync(layout.root)) return [];
    const disks = readdirSync(layout.root).filter((name) =>
      existsSync(join(layout.root, name, "init.log")),
    );
    return [...new Set([...disks, ...(state?.hosts ?? [])])].map((name) => join(layout.root, name));
  }

  host(name: string): HostLayout {
    const host = this.layout().hosts.find((each) => each.name === name);
    if (host !== undefined) return host;
    const state = this.state();
    throw new FtError({
      code: state === undefined ? "LAB_NOT_UP" : "NOT_FOUND",
      subject: `host ${name}`,
      message:
        state === undefined ? "no lab is up" : `the lab's hosts are ${state.hosts.join(", ")}`,
      hint: state === undefined ? "ftlab up" : undefined,
      exitCode: 3,
    });
  }

  /** Pid of the host's first process; an error if the host is without power. */
  initOf(host: HostLayout): number {
    const init = findInit(host.netns);
    if (init !== undefined) return init;
    throw new FtError({
      code: "LAB_HOST_OFF",
      subject: `host ${host.name}`,
      message: "has no power",
      hint: `ftlab boot ${host.name}`,
      exitCode: 3,
    });
  }

  docker(name: string): Promise<Docker> {
    return dockerOf(this.initOf(this.host(name)));
  }

  /** Where the machine and all hosts reach the host's Docker. */
  socketOf(name: string): string {
    const host = this.host(name);
    this.initOf(host);
    return sharedSocket(host);
  }

  pids(name: string): number[] {
    return pidsOfHost(this.initOf(this.host(name)));
  }

  /** The command line that runs `argv` on a host, or in the client's network. */
  commandOn(where: string, argv: string[]): string[] {
    if (where !== "client") return enter(this.initOf(this.host(where)), argv);
    if (this.state() === undefined) this.host(where);
    return ["nsenter", `--net=${netnsPath(this.layout().clientNetns)}`, ...argv];
  }

  /** Power loss: both cables dead first, so that nothing dying can say goodbye, then every process at once. */
  async kill(name: string): Promise<PowerLoss> {
    const host = this.host(name);
    const init = this.initOf(host);
    await setLinks(this.layout(), host, ["lan", "replication"], "down");
    const cutAtMs = Date.now();
    await killTree(init, DEATH_TIMEOUT_MS);
    const deadAtMs = Date.now();
    await removeCgroups(host.cgroup, CGROUP_TIMEOUT_MS);
    await unplug(this.layout(), host);
    return { host: name, cutAtMs, deadAtMs };
  }

  async boot(name: string, env: Record<string, string> = {}): Promise<void> {
    const host = this.host(name);
    if (findInit(host.netns) !== undefined) {
      throw new FtError({ code: "LAB_HOST_ON", subject: `host ${name}`, message: "is running" });
    }
    const init = await this.start(this.layout(), host);
    if (this.state()?.agents) await startAgent(host, init, env);
  }

  async setLink(name: string, link: LinkName, state: "up" | "down"): Promise<void> {
    const host = this.host(name);
    this.initOf(host);
    await setLinks(this.layout(), host, [link], state);
  }

  async agent(
    name: string,
    action: "start" | "stop" | "restart",
    options: { env: Record<string, string>; kill: boolean },
  ): Promise<void> {
    const host = this.host(name);
    const init = this.initOf(host);
    if (action !== "start") await stopAgent(init, options.kill);
    if (action !== "stop") await startAgent(host, init, options.env);
  }

  async dockerd(name: string, action: "kill" | "start"): Promise<void> {
    const host = this.host(name);
    const init = this.initOf(host);
    if (action === "kill") await killDockerd(init);
    else await startDockerd(host, init);
  }

  async status(): Promise<HostStatus[]> {
    const state = this.state();
    if (state === undefined) return [];
    const layout = this.layout(state.hosts);
    const links = await linkStates(layout);
    return Promise.all(layout.hosts.map((host) => statusOf(host, links)));
  }

  runningHosts(): HostLayout[] {
    return this.layout().hosts.filter((host) => findInit(host.netns) !== undefined);
  }

  /** Makes sure that the folder for the lab's caches is there, and returns the layout. */
  caches(): LabLayout {
    const layout = this.layout();
    mkdirSync(layout.imagesDir, { recursive: true });
    mkdirSync(layout.packagesDir, { recursive: true });
    return layout;
  }
}

async function statusOf(host: HostLayout, links: Map<string, boolean>): Promise<HostStatus> {
  const init = findInit(host.netns);
  const addresses = {
    lanAddress: host.lanAddress,
    replicationAddress: host.replicationAddress,
    lan: links.get(host.lanCable) ? ("up" as const) : ("cut" as const),
    replication: links.get(host.replicationCable) ? ("up" as const) : ("cut" as const),
  };
  if (init === undefined) {
    return {
      host: host.name,
      power: "off",
      ...addresses,
      dockerd: false,
      agent: false,
      processes: 0,
    };
  }
  return {
    host: host.name,
    power: "on",
    initPid: init,
    ...addresses,
    dockerd: hasSocket(init) && (await daemonRuns(init, "dockerd")),
    agent: await daemonRuns(init, "agent"),
    processes: pidsOfHost(init).length,
  };
}

function removeIfEmpty(folder: string): void {
  try {
    rmdirSync(folder);
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code;
    if (code !== "ENOENT" && code !== "ENOTEMPTY" && code !== "EBUSY") throw error;
  }
}
