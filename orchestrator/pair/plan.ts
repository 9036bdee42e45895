/**
 * The pair's planner: pure. What one host sees of a pair goes in, typed steps come out; `executors.ts`
 * carries them out one at a time and the planner is asked again.
 *
 * Invariants:
 *  P1  Exactly one voice: a host goes live (gate `open` or `hold`) only as primary of the highest generation it
 *      knows of, and a takeover raises the generation before the first frame leaves.
 *  P2  Only one side may ever go on alone: the standby (failover automatic) or the primary (manual).
 *  P3  Nobody takes over from a checkpoint that is not whole, nor while it cannot reach the clients itself.
 *  P4  Every loss of protection is a state with a name and a reason.
 */
import type { PairState, Role } from "../agent/api-types.js";
import { unreachable } from "../errors/error.js";

export interface PairPolicy {
  failover: "automatic" | "manual";
  onStandbyLoss: "block" | "run-unprotected";
  reprotect: "auto" | "manual";
  onApplicationExit: "failover" | "restart" | "stop";
  agentGraceMs: number;
  lanGraceMs: number;
}

/** What one host knows at an instant. `…ForMs` is how long that has been so; undefined where it is not so. */
export interface PairSight {
  role: Role;
  state: PairState;
  generation: number;
  policy: PairPolicy;
  peer: {
    /** The peer's gate beats (C, by the clock, independent of both agents). */
    beat: "alive" | "silent" | "unknown";
    /** The peer's agent answers on the control link; `asked` = not known yet since the beat fell silent. */
    agent: "answers" | "silent" | "asked" | "unknown";
    agentSilentForMs: number | undefined;
    generation: number;
    role: Role | "none" | "unknown";
    /** The standby is there, warm, of this generation. */
    standbyReady: boolean;
    /** Last epoch that the standby holds; 0 = none. */
    restorableEpoch: number;
    /** It is a standby that does not know yet whether it goes on. */
    undecided: boolean;
    /** Its agent answers that it does not know the pair, for so long; undefined where it does. */
    unknownForMs: number | undefined;
    lan: "up" | "down" | "unknown";
  };
  application: {
    /** `waiting`: it had ended, and its container was started again by hand. */
    state: "none" | "starting" | "running" | "crashed" | "ended" | "waiting";
    /** Crashes shortly after a start or takeover, in a row. */
    crashesInARow: number;
  };
  gate: "up" | "down";
  lan: "up" | "down";
  lanDownForMs: number | undefined;
  /** Since the LAN link came back; undefined if it was never down. */
  lanBackForMs: number | undefined;
  /** Standby: last whole epoch in the store; 0 = none. */
  restorableEpoch: number;
  store: "open" | "none";
  /** Primary: the epoch loop runs / has given up. */
  epochs: "off" | "running" | "lost";
  /** Last try to (re)build the standby failed: not before this is over. */
  reprotectPausedForMs: number | undefined;
  /** An operator's order, carried out once. */
  order: "switchover" | "failover" | undefined;
}

/**
 * Who may go on alone. Two hosts cannot tell a dead peer from a cut link, so without a witness it is the
 * policy that names one side. A witness (etcd, say) would be asked here.
 */
export interface Witness {
  mayGoAlone(role: Role, policy: PairPolicy): boolean;
}

export const policyAsWitness: Witness = {
  mayGoAlone: (role, policy) =>
    role === "standby"
      ? policy.failover === "automatic"
      : policy.onStandbyLoss === "run-unprotected",
};

export type TakeoverReason =
  | "host-lost"
  | "agent-lost"
  | "application-crashed"
  | "switchover"
  | "lan-lost"
  | "operator";

export type PairStep =
  | { kind: "enter"; state: PairState; reason: string }
  | { kind: "restartGate" }
  | { kind: "startEpochs" }
  | { kind: "stopEpochs"; reason: string }
  | { kind: "block"; reason: string }
  | { kind: "runAlone"; reason: string }
  | { kind: "buildStandby" }
  | { kind: "askPeer" }
  | { kind: "takeOver"; reason: TakeoverReason }
  | { kind: "handOver"; reason: TakeoverReason }
  | { kind: "restartApplication" }
  | { kind: "coldStart"; reason: string }
  | { kind: "resumeTakeover" }
  | { kind: "openStore" }
  | { kind: "forget"; reason: string }
  | { kind: "endProtection"; reason: string }
  | { kind: "standDown"; generation: number };

