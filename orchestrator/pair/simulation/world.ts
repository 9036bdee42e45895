/**
 * Two hosts in one process: real pairs, planners and epoch loops over simulated gates, stores, links and a simulated
 * application. The application counts; each count is an output that its gate holds. The world sees every output
 * that leaves and checks the guarantee at that instant:
 *
 *   - never taken back: an output that left is in whatever state the service goes on from;
 *   - one voice: outputs leave only from the host of the highest generation that ever spoke;
 *   - kept: an application that has spoken is not removed while its host is the primary of the highest generation.
 */
import { pino } from "pino";
import { EventLog } from "../../agent/events.js";
import { AgentMetrics } from "../../agent/metrics.js";
import { Pairs } from "../../agent/pairs.js";
import { peerHandlers } from "../../agent/peer-service.js";
import { type Clock, systemClock } from "../../clock.js";
import { FtError } from "../../errors/error.js";
import { faultsFrom } from "../../faults/faults.js";
import { adopt } from "../adopt.js";
import { Pair, type PairHost } from "../pair.js";
import type {
  GateControl,
  GateMode,
  GateNews,
  PairParts,
  PeerControl,
  StoreControl,
} from "../ports.js";
import { coldStart } from "../primary.js";
import type { PairRecord, PairRecords } from "../record.js";
import { commitEpoch } from "../standby.js";

const HEARTBEAT_MS = 5;
const SILENT_MS = 15;

export interface Violation {
  what: string;
  detail: string;
}

interface Frame {
  value: number;
  from: number;
  epoch: number;
}

/** The service's memory: where it lives now, and what left of it. */
export class World {
  readonly violations: Violation[] = [];
  readonly hosts = new Map<string, SimHost>();
  linkUp = true;
  highestReleased = 0;
  highestVoice = 0;
  releases = 0;

  constructor(readonly clock: Clock = systemClock) {}

  host(name: string): SimHost {
    const host = this.hosts.get(name);
    if (!host) throw new Error(`no host ${name}`);
    return host;
  }

  other(name: string): SimHost {
    return [...this.hosts.values()].find((host) => host.name !== name)!;
  }

  hears(from: string, to: string): boolean {
    return this.linkUp && this.host(from).powered && this.host(to).powered;
  }

  /** @param from  the state that this run of the application began with */
  released(host: string, generation: number, value: number, from: number): void {
    this.releases += 1;
    this.spoke.add(`${host} ${generation}`);
    if (value === from + 1 || !this.runs.has(`${host} ${from}`)) this.goesOnFrom(host, from);
    this.runs.add(`${host} ${from}`);
    if (generation < this.highestVoice) {
      this.violations.push({
        what: "two voices",
        detail: `${host} of generation ${generation} spoke after generation ${this.highestVoice}`,
      });
    }
    this.highestVoice = Math.max(this.highestVoice, generation);
    this.highestReleased = Math.max(this.highestReleased, value);
  }

  removed(host: string, records: Iterable<PairRecord>): void {
    for (const { id, role, generation } of records) {
      const others = [...this.hosts.values()].map(({ disk }) => disk.get(id)?.generation ?? 0);
      if (role !== "primary" || generation < Math.max(...others)) continue;
      if (!this.spoke.has(`${host} ${generation}`)) continue;
      const detail = `${host} is primary of generation ${generation}, above the other`;
      this.violations.push({ what: "service removed", detail });
    }
  }

  private readonly runs = new Set<string>();
  private readonly spoke = new Set<string>();

  private goesOnFrom(host: string, value: number): void {
    if (value >= this.highestReleased) return;
    this.violations.push({
      what: "output taken back",
      detail: `${host} goes on from ${value}, but ${this.highestReleased} had left`,
    });
  }
}

class SimGate implements GateControl {
  current: GateMode = "closed";
  gone = false;
  generation = 0;
  epoch = 0;
  private held: Frame[] = [];
  private lastHeardMs: number;
  private silent = false;
  private readonly beatTimer: NodeJS.Timeout;

