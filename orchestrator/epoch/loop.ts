/**
 * The epoch's executors: carries out what `planSteps` says, one step after the other, and reduces the
 * outcomes. One loop per protected pair on its primary.
 */
import type { Clock } from "../clock.js";
import { invariant, unreachable } from "../errors/error.js";
import type { Faults } from "../faults/faults.js";
import {
  type EpochOutcome,
  type EpochPolicy,
  type EpochState,
  type EpochStep,
  initialEpochState,
  planSteps,
  reduce,
} from "./plan.js";
import type { Dumper, DumpResult, EpochObserver, Releaser, Shipper, Spool } from "./ports.js";

export interface EpochLoopParts {
  dumper: Dumper;
  shipper: Shipper;
  releaser: Releaser;
  spool: Spool;
  observer: EpochObserver;
  clock: Clock;
  faults: Faults;
}

/** How long after a failed epoch the next is tried: short first (a race with an exiting process), then calmer. */
export function retryInMs(failuresInARow: number): number {
  return Math.min(5 * 2 ** failuresInARow, 250);
}

export class EpochLoop {
  private state: EpochState;
  private wake: () => void = () => {};
  private running: Promise<void> | undefined;
  private dumped: DumpResult | undefined;
  private shipped: { shipMs: number; commitMs: number } | undefined;
  private waiters: { epoch: number; resolve: () => void; reject: (error: unknown) => void }[] = [];

  /**
   * @param lastEpoch  the highest epoch number ever used by this pair
   * @param generation of this primary; stamped on every epoch
   */
  constructor(
    private readonly parts: EpochLoopParts,
    private readonly policy: EpochPolicy,
    private readonly generation: number,
    lastEpoch: number,
  ) {
    this.state = initialEpochState(lastEpoch);
  }

  get committed(): number {
    return this.state.committed;
  }
  get lastEpoch(): number {
    return this.state.lastEpoch;
  }

  start(): void {
    invariant(this.running === undefined, "an epoch loop starts once");
    this.running = this.run();
  }

  /** Lets the epoch in flight end, then stops. */
  async stop(reason: unknown): Promise<void> {
    this.apply({ kind: "stop" });
    await this.running;
    this.rejectWaiters(reason);
  }

  /** The gate holds output of this epoch. */
  outputHeld(epoch: number): void {
    this.apply({ kind: "outputHeld", epoch });
  }

  /** Takes a checkpoint that starts from now on and resolves when the standby has committed it. */
  async checkpointNow(): Promise<number> {
    const epoch = this.state.lastEpoch + 1;
    this.apply({ kind: "wanted" });
    await new Promise<void>((resolve, reject) => this.waiters.push({ epoch, resolve, reject }));
    return this.state.committed;
  }

  private apply(outcome: EpochOutcome): void {
    this.state = reduce(this.state, outcome);
    this.wake();
  }

  private async run(): Promise<void> {
    for (;;) {
      for (const step of planSteps(this.state, this.policy, this.parts.clock.nowMs())) {
        if (step.kind === "stop") return;
        if (step.kind === "declareLost") return this.declareLost(step.failures);
        await this.execute(step);
      }
    }
  }

  private async execute(step: Exclude<EpochStep, { kind: "stop" | "declareLost" }>): Promise<void> {
    switch (step.kind) {
      case "wait":
        return this.wait(step.untilMs);
      case "dump":
        return this.attempt(step.epoch, "dump", () => this.dump(step.epoch, step.base));
      case "ship":
        return this.attempt(step.epoch, "ship", () => this.ship(step));
      case "release":
        return this.release(step.epoch);
      default:
        return unreachable(step);
    }
  }

  /** Sleeps until the time, or until an outcome changes the plan. */
  private async wait(untilMs: number): Promise<void> {
    const abort = new AbortController();
    this.wake = () => abort.abort();
    const ms = Math.min(untilMs - this.parts.clock.nowMs(), 60_000);
    await this.parts.clock.sleep(Math.max(ms, 0), abort.signal).catch(() => {});
    this.wake = () => {};
  }

  private async attempt(
    epoch: number,
    stage: "dump" | "ship",
    action: () => Promise<void>,
  ): Promise<void> {
    try {
      await action();
    } catch (error) {
      await this.parts.spool.remove(epoch);
      const failures = this.state.failuresInARow;
      const atMs = this.parts.clock.nowMs();
      this.apply({ kind: "failed", epoch, atMs, retryInMs: retryInMs(failures) });
      this.parts.observer.skipped(epoch, stage, error);
    }
  }

  private async dump(epoch: number, base: number): Promise<void> {
    const { clock, dumper, faults, spool } = this.parts;
    this.apply({ kind: "dumpStarted", epoch, base, atMs: clock.nowMs() });
    await faults.pass("epoch.begin");
    await faults.pass("epoch.dump.before");
    const path = spool.pathOf(epoch);
    this.dumped = await dumper.dump({ epoch, base, generation: this.generation, path });
    await faults.pass("epoch.dump.after");
    this.apply({ kind: "dumped", epoch, bytes: this.dumped.bytes });
  }

  private async ship(step: Extract<EpochStep, { kind: "ship" }>): Promise<void> {
    const { clock, faults, shipper, spool } = this.parts;
    const path = spool.pathOf(step.epoch);
    await faults.pass("epoch.ship.before");
    const startMs = clock.nowMs();
    const { epoch, bytes } = step;
    const base = this.dumped?.full ? 0 : step.base;
    const { commitMs } = await shipper.ship({
      epoch,
      base,
      generation: this.generation,
      path,
      bytes,
    });
    this.shipped = { shipMs: clock.nowMs() - startMs - commitMs, commitMs };
    await faults.pass("epoch.ship.after");
    this.apply({ kind: "committed", epoch });
  }

  /** Committed: from here the output must leave. A gate that fails now is restarted by the pair; its frames are gone with it. */
  private async release(epoch: number): Promise<void> {
    const { clock, dumper, faults, observer, releaser, spool } = this.parts;
    const { dumped, shipped } = this;
    invariant(
      dumped !== undefined && shipped !== undefined,
      "released epochs were dumped and shipped",
    );
    let released = { frames: 0, bytes: 0, stillHeld: true };
    try {
      await faults.pass("epoch.release.before");
      released = await releaser.release(epoch);
      await faults.pass("epoch.release.after");
      await dumper.acked(epoch);
    } catch (error) {
      observer.skipped(epoch, "release", error);
    }
    const totalMs = clock.nowMs() - this.state.lastStartMs;
    this.apply({ kind: "released", epoch, stillHeld: released.stillHeld });
    observer.committed({ ...dumped, ...shipped, epoch, releasedFrames: released.frames, totalMs });
    this.resolveWaiters(epoch);
    await spool.remove(epoch);
  }

  private declareLost(failures: number): void {
    this.rejectWaiters(new Error(`${failures} epochs in a row failed`));
    this.parts.observer.lost(failures);
  }

  private resolveWaiters(epoch: number): void {
    const due = this.waiters.filter((waiter) => waiter.epoch <= epoch);
    this.waiters = this.waiters.filter((waiter) => waiter.epoch > epoch);
    for (const waiter of due) waiter.resolve();
  }

  /** Whoever waits for a checkpoint need not wait for the epochs' own retries: it cannot be had now. */
  rejectWaiters(error: unknown): void {
    for (const waiter of this.waiters.splice(0)) waiter.reject(error);
  }
}
