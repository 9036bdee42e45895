/**
 * One pair on this host: its facts, its working parts and its one operation at a time.
 *
 * The facts change by news (gate, application, peer, clock). After each change the planner is asked
 * (`plan.ts`), and what it says is carried out by `steps.ts`.
 *
 * Invariants:
 *  A1  One operation at a time: a step runs to its end before the planner is asked again.
 *  A2  The gate is told a mode only together with the generation of the record on disk.
 *  A3  A state is entered with a reason and an event; none is left silently.
 */
import type { Logger } from "pino";
import type { ResolvedPolicy } from "../../policies/resolve.js";
import type { PairState, PairView } from "../agent/api-types.js";
import type { EventLog } from "../agent/events.js";
import type { AgentMetrics } from "../agent/metrics.js";
import type { Clock } from "../clock.js";
import type { EpochLoop } from "../epoch/loop.js";
import type { EpochReport } from "../epoch/ports.js";
import { asFtError, FtError, invariant } from "../errors/error.js";
import type { Faults } from "../faults/faults.js";
import { limits } from "../limits.js";
import { Acceptance } from "./acceptance.js";
import { EpochNotes } from "./epoch-notes.js";
import { describeStep, type PairSight, planPair } from "./plan.js";
import type {
  Application,
  GateControl,
  GateNews,
  PairDumper,
  PairParts,
  PeerControl,
  PeerStatus,
  StoreControl,
} from "./ports.js";
import { forgetPreparation } from "./prepare.js";
import type { PairRecord, PairRecords } from "./record.js";
import { discardUnshipped, onShipNews } from "./recording.js";
import { executeStep } from "./steps.js";
import { viewPair } from "./view.js";

/** What all pairs of a host share. */
export interface PairHost {
  name: string;
  clock: Clock;
  faults: Faults;
  log: Logger;
  events: EventLog;
  metrics: AgentMetrics;
  records: PairRecords;
  parts: PairParts;
  peer(name: string): PeerControl;
  /** Takes a pair that was removed off the agent's list. */
  dropped(pair: string): void;
  /** Where blobs of this pair lie between dump and ship. */
  spoolDir(pair: string): string;
}

const UNKNOWN_PEER: PeerStatus = {
  known: false,
  role: "none",
  state: "unknown",
  generation: 0,
  committedEpoch: 0,
  standbyReady: false,
  undecided: false,
  lan: "unknown",
};

/** Losses of protection: each is an event of its own and counted. */
const LOSSES: ReadonlySet<PairState> = new Set([
  "blocked",
  "unprotected",
  "awaitingOperator",
  "stopped",
  "failed",
]);

export class Pair {
  state: PairState;
  reason: string | undefined;
  gate: GateControl | undefined;
  dumper: PairDumper | undefined;
  store: StoreControl | undefined;
  loop: EpochLoop | undefined;
  loopLost = false;
  stopShipping: (() => void) | undefined;
  app: Application | undefined;
  applicationState: PairSight["application"]["state"] = "none";
  crashesInARow = 0;
  applicationStartMs = 0;
  unwatchExit: (() => void) | undefined;
  order: PairSight["order"];
  reprotectNotBeforeMs = Number.NEGATIVE_INFINITY;
  protectedSince: string | undefined;
  takeover: PairView["takeover"];
  /** What a takeover needs is being made ready, or is (prepare.ts). */
  preparing: Promise<void> | undefined;
  lastError: FtError | undefined;
  beatSilentAtMs: number | undefined;
  /** Mode hybrid: output waits for the event log now. */
  covered = false;
  uncoveredWhy = "";
  /** The gate is the log's source, and trims it. */
  shipping = false;
  discarding: Promise<void> | undefined;

  /** As standby: whether epochs are taken (T1). */
  readonly acceptance: Acceptance;

  peerStatus: PeerStatus = UNKNOWN_PEER;
  peerBeat: "alive" | "silent" | "unknown" = "unknown";
  peerAgent: PairSight["peer"]["agent"] = "unknown";
  private peerAgentSilentSinceMs: number | undefined;
  private peerLan: "up" | "down" | "unknown" = "unknown";
  private lan: "up" | "down" = "up";
  private lanDownSinceMs: number | undefined;
  private lanBackSinceMs: number | undefined;
  private peerUnknownSinceMs: number | undefined;
  private busy: Promise<void> | undefined;
  private failedStep: { kind: string; untilMs: number } | undefined;
  private closed = false;
  /** What its checkpoints told. */
  readonly epochs = new EpochNotes();
  readonly log: Logger;