  constructor(
    private readonly host: SimHost,
    private readonly news: (news: GateNews) => void,
  ) {
    this.lastHeardMs = host.world.clock.nowMs();
    this.beatTimer = setInterval(() => this.watch(), HEARTBEAT_MS);
  }

  /** The application made an output. */
  output(value: number, from: number): void {
    if (this.current === "open") {
      this.host.world.released(this.host.name, this.generation, value, from);
      return;
    }
    if (this.current !== "hold") return;
    this.held.push({ value, from, epoch: this.epoch });
    if (this.held.length === 1) this.news({ kind: "held", epoch: this.epoch });
  }
  mark(epoch: number): void {
    this.epoch = epoch + 1;
    for (const frame of this.held) frame.epoch = Math.min(frame.epoch, epoch);
  }
  async mode(mode: GateMode, generation: number, epoch?: number): Promise<void> {
    if (this.gone) throw new Error("the gate is gone");
    if (generation < this.generation) throw new Error("stale generation");
    const held = this.held.splice(0);
    this.current = mode;
    this.generation = generation;
    if (mode === "hold" && epoch !== undefined) this.epoch = epoch;
    if (mode === "hold") this.held = held;
    if (mode === "open") for (const frame of held) this.output(frame.value, frame.from);
  }
  async ship() {}
  async trim() {}
  async commit(epoch: number) {
    const leaving = this.held.filter((frame) => frame.epoch <= epoch);
    this.held = this.held.filter((frame) => frame.epoch > epoch);
    for (const frame of leaving)
      this.host.world.released(this.host.name, this.generation, frame.value, frame.from);
    return { frames: leaving.length, bytes: 0, stillHeld: this.held.length > 0 };
  }
  async facts() {
    return {
      mode: this.current,
      generation: this.generation,
      epoch: this.epoch,
      heldFrames: this.held.length,
      heldBytes: 0,
      heldOldestMs: undefined,
      leaseFresh: !this.silent,
      outputDelayMs: undefined,
      log: undefined,
    };
  }
  async announce(): Promise<void> {}
  async attach(): Promise<void> {}
  async beat(): Promise<void> {}
  async quit(): Promise<void> {
    this.release();
    this.current = "closed";
    this.held = [];
  }
  release(): void {
    clearInterval(this.beatTimer);
  }
  /** As by SIGKILL: what it held is lost, and it beats no more. */
  crash(): void {
    this.release();
    this.gone = true;
    this.current = "closed";
    this.held = [];
    this.news({ kind: "gone", reason: "killed" });
  }

  private watch(): void {
    const { world, name } = this.host;
    const peer = world.other(name);
    const nowMs = world.clock.nowMs();
    if (world.hears(peer.name, name) && peer.gate && !peer.gate.gone) this.lastHeardMs = nowMs;
    const silent = nowMs - this.lastHeardMs > SILENT_MS;
    if (silent === this.silent) return;
    this.silent = silent;
    this.news({ kind: "peerBeat", state: silent ? "silent" : "alive", silentMs: 0 });
  }
}

class SimStore implements StoreControl {
  epoch = 0;
  generation = 0;
  value = 0;
  constructor(private readonly commitMs: () => number) {}
  async commit(epoch: number, generation: number, path: string) {
    await new Promise((resolve) => setTimeout(resolve, this.commitMs()));
    const value = Number(path.split("=")[1] ?? 0);
    if (epoch > 0 && generation === this.generation && epoch <= this.epoch) {
      throw new FtError({
        code: "CHECKPOINT_OUT_OF_ORDER",
        subject: "store",
        message: `epoch ${epoch} is not after ${this.epoch}`,
      });
    }
    if (epoch > 0) {
      this.epoch = epoch;
      this.value = value;
    }
    this.generation = generation;
    return { bytes: 1, commitMs: 1 };
  }
  async prepare() {}
  async unprepare() {}
  async materialize() {
    return { epoch: this.epoch, imagesDir: `value=${this.value}`, generation: this.generation };
  }
  async discard() {
    this.epoch = 0;
  }
  async stop() {}
}

