/**
 * The epoch's planner: pure. State in, typed steps out; `loop.ts` carries them out and feeds the outcomes
 * back through `reduce`.
 *
 * The way of one epoch N: dump (freeze, capture, thaw) → ship → the standby verifies and commits → release.
 *
 * Invariants, asserted in `reduce`:
 *  I1  At most one epoch is in flight.
 *  I2  Epoch numbers only go up, also over skipped epochs.
 *  I3  Output of epoch N is released only after the standby said that it has committed N.
 *  I4  A delta is only made against the epoch that the standby holds; where that is in doubt: a full one.
 */
import { invariant, unreachable } from "../errors/error.js";

/** What the planner may know of the policy; times in milliseconds. */
export interface EpochPolicy {
  /** Smallest distance between two checkpoint starts while output waits. */
  intervalMs: number;
  /** A checkpoint at least so often when nothing waits. */
  idleIntervalMs: number;
  /** Failures in a row before protection counts as lost. */
  failuresMax: number;
}

export type FlightPhase = "dumping" | "dumped" | "committed";

export interface EpochState {
  /** Last number given to an epoch, committed or not. */
  lastEpoch: number;
  /** Last epoch the standby committed; 0 before the first. */
  committed: number;
  /** Epoch the standby holds and the next delta is made against; 0 = the next one must be full. */
  base: number;
  flight: { epoch: number; base: number; phase: FlightPhase; bytes: number } | undefined;
  /** When the last dump started; -Infinity before the first. */
  lastStartMs: number;
  /** Highest epoch of which output is known to be held; it waits while that is not released. */
  heldEpoch: number;
  /** Last epoch whose output was released. */
  released: number;
  /** A checkpoint was asked for (first one, switchover), whatever the clock says. */
  wanted: boolean;
  failuresInARow: number;
  /** After a failure: not before this time. */
  notBeforeMs: number;
  stopped: boolean;
}

export type EpochStep =
  | { kind: "wait"; untilMs: number }
  | { kind: "dump"; epoch: number; base: number }
  | { kind: "ship"; epoch: number; base: number; bytes: number }
  | { kind: "release"; epoch: number }
  | { kind: "declareLost"; failures: number }
  | { kind: "stop" };

export type EpochOutcome =
  | { kind: "outputHeld"; epoch: number }
  | { kind: "wanted" }
  | { kind: "dumpStarted"; epoch: number; base: number; atMs: number }
  | { kind: "dumped"; epoch: number; bytes: number }
  | { kind: "committed"; epoch: number }
  | { kind: "released"; epoch: number; stillHeld: boolean }
  | { kind: "failed"; epoch: number; atMs: number; retryInMs: number }
  | { kind: "stop" };

export function initialEpochState(lastEpoch: number): EpochState {
  return {
    lastEpoch,
    committed: 0,
    base: 0,
    flight: undefined,
    lastStartMs: Number.NEGATIVE_INFINITY,
    heldEpoch: 0,
    released: 0,
    wanted: true,
    failuresInARow: 0,
    notBeforeMs: Number.NEGATIVE_INFINITY,
    stopped: false,
  };
}

/** What to do next, in order. Never empty: when there is nothing to do it says until when. */
export function planSteps(state: EpochState, policy: EpochPolicy, nowMs: number): EpochStep[] {
  if (state.flight) return planFlight(state.flight);
  if (state.stopped) return [{ kind: "stop" }];
  if (state.failuresInARow >= policy.failuresMax) {
    return [{ kind: "declareLost", failures: state.failuresInARow }];
  }
  const dueMs = nextStartMs(state, policy);
  if (nowMs < dueMs) return [{ kind: "wait", untilMs: dueMs }];
  return [{ kind: "dump", epoch: state.lastEpoch + 1, base: state.base }];
}