  /** Taken up from its record, and not yet looked at what of it still runs here. */
  adopting = false;

  constructor(
    readonly host: PairHost,
    public record: PairRecord,
    state: PairState,
  ) {
    this.state = state;
    this.log = host.log.child({ pair: record.id, name: record.name });
    this.acceptance = new Acceptance(`pair ${record.id}`);
  }

  get policy(): ResolvedPolicy {
    return this.record.policy as unknown as ResolvedPolicy;
  }
  get undecided(): boolean {
    if (this.record.role !== "standby") return false;
    const warm = this.state === "warm" || this.state === "awaitingOperator";
    return this.adopting || this.state === "takingOver" || (warm && this.store === undefined);
  }
  get peer(): PeerControl {
    return this.host.peer(this.record.peer);
  }

  // --- one operation at a time (A1) ---------------------------------------------------------------

  /** Runs `operation` when no other is under way. Operations of the planner and of people queue here. */
  async exclusively<T>(operation: () => Promise<T>): Promise<T> {
    while (this.busy) await this.busy.catch(() => {});
    let done: () => void = () => {};
    this.busy = new Promise((resolve) => {
      done = resolve;
    });
    try {
      return await operation();
    } finally {
      this.busy = undefined;
      done();
      setImmediate(() => this.consider());
    }
  }

  /** Asks the planner, as something may have changed. Never throws; cheap when there is nothing to do. */
  consider(): void {
    if (this.closed || this.busy) return;
    const steps = planPair(this.sight());
    if (steps.length === 0 || this.failedJustNow(steps[0]!.kind)) return;
    void this.exclusively(async () => {
      for (const step of steps) {
        this.log.info({ step: describeStep(step) }, "step");
        await executeStep(this, step);
      }
    }).catch((error) => {
      const untilMs = this.host.clock.nowMs() + limits.failedStepPauseMs;
      this.failedStep = { kind: steps[0]!.kind, untilMs };
      this.stepFailed(error, steps.map(describeStep).join(", "));
    });
  }

  /** A step that failed is not tried again at once; the tick comes back to it. */
  private failedJustNow(kind: string): boolean {
    return this.failedStep?.kind === kind && this.host.clock.nowMs() < this.failedStep.untilMs;
  }

  /** A step that threw: kept, told, and the planner goes on from what is now so. */
  stepFailed(error: unknown, doing: string): void {
    this.lastError = asFtError(error, this.record.name);
    this.log.error({ err: error, doing }, "step failed");
    this.event("step-failed", "error", `${doing}: ${this.lastError.message}`, {
      code: this.lastError.code,
    });
  }

  /** The planner is not asked any more; what works for the pair stays, to be torn down or let go. */
  stopPlanning(): void {
    this.closed = true;
    this.unwatchExit?.();
  }

  /** Lets go of the gate too, which goes on by itself. */
  close(): void {
    this.stopPlanning();
    this.gate?.release();
  }

  // --- parts that died -----------------------------------------------------------------------------

  /** ftstore died. The planner opens it again. */
  storeGone(): void {
    this.store = undefined;
    this.event(
      "store-lost",
      "warning",
      "ftstore went away: no epoch is committed until it is back",
    );
    this.consider();
  }

  /** ftdump died; it has thawed what it froze. The epochs begin anew with another one. */
  dumperGone(): void {
    this.loopLost = this.loop !== undefined;
    this.event("dumper-lost", "warning", "ftdump went away: output waits for the next checkpoint");
    this.consider();
  }

  /** The peer's gate is still silent though its agent answered a while ago. */
  askAgain(): void {
    if (this.peerBeat === "silent" && this.peerAgent === "answers") this.peerAgent = "unknown";
    this.consider();
  }

  // --- facts --------------------------------------------------------------------------------------