/** One host: power, disk (records), and what runs. */
export class SimHost {
  powered = true;
  agentUp = true;
  gate: SimGate | undefined;
  /** `docker start` after the application had ended. */
  startedByHand = false;
  /** So many of the next gates die between their first answer and their first order. */
  stillbornGates = 0;
  /** How long this host's store takes for a commit. */
  commitMs = () => Math.random() * 2;
  /** How long a restore takes here. */
  restoreMs = 0;
  pairs = new Pairs();
  readonly disk = new Map<string, PairRecord>();
  private value = 0;
  private appTimer: NodeJS.Timeout | undefined;
  private stores: SimStore | undefined;
  private onExit: ((news: { status: number; signal: number }) => void) | undefined;

  constructor(
    readonly world: World,
    readonly name: string,
  ) {
    world.hosts.set(name, this);
  }

  pairHost(): PairHost {
    const { clock } = this.world;
    return {
      name: this.name,
      clock,
      faults: faultsFrom(undefined),
      log: pino({ level: "silent" }),
      events: new EventLog(this.name, clock),
      metrics: new AgentMetrics(),
      records: {
        save: async (record: PairRecord) => void this.disk.set(record.id, record),
        remove: async (id: string) => void this.disk.delete(id),
      } as unknown as PairRecords,
      parts: this.parts(),
      peer: () => this.peer(),
      dropped: (pair) => this.pairs.delete(pair),
      spoolDir: () => `/tmp/ftctl-simulation-${process.pid}`,
    };
  }

  /** Power loss: the service's memory, the gate and the agent are gone at once. */
  kill(): void {
    this.powered = false;
    this.stopApp();
    this.gate?.release();
    this.gate = undefined;
    this.stores = undefined;
    this.pairs.stop();
    this.pairs = new Pairs();
  }

  crashApplication(): void {
    this.stopApp();
    this.onExit?.({ status: 139, signal: 11 });
  }

  /** `docker stop`, or an exit with status 0. */
  endApplication(): void {
    this.stopApp();
    this.onExit?.({ status: 0, signal: 0 });
  }

  crashGate(): void {
    this.gate?.crash();
  }

  /** As by SIGKILL of both; the application goes on, and a new agent takes the pair up from its record. */
  async crashAgentAndGate(): Promise<void> {
    for (const pair of this.pairs.all()) {
      pair.close();
      pair.stopShipping?.();
      await pair.loop?.stop(unreachable(this.name));
    }
    this.pairs.stop();
    this.gate?.crash();
    this.pairs = new Pairs();
    this.knownHost = this.pairHost();
    for (const record of this.disk.values()) {
      const pair = new Pair(this.knownHost, record, "starting");
      this.pairs.add(pair);
      await pair.exclusively(() => adopt(pair));
    }
    this.pairs.start();
  }

  stopApp(): void {
    clearInterval(this.appTimer);
    this.appTimer = undefined;
  }

  /** The application runs from `value` on: every millisecond or so one more output. */
  private runApp(value: number): void {
    this.value = value;
    this.stopApp();
    this.appTimer = setInterval(() => {
      this.value += 1;
      this.gate?.output(this.value, value);
    }, 1);
  }