/** A standby of a pair that its primary has not known for so long, and that holds no checkpoint, is a leftover. */
export const LEFTOVER_AFTER_MS = 5_000;

/** A crash that comes back so often right after a start is the application's own: no host will help. */
export const CRASHES_IN_A_ROW_MAX = 3;

export function planPair(sight: PairSight, witness: Witness = policyAsWitness): PairStep[] {
  const superseded = planSuperseded(sight);
  if (superseded) return superseded;
  if (sight.gate === "down" && sight.state !== "stopped") return [{ kind: "restartGate" }];
  return sight.role === "primary" ? planPrimary(sight, witness) : planStandby(sight, witness);
}

/** P1: who meets a higher generation has been replaced, whatever it was doing. */
function planSuperseded({ peer, generation, role, state }: PairSight): PairStep[] | undefined {
  if (peer.generation <= generation || role !== "primary" || state === "standingDown")
    return undefined;
  return [{ kind: "standDown", generation: peer.generation }];
}

function planPrimary(sight: PairSight, witness: Witness): PairStep[] {
  const ended = planApplicationEnd(sight);
  if (ended) return ended;
  const { peer, state, order } = sight;
  switch (state) {
    case "protected":
    case "syncing":
      if (order === "switchover" && state === "protected") {
        return [{ kind: "handOver", reason: "switchover" }];
      }
      if (standbyLost(sight)) return planStandbyLost(sight, witness);
      if (state === "protected" && lanLost(sight))
        return [{ kind: "handOver", reason: "lan-lost" }];
      return sight.epochs === "off" && peer.standbyReady ? [{ kind: "startEpochs" }] : [];
    case "blocked":
      return peer.standbyReady && !standbyLost({ ...sight, epochs: "off" })
        ? [{ kind: "startEpochs" }]
        : planRebuild(sight);
    case "starting":
      return planColdStart(sight);
    case "takingOver":
      return [{ kind: "resumeTakeover" }];
    case "stopped":
      return sight.application.state === "waiting"
        ? [{ kind: "coldStart", reason: "its container was started again" }]
        : [];
    case "unprotected":
      if (peer.standbyReady) return [{ kind: "startEpochs" }];
      return sight.policy.reprotect === "auto" ? planRebuild(sight) : [];
    default:
      return [];
  }
}

/**
 * The primary's host came back and its container does not run: the peer may have taken over meanwhile, so it is asked
 * first. If it has not but could (its takeover failed, or both hosts went down), it still has the memory and the
 * connections, so it is asked to. Else the service starts from its files, as after any crash. Without an answer
 * only a person may say so.
 */
function planColdStart({ application, peer, generation, order, policy }: PairSight): PairStep[] {
  if (application.state !== "none") return [];
  if (order === "failover") return [{ kind: "coldStart", reason: "ordered by the operator" }];
  // Under manual failover the primary may have run alone: then its own files are newer than the standby's checkpoint.
  if (peer.standbyReady && peer.restorableEpoch > 0 && policy.failover === "automatic") {
    return [{ kind: "handOver", reason: "host-lost" }];
  }
  // Its agent has just started, say, and has not found its checkpoint yet: asked again, it will know.
  if (peer.undecided) return [];
  return peer.agent === "answers" && peer.generation <= generation && peer.role !== "primary"
    ? [{ kind: "coldStart", reason: "this host came back and nobody took over" }]
    : [];
}

function planApplicationEnd({
  application,
  policy,
  state,
  peer,
}: PairSight): PairStep[] | undefined {
  if (state === "stopped" || state === "switching" || state === "standingDown") return undefined;
  if (application.state === "ended") {
    return [{ kind: "endProtection", reason: "the application ended by itself" }];
  }
  if (application.state !== "crashed") return undefined;
  if (application.crashesInARow >= CRASHES_IN_A_ROW_MAX || policy.onApplicationExit === "stop") {
    return [{ kind: "endProtection", reason: "the application crashed" }];
  }
  const other = peer.standbyReady && state === "protected";
  return policy.onApplicationExit === "failover" && other
    ? [{ kind: "handOver", reason: "application-crashed" }]
    : [{ kind: "restartApplication" }];
}

function standbyLost({ peer, epochs }: PairSight): boolean {
  return peer.beat === "silent" || epochs === "lost";
}