  sight(): PairSight {
    const nowMs = this.host.clock.nowMs();
    const since = (atMs: number | undefined) => (atMs === undefined ? undefined : nowMs - atMs);
    const { failover, onStandbyLoss, reprotect, onApplicationExit, detection } = this.policy;
    const pausedForMs = this.reprotectNotBeforeMs - nowMs;
    return {
      role: this.record.role,
      state: this.state,
      generation: this.record.generation,
      policy: {
        failover,
        onStandbyLoss,
        reprotect,
        onApplicationExit,
        agentGraceMs: detection.agentGraceMs,
        lanGraceMs: detection.lanGraceMs,
      },
      peer: {
        beat: this.peerBeat,
        agent: this.peerAgent,
        agentSilentForMs: since(this.peerAgentSilentSinceMs),
        generation: this.peerStatus.generation,
        role: this.peerStatus.role,
        standbyReady:
          this.peerStatus.standbyReady && this.peerStatus.generation === this.record.generation,
        restorableEpoch: this.peerStatus.committedEpoch,
        undecided: this.peerStatus.undecided,
        unknownForMs: since(this.peerUnknownSinceMs),
        lan: this.peerLan === "unknown" ? this.peerStatus.lan : this.peerLan,
      },
      application: { state: this.applicationState, crashesInARow: this.crashesInARow },
      gate: this.app === undefined || (this.gate && !this.gate.gone) ? "up" : "down",
      lan: this.lan,
      lanDownForMs: since(this.lanDownSinceMs),
      lanBackForMs: since(this.lanBackSinceMs),
      restorableEpoch: this.store?.epoch ?? 0,
      store: this.store ? "open" : "none",
      epochs: this.loopLost ? "lost" : this.loop ? "running" : "off",
      reprotectPausedForMs: pausedForMs > 0 ? pausedForMs : undefined,
      order: this.order,
    };
  }

  onGateNews(news: GateNews): void {
    switch (news.kind) {
      case "held":
        this.loop?.outputHeld(news.epoch);
        return;
      case "peerBeat":
        this.onPeerBeat(news.state);
        break;
      case "peerFlags":
        this.onPeerFlags(news);
        break;
      case "lan":
        if (news.state === "up" && this.lan === "down") {
          this.lanBackSinceMs = this.host.clock.nowMs();
        }
        this.lan = news.state;
        this.lanDownSinceMs = news.state === "down" ? this.host.clock.nowMs() : undefined;
        this.event(
          `lan-${news.state}`,
          news.state === "up" ? "info" : "warning",
          `the LAN link is ${news.state}`,
        );
        break;
      case "bound":
        if (news.reached) {
          this.event(
            "hold-bound",
            "warning",
            "held output reached its bound: the container's sends wait",
          );
        }
        break;
      case "thawedByDisconnect":
        this.event(
          "thawed-by-disconnect",
          "warning",
          "ftdump went away during a freeze; input flows again",
        );
        break;
      case "ship":
        onShipNews(this, news);
        break;
      case "fenced":
        this.peerStatus = { ...this.peerStatus, generation: news.generation };
        void this.refreshPeer();
        break;
      case "gone":
        this.gate = undefined;
        // A handover waits for a checkpoint, and the gate is restarted only after it.
        this.loop?.rejectWaiters(
          new FtError({
            code: "CONTROL_CLOSED",
            subject: `gate of pair ${this.record.id}`,
            message: `the gate is gone (${news.reason})`,
          }),
        );
        this.event(
          "gate-lost",
          "warning",
          `the gate is gone (${news.reason}): output stalls until it is restarted`,
        );
        break;
    }
    this.consider();
  }

  private onPeerBeat(state: "alive" | "silent"): void {
    this.peerBeat = state;
    this.beatSilentAtMs = state === "silent" ? this.host.clock.nowMs() : undefined;
    if (state === "silent") {
      this.peerAgent = "unknown";
      this.event("peer-silent", "warning", `${this.record.peer} sends no heartbeat`);
    } else {
      this.event("peer-alive", "info", `${this.record.peer} is heard again`);
      if (this.preparing) this.forgetPreparation();
      void this.refreshPeer();
    }
  }

  /** A silence that came to nothing. */
  private forgetPreparation(): void {
    this.exclusively(() => forgetPreparation(this)).catch((error: unknown) =>
      this.log.warn({ err: error }, "what was prepared for a takeover stays"),
    );
  }

  private onPeerFlags(flags: Extract<GateNews, { kind: "peerFlags" }>): void {
    const nowMs = this.host.clock.nowMs();
    this.peerAgentSilentSinceMs = flags.agent ? undefined : (this.peerAgentSilentSinceMs ?? nowMs);
    this.peerLan = flags.lan ? "up" : "down";
    if (flags.generation > this.peerStatus.generation) void this.refreshPeer();
  }

  /** Nothing is wanted and the peer answered when it was asked last. */
  get settled(): boolean {
    const good = this.state === "protected" || this.state === "warm";
    return good && this.peerAgent === "answers" && this.peerBeat === "alive";
  }