function planFlight(flight: NonNullable<EpochState["flight"]>): EpochStep[] {
  const { epoch, base, bytes } = flight;
  switch (flight.phase) {
    case "dumping":
      throw new Error(`I1: epoch ${epoch} is still being dumped`);
    case "dumped":
      return [{ kind: "ship", epoch, base, bytes }];
    case "committed":
      return [{ kind: "release", epoch }];
    default:
      return unreachable(flight.phase);
  }
}

/** When the next checkpoint is due. Output that waits hurries it; nothing makes it closer than the interval. */
export function nextStartMs(state: EpochState, policy: EpochPolicy): number {
  const waiting = state.heldEpoch > state.released;
  const hurried = state.wanted || waiting || state.failuresInARow > 0;
  const spacingMs = hurried ? policy.intervalMs : policy.idleIntervalMs;
  return Math.max(state.lastStartMs + spacingMs, state.notBeforeMs);
}

/** The state after an outcome. Pure; asserts the invariants. */
export function reduce(state: EpochState, outcome: EpochOutcome): EpochState {
  switch (outcome.kind) {
    case "outputHeld":
      return { ...state, heldEpoch: Math.max(state.heldEpoch, outcome.epoch) };
    case "wanted":
      return { ...state, wanted: true };
    case "stop":
      return { ...state, stopped: true };
    case "dumpStarted":
      return afterDumpStarted(state, outcome);
    case "dumped": {
      const flight = inFlight(state, outcome.epoch, "dumping");
      return { ...state, flight: { ...flight, phase: "dumped", bytes: outcome.bytes } };
    }
    case "committed": {
      const flight = inFlight(state, outcome.epoch, "dumped");
      return {
        ...state,
        flight: { ...flight, phase: "committed" },
        committed: outcome.epoch,
        base: outcome.epoch,
        failuresInARow: 0,
      };
    }
    case "released": {
      inFlight(state, outcome.epoch, "committed");
      // News of output held since may have come before this outcome: it must not be forgotten.
      const heldEpoch = outcome.stillHeld
        ? Math.max(state.heldEpoch, outcome.epoch + 1)
        : state.heldEpoch;
      return { ...state, flight: undefined, released: outcome.epoch, heldEpoch };
    }
    case "failed":
      return afterFailure(state, outcome);
    default:
      return unreachable(outcome);
  }
}

function afterDumpStarted(
  state: EpochState,
  outcome: Extract<EpochOutcome, { kind: "dumpStarted" }>,
): EpochState {
  invariant(state.flight === undefined, "I1: one epoch in flight");
  invariant(outcome.epoch > state.lastEpoch, "I2: epoch numbers go up");
  invariant(
    outcome.base === 0 || outcome.base === state.committed,
    "I4: delta against what is held",
  );
  return {
    ...state,
    lastEpoch: outcome.epoch,
    lastStartMs: outcome.atMs,
    wanted: false,
    flight: { epoch: outcome.epoch, base: outcome.base, phase: "dumping", bytes: 0 },
  };
}

/** The epoch is skipped: output stays held, the next one is full since the standby's state is in doubt. */
function afterFailure(
  state: EpochState,
  outcome: Extract<EpochOutcome, { kind: "failed" }>,
): EpochState {
  invariant(state.flight?.epoch === outcome.epoch, "only the epoch in flight can fail");
  invariant(state.flight.phase !== "committed", "I3: a committed epoch is released, not failed");
  return {
    ...state,
    flight: undefined,
    base: 0,
    wanted: true,
    failuresInARow: state.failuresInARow + 1,
    notBeforeMs: outcome.atMs + outcome.retryInMs,
  };
}

function inFlight(state: EpochState, epoch: number, phase: FlightPhase) {
  const flight = state.flight;
  invariant(flight !== undefined && flight.epoch === epoch, `I1: epoch ${epoch} is in flight`);
  invariant(flight.phase === phase, `epoch ${epoch} is ${flight.phase}, not ${phase}`);
  return flight;
}