function planStandbyLost(sight: PairSight, witness: Witness): PairStep[] {
  const reason = sight.epochs === "lost" ? "too many epochs failed" : "the standby is silent";
  const stop: PairStep = { kind: "stopEpochs", reason };
  return witness.mayGoAlone("primary", sight.policy)
    ? [stop, { kind: "runAlone", reason }]
    : [stop, { kind: "block", reason }];
}

/** The peer is reachable but has no standby for us (it was rebooted, or was the old primary). */
function planRebuild({ peer, reprotectPausedForMs, role, generation }: PairSight): PairStep[] {
  if (peer.agent !== "answers" || reprotectPausedForMs !== undefined) return [];
  if (peer.role === "primary" && peer.generation >= generation && role === "primary") return [];
  return peer.standbyReady ? [] : [{ kind: "buildStandby" }];
}

function lanLost({ lan, lanDownForMs, peer, policy }: PairSight): boolean {
  return lan === "down" && (lanDownForMs ?? 0) >= policy.lanGraceMs && peer.lan === "up";
}

function planStandby(sight: PairSight, witness: Witness): PairStep[] {
  const { peer, state, order, policy } = sight;
  const leftover = peer.unknownForMs !== undefined && peer.unknownForMs >= LEFTOVER_AFTER_MS;
  if (leftover && sight.restorableEpoch === 0 && (state === "warm" || state === "preparing")) {
    return [
      {
        kind: "forget",
        reason: "its primary does not know the pair: left over from a protect that failed",
      },
    ];
  }
  if (state !== "warm" && state !== "awaitingOperator") return [];
  if (sight.store === "none") return [{ kind: "openStore" }];
  if (order === "failover") return [{ kind: "takeOver", reason: "operator" }];
  const lost = primaryLost(sight);
  if (lost === "ask") return [{ kind: "askPeer" }];
  if (lost === undefined) {
    return state === "awaitingOperator" && peer.beat === "alive"
      ? [{ kind: "enter", state: "warm", reason: "the primary is back" }]
      : [];
  }
  const why = mayNotTakeOver(sight, witness);
  if (why === undefined) return [{ kind: "takeOver", reason: lost }];
  return state === "awaitingOperator" || policy.failover === "automatic"
    ? []
    : [{ kind: "enter", state: "awaitingOperator", reason: why }];
}

/**
 * Host, gate and agent are told apart: the gate beats by itself. Gate silent + agent answers = the gate died and
 * is being restarted. Gate beats + agent silent = the agent died; it gets its grace, as output waits meanwhile.
 */
function primaryLost({ peer, policy }: PairSight): "host-lost" | "agent-lost" | "ask" | undefined {
  if (peer.beat === "silent") {
    if (peer.agent === "asked" || peer.agent === "unknown") return "ask";
    return peer.agent === "silent" ? "host-lost" : undefined;
  }
  const silentForMs = peer.agentSilentForMs;
  return silentForMs !== undefined && silentForMs >= policy.agentGraceMs ? "agent-lost" : undefined;
}

/** P2 and P3, with the reason for people. */
export function mayNotTakeOver(sight: PairSight, witness: Witness): string | undefined {
  if (sight.restorableEpoch === 0) return "no whole checkpoint has arrived yet";
  if (sight.lan === "down")
    return "this host cannot reach the clients either: its LAN link is down";
  if ((sight.lanBackForMs ?? Number.POSITIVE_INFINITY) < sight.policy.lanGraceMs) {
    return "the LAN link has just come back: the replication link may do so too";
  }
  if (!witness.mayGoAlone("standby", sight.policy)) {
    return "the primary is silent; failover is manual: `ftctl failover --force` takes over";
  }
  return undefined;
}

export function describeStep(step: PairStep): string {
  switch (step.kind) {
    case "enter":
      return `enter ${step.state}`;
    case "takeOver":
    case "handOver":
    case "block":
    case "runAlone":
    case "stopEpochs":
    case "endProtection":
    case "coldStart":
    case "forget":
      return `${step.kind}: ${step.reason}`;
    case "standDown":
      return `stand down for generation ${step.generation}`;
    case "restartGate":
    case "startEpochs":
    case "buildStandby":
    case "askPeer":
    case "restartApplication":
    case "resumeTakeover":
    case "openStore":
      return step.kind;
    default:
      return unreachable(step);
  }
}