  /** Asks the peer's agent how it sees the pair. Failure is a fact too. */
  async refreshPeer(): Promise<void> {
    const { role, generation } = this.record;
    try {
      this.peerStatus = await this.peer.status(this.record.id, { role, generation });
      this.peerAgent = "answers";
      this.peerUnknownSinceMs = this.peerStatus.known
        ? undefined
        : (this.peerUnknownSinceMs ?? this.host.clock.nowMs());
    } catch {
      this.peerUnknownSinceMs = undefined;
      this.peerAgent = "silent";
      this.peerStatus = { ...this.peerStatus, standbyReady: false };
    }
    this.consider();
  }

  /** Called by the agent's clock some times a second: the gate takes an agent that is silent for 1 s for dead. */
  async tick(): Promise<void> {
    if (this.state === "stopped" && this.record.role === "primary") await this.lookForStart();
    discardUnshipped(this);
    const app = {
      none: "none",
      starting: "none",
      running: "running",
      crashed: "exited",
      ended: "exited",
      waiting: "none",
    }[this.applicationState] as "none" | "running" | "exited";
    await this.gate
      ?.beat({ app, lan: this.lan === "up", epoch: this.loop?.lastEpoch ?? 0 })
      .catch(() => {});
    this.consider();
  }

  /** After its application ended, somebody may start the container again, as any other. */
  private async lookForStart(): Promise<void> {
    const { container } = this.host.parts;
    // Docker may be down, or the container on its way: the next tick looks again.
    const waits = await container.waiting(this.record.containerId).catch(() => false);
    if (waits && this.state === "stopped") this.setApplication("waiting");
  }

  setApplication(state: PairSight["application"]["state"]): void {
    this.applicationState = state;
    if (state === "running") this.applicationStartMs = this.host.clock.nowMs();
  }

  watchExit(app: Application): void {
    this.unwatchExit?.();
    this.unwatchExit = this.host.parts.container.watchExit(app, ({ status, signal }) => {
      const livedMs = this.host.clock.nowMs() - this.applicationStartMs;
      const clean = status === 0 && signal === 0;
      this.crashesInARow = livedMs < limits.crashLoopWindowMs ? this.crashesInARow + 1 : 1;
      this.setApplication(clean ? "ended" : "crashed");
      this.event(
        clean ? "application-ended" : "application-crashed",
        clean ? "info" : "error",
        `the application exited with status ${status}${signal ? ` by signal ${signal}` : ""}`,
      );
      this.consider();
    });
  }

  // --- told to those who watch --------------------------------------------------------------------

  enter(state: PairState, reason: string): void {
    if (state === this.state && reason === this.reason) return;
    const before = this.state;
    this.state = state;
    this.reason = reason;
    this.protectedSince =
      state === "protected" ? new Date(this.host.clock.wallMs()).toISOString() : undefined;
    const lost = LOSSES.has(state);
    if (lost) this.host.metrics.protectionLost(this.record.name, state);
    this.event(kebab(state), lost ? "warning" : "info", reason, { before });
  }

  event(
    type: string,
    level: "info" | "warning" | "error",
    message: string,
    fields: Record<string, string | number | boolean> = {},
  ): void {
    const { id, name, generation } = this.record;
    this.host.events.emit({
      pair: id,
      name,
      type,
      level,
      message,
      fields: { generation, ...fields },
    });
    this.log[level === "warning" ? "warn" : level]({ type, ...fields }, message);
  }

  epochCommitted(report: EpochReport): void {
    const news = this.epochs.committed(report, this.host.clock.nowMs());
    if (news.memory) this.event(news.memory.type, news.memory.level, news.memory.message);
    for (const { fields, message } of news.lines) this.log.info(fields, message);
    this.host.metrics.committed(this.record.name, report);
    if (this.state !== "protected" && this.state !== "switching") {
      this.enter("protected", `epoch ${report.epoch} is safe on ${this.record.peer}`);
    }
  }

  epochSkipped(epoch: number, stage: string, error: unknown): void {
    this.epochs.skipped += 1;
    this.lastError = asFtError(error, this.record.name);
    this.host.metrics.skip(this.record.name, stage);
    this.event(
      "epoch-skipped",
      "warning",
      `epoch ${epoch}: ${stage} failed: ${this.lastError.message}`,
      {
        epoch,
        stage,
        code: this.lastError.code,
      },
    );
  }

  async save(change: Partial<PairRecord>): Promise<void> {
    const next = { ...this.record, ...change };
    invariant(next.generation >= this.record.generation, "P1: generations only go up");
    await this.host.records.save(next);
    this.record = next;
  }

  requireGate(): GateControl {
    invariant(this.gate !== undefined, "the pair has a gate");
    return this.gate;
  }

  view(): Promise<PairView> {
    return viewPair(this);
  }
}

function kebab(state: string): string {
  return state.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);
}
