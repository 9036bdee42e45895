/** Prometheus metrics of one agent. A registry of its own: nothing global. */
import { Counter, Gauge, Histogram, Registry } from "prom-client";
import type { EpochReport } from "../epoch/ports.js";
import type { LogView, PairView } from "./api-types.js";

const STATES = [
  "starting",
  "syncing",
  "protected",
  "blocked",
  "unprotected",
  "preparing",
  "warm",
  "awaitingOperator",
  "takingOver",
  "switching",
  "standingDown",
  "stopped",
  "failed",
] as const;

const SECONDS = [0.001, 0.002, 0.004, 0.006, 0.008, 0.01, 0.015, 0.02, 0.03, 0.05, 0.1, 0.25, 1, 5];

export class AgentMetrics {
  readonly registry = new Registry();
  private readonly epochs = this.counter("ftctl_epochs_committed_total", "Epochs committed");
  private readonly skipped = this.counter("ftctl_epochs_skipped_total", "Epochs skipped", [
    "stage",
  ]);
  private readonly takeovers = this.counter("ftctl_takeovers_total", "Takeovers by this host", [
    "reason",
    "outcome",
  ]);
  private readonly unreached = this.counter(
    "ftctl_replay_unreached_bytes_total",
    "Bytes of event logs that waited for what never came when their replay ended",
  );
  private readonly losses = this.counter("ftctl_protection_lost_total", "Losses of protection", [
    "state",
  ]);
  private readonly pause = this.histogram("ftctl_epoch_pause_seconds", "Time frozen per epoch");
  private readonly dump = this.histogram("ftctl_epoch_dump_seconds", "Dump, from start to blob");
  private readonly ship = this.histogram("ftctl_epoch_ship_seconds", "Shipping, without commit");
  private readonly commit = this.histogram("ftctl_epoch_commit_seconds", "Commit on the standby");
  private readonly bytes = this.counter("ftctl_epoch_bytes_total", "Bytes of epochs shipped");
  private readonly frames = this.counter("ftctl_frames_released_total", "Frames released");
  private readonly heldFrames = this.gauge("ftctl_held_frames", "Frames held now");
  private readonly heldBytes = this.gauge("ftctl_held_bytes", "Bytes held now");
  private readonly heldOldest = this.gauge(
    "ftctl_held_oldest_seconds",
    "Age of the oldest held frame",
  );
  private readonly age = this.gauge(
    "ftctl_committed_age_seconds",
    "Age of the last committed epoch",
  );
  private readonly generation = this.gauge("ftctl_generation", "Generation of the pair");
  private readonly delay = this.gauge("ftctl_output_delay_seconds", "Output delay", ["quantile"]);
  private readonly logCovers = this.gauge("ftctl_log_covers", "1: output waits for the event log");
  private readonly logBytes = this.gauge(
    "ftctl_log_bytes",
    "Bytes of event log since its stream began",
  );
  private readonly logUnacked = this.gauge(
    "ftctl_log_unacked_bytes",
    "Bytes not yet at the standby",
  );
  private readonly logDelay = this.gauge(
    "ftctl_log_delay_seconds",
    "From sending a part of the log to its acknowledgement",
    ["quantile"],
  );
  private readonly state = this.gauge("ftctl_pair_state", "1 for the state the pair is in", [
    "state",
  ]);

  private readonly memory = this.gauge("ftctl_memory_bytes", "Private memory of the application");
  private readonly memoryTracked = this.gauge(
    "ftctl_memory_tracked",
    "1: only written memory is copied; 0: all of it, or all of some process's",
  );

  private readonly ofPairs = [
    ...[this.heldFrames, this.heldBytes, this.heldOldest, this.age, this.state],
    ...[this.memory, this.memoryTracked],
  ];

  committed(pair: string, report: EpochReport): void {
    this.epochs.inc({ pair });
    this.pause.observe({ pair }, report.pauseMs / 1000);
    this.dump.observe({ pair }, report.wallMs / 1000);
    this.ship.observe({ pair }, report.shipMs / 1000);
    this.commit.observe({ pair }, report.commitMs / 1000);
    this.bytes.inc({ pair }, report.bytes);
    this.frames.inc({ pair }, report.releasedFrames);
  }

  skip(pair: string, stage: string): void {
    this.skipped.inc({ pair, stage });
  }

  protectionLost(pair: string, state: string): void {
    this.losses.inc({ pair, state });
  }

  takeover(pair: string, reason: string, outcome: "done" | "failed"): void {
    this.takeovers.inc({ pair, reason, outcome });
  }

  replayUnreached(pair: string, bytes: number): void {
    this.unreached.inc({ pair }, bytes);
  }

  /** Refreshes the gauges from the pairs' views; called on each scrape. */
  refresh(views: PairView[]): void {
    for (const gauge of this.ofPairs) gauge.reset();
    for (const view of views) {
      const pair = view.name;
      this.heldFrames.set({ pair }, view.heldFrames);
      this.heldBytes.set({ pair }, view.heldBytes);
      this.heldOldest.set({ pair }, (view.heldOldestMs ?? 0) / 1000);
      if (view.committedAgeMs !== undefined) this.age.set({ pair }, view.committedAgeMs / 1000);
      this.generation.set({ pair }, view.generation);
      for (const state of STATES) this.state.set({ pair, state }, state === view.state ? 1 : 0);
      if (view.outputDelayMs) {
        this.delay.set({ pair, quantile: "0.5" }, view.outputDelayMs.p50 / 1000);
        this.delay.set({ pair, quantile: "0.99" }, view.outputDelayMs.p99 / 1000);
      }
      if (view.memoryBytes !== undefined) this.memory.set({ pair }, view.memoryBytes);
      if (view.tracking !== undefined) {
        const tracked = view.tracking !== "full" && view.wholeWhy === undefined;
        this.memoryTracked.set({ pair }, tracked ? 1 : 0);
      }
      if (view.log) this.refreshLog(pair, view.log);
    }
  }

  private refreshLog(pair: string, log: LogView): void {
    this.logCovers.set({ pair }, log.covers ? 1 : 0);
    this.logBytes.set({ pair }, log.bytes);
    this.logUnacked.set({ pair }, log.unackedBytes);
    if (!log.delayMs) return;
    this.logDelay.set({ pair, quantile: "0.5" }, log.delayMs.p50 / 1000);
    this.logDelay.set({ pair, quantile: "0.99" }, log.delayMs.p99 / 1000);
  }

  private counter(name: string, help: string, labels: string[] = []) {
    const labelNames = ["pair", ...labels];
    return new Counter({ name, help, labelNames, registers: [this.registry] });
  }

  private gauge(name: string, help: string, labels: string[] = []) {
    const labelNames = ["pair", ...labels];
    return new Gauge({ name, help, labelNames, registers: [this.registry] });
  }

  private histogram(name: string, help: string) {
    return new Histogram({
      name,
      help,
      labelNames: ["pair"],
      buckets: SECONDS,
      registers: [this.registry],
    });
  }
}