  private parts(): PairParts {
    return {
      log: {
        make: async () => {},
        clear: async () => {},
        recording: async () => ({ is: "none", why: "the application is not recorded" }),
        discard: async () => {},
        prepare: async () => {},
        unprepare: () => {},
        arm: async () => false,
        outcome: async () => undefined,
        connections: async () => ({ claims: 0, rebuilt: 0, failed: 0, waiting: 0 }),
        disarm: () => {},
        giveUp: async () => {},
        settled: async () => {},
      },
      container: {
        create: async () => `container-${this.name}`,
        start: async () => ({ initPid: 1, pid: 0 }),
        adopt: async (app, pid) => ({ ...app, pid }),
        lives: async () => true,
        running: async () => (this.appTimer === undefined ? undefined : { initPid: 1, pid: 7 }),
        startApplication: async (app) => {
          this.runApp(this.value);
          return { ...app, pid: 7 };
        },
        watchExit: (_app, onExit) => {
          this.onExit = onExit;
          return () => {
            this.onExit = undefined;
          };
        },
        waiting: async () => this.startedByHand,
        remove: async () => {
          if (this.appTimer !== undefined) this.world.removed(this.name, this.disk.values());
          this.stopApp();
        },
        configureInterface: async () => {},
      },
      openGate: async ({ onNews }) => {
        this.gate = new SimGate(this, onNews);
        if (this.stillbornGates > 0) {
          this.stillbornGates -= 1;
          this.gate.crash();
        }
        return this.gate;
      },
      openDumper: async () => ({
        dump: async ({ epoch, base, path }) => {
          this.gate?.mark(epoch);
          this.lastBlob.set(path, this.value);
          return { pauseMs: 0, wallMs: 0, bytes: 1, full: base === 0 };
        },
        presync: async () => ({ bytes: 1, more: false }),
        acked: async () => {},
        stop: async () => {},
      }),
      openStore: async () => {
        this.stores ??= new SimStore(() => this.commitMs());
        return this.stores;
      },
      shipper: (record) => ({
        ship: async ({ epoch, generation, path }) => {
          const to = this.world.host(record.peer);
          if (!this.world.hears(this.name, to.name)) throw unreachable(to.name);
          const pair = to.pairs.get(record.id);
          if (!pair) throw unreachable(to.name);
          const value = this.lastBlob.get(path) ?? 0;
          const reply = await commitEpoch(pair, epoch, generation, `value=${value}`);
          // The ack must find its way back.
          if (!this.world.hears(to.name, this.name)) throw unreachable(to.name);
          return reply;
        },
        close: () => {},
      }),
      forget: async () => {},
      memoryIsThere: async () => true,
      memoryLoss: async () => undefined,
      prepareRestore: () => {},
      unprepareRestore: () => {},
      restore: async (_record, _app, imagesDir) => {
        await new Promise((resolve) => setTimeout(resolve, this.restoreMs));
        this.runApp(Number(imagesDir.split("=")[1]));
        return { pid: 7, restoreMs: 1, lazyBytes: 0, criuMs: 0 };
      },
    };
  }
  private readonly lastBlob = new Map<string, number>();

  private peer(): PeerControl {
    const call = async <T>(run: (to: SimHost) => Promise<T>): Promise<T> => {
      const to = this.world.other(this.name);
      if (!this.world.hears(this.name, to.name) || !to.agentUp) throw unreachable(to.name);
      const result = await run(to);
      if (!this.world.hears(to.name, this.name)) throw unreachable(to.name);
      return result;
    };
    const from = { peer: this.name, signal: new AbortController().signal };
    return {
      ping: () => call(async () => {}),
      status: (pair, mine) => call((to) => to.handlers().pairStatus({ pair, ...mine }, from)),
      buildStandby: (record) =>
        call(async (to) => void (await to.handlers().buildStandby({ record }, from))),
      takeOver: (pair, generation, epoch, reason) =>
        call((to) =>
          to.handlers().takeOver({ pair, generation, epoch, reason: reason as "switchover" }, from),
        ),
      stopped: (pair, generation) =>
        call(async (to) => void (await to.handlers().pairStopped({ pair, generation }, from))),
      remove: async () => {},
    };
  }

  handlers() {
    this.knownHost ??= this.pairHost();
    return peerHandlers(this.knownHost, this.pairs, {
      hostFacts: async () => ({}),
      probeCriu: async () => [],
      hasImage: async () => true,
      importImage: async () => {},
    });
  }
  private knownHost: PairHost | undefined;

  /** The first primary. */
  async begin(record: PairRecord): Promise<Pair> {
    this.knownHost ??= this.pairHost();
    const pair = new Pair(this.knownHost, { ...record, containerId: "c" }, "starting");
    await pair.save({});
    await pair.exclusively(async () => {
      await coldStart(pair, "open");
      pair.enter("unprotected", "simulation");
    });
    this.pairs.add(pair);
    this.pairs.start();
    await pair.refreshPeer();
    return pair;
  }
}

function unreachable(host: string): FtError {
  return new FtError({ code: "PEER_UNREACHABLE", subject: `host ${host}`, message: "no answer" });
}
