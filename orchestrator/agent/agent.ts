/** The agent's local service: what `ftctl` asks for, in terms of pairs. */

import type { ResolvedPolicy } from "../../policies/resolve.js";
import { ExitCode, FtError } from "../errors/error.js";
import { limits } from "../limits.js";
import type { Pair, PairHost } from "../pair/pair.js";
import type { Origin, OriginControl } from "../pair/ports.js";
import { newPairId, newRecord, protect, unprotect, untilProtected } from "../pair/protect.js";
import { takeOver } from "../pair/takeover.js";
import type {
  AgentInfo,
  AgentService,
  CheckRequest,
  CheckResult,
  FtEvent,
  PairRequest,
  PairView,
  Progress,
  ProtectRequest,
} from "./api-types.js";
import type { Pairs } from "./pairs.js";

/** What the service needs besides pairs. */
export interface AgentParts {
  info(): Promise<AgentInfo>;
  origins: OriginControl;
  /** Policy of the request, or of the container's labels, resolved for this container and pair. */
  resolve(
    request: CheckRequest,
    pairId: string,
  ): Promise<{ policy: ResolvedPolicy; origin: Origin }>;
  /** Named checks on both hosts and of the workload. */
  check(request: CheckRequest): Promise<CheckResult[]>;
  /** Makes the standby's image present. */
  nextBeatPort(): number;
  logLines(pair: string, lines: number): string[];
  /** Mode hybrid: this host's copy, and the program that reads it. */
  eventLog(pair: string): { file: string; program: string };
}

type Tell = (progress: Progress) => void;

export class Agent implements AgentService {
  constructor(
    private readonly host: PairHost,
    private readonly pairs: Pairs,
    private readonly parts: AgentParts,
  ) {}

  info(): Promise<AgentInfo> {
    return this.parts.info();
  }

  check(request: CheckRequest): Promise<CheckResult[]> {
    return this.parts.check(request);
  }

  async protect(request: ProtectRequest, tell: Tell): Promise<PairView> {
    const known = this.pairs.all().find(({ record }) => record.name === request.container);
    if (known) return this.protectAgain(known, tell);
    tell({ step: "check", message: "checking both hosts and the container" });
    refuseFailed(request.container, await this.parts.check(request));
    const pairId = newPairId();
    const { policy, origin } = await this.parts.resolve(request, pairId);
    const record = newRecord(this.host, pairId, origin, policy, this.parts.nextBeatPort());
    try {
      const add = (made: Pair) => this.pairs.add(made);
      const pair = await protect(this.host, this.parts.origins, origin, record, add, tell);
      pair.event("protection-began", "info", `protected by ${record.peer}`);
      return await pair.view();
    } catch (error) {
      this.pairs.delete(pairId);
      throw error;
    }
  }

  /** On a pair that runs alone (reprotect: manual): build the standby now. On a protected one: nothing to do. */
  private async protectAgain(pair: Pair, tell: Tell): Promise<PairView> {
    if (pair.state !== "protected") {
      tell({ step: "standby", message: `building the standby on ${pair.record.peer}` });
      requirePrimary(pair, this.host.name);
      await pair.refreshPeer();
      if (!pair.peerStatus.standbyReady) {
        await pair.exclusively(async () => {
          requirePrimary(pair, this.host.name);
          await pair.peer.buildStandby(pair.record, () => {});
        });
        await pair.refreshPeer();
      }
      await untilProtected(pair);
    }
    return pair.view();
  }

  async unprotect({ pair: ref }: PairRequest, tell: Tell): Promise<{ name: string }> {
    const pair = this.pairs.find(ref);
    const { id, name } = pair.record;
    await unprotect(pair, this.parts.origins, tell);
    pair.event("unprotected", "info", "a plain container again");
    this.pairs.delete(id);
    return { name };
  }

  async switchover({ pair: ref }: PairRequest, tell: Tell): Promise<PairView> {
    const pair = this.pairs.find(ref);
    requirePrimary(pair, this.host.name);
    if (pair.state !== "protected") {
      throw new FtError({
        code: "NOT_PROTECTED",
        subject: `container ${pair.record.name}`,
        message: `it is ${pair.state}${pair.reason ? `: ${pair.reason}` : ""}`,
        hint: "A switchover needs a warm standby; see `ftctl status`.",
        exitCode: ExitCode.refused,
      });
    }
    tell({ step: "switchover", message: `handing ${pair.record.name} to ${pair.record.peer}` });
    pair.order = "switchover";
    pair.consider();
    const busy = new Set<string>(["switching", "standingDown"]);
    await this.until(pair, () => pair.order === undefined && !busy.has(pair.state));
    if (pair.record.role === "primary") throw switchoverFailed(pair);
    tell({ step: "reprotect", message: "the roles are swapped; waiting to be the standby" });
    await this.until(pair, () => pair.state === "warm" && (pair.store?.epoch ?? 0) > 0);
    return pair.view();
  }

  async failover({ pair: ref, force }: PairRequest, tell: Tell): Promise<PairView> {
    const pair = this.pairs.find(ref);
    refuseFailover(pair, force === true);
    tell({ step: "failover", message: `taking over ${pair.record.name} on ${this.host.name}` });
    if (pair.state === "failed") {
      await pair.exclusively(async () => {
        refuseFailover(pair, force === true);
        await takeOver(pair, "operator");
      });
    } else {
      pair.order = "failover";
      pair.consider();
      await this.until(pair, () => pair.order === undefined && pair.state !== "takingOver");
    }
    if (pair.state === "failed") throw pair.lastError ?? switchoverFailed(pair);
    return pair.view();
  }

  async list(): Promise<PairView[]> {
    return Promise.all(this.pairs.all().map((pair) => pair.view()));
  }

  async find(ref: string): Promise<PairView> {
    return this.pairs.find(ref).view();
  }

  async inspect(ref: string): Promise<Record<string, unknown>> {
    const pair = this.pairs.find(ref);
    const { beatKey: _secret, ...record } = pair.record;
    return {
      ...(await pair.view()),
      record,
      peerStatus: pair.peerStatus,
      sight: pair.sight(),
      application: pair.app,
      gate: await pair.gate?.facts(),
      eventLog:
        record.policy["mode"] === "hybrid" ? this.parts.eventLog(pair.record.id) : undefined,
    };
  }

  events(after: number, ref: string | undefined, signal: AbortSignal): AsyncIterable<FtEvent> {
    return this.host.events.follow(after, this.idOf(ref), signal);
  }

  eventsKept(ref: string | undefined): FtEvent[] {
    return this.host.events.list(this.idOf(ref));
  }

  async logs(ref: string, lines: number): Promise<string[]> {
    return this.parts.logLines(this.pairs.find(ref).record.id, lines);
  }

  async metrics(): Promise<string> {
    this.host.metrics.refresh(await this.list());
    return this.host.metrics.registry.metrics();
  }

  /** A removed pair has events but no entry any more: then its id is taken as it is. */
  private idOf(ref: string | undefined): string | undefined {
    if (ref === undefined) return undefined;
    try {
      return this.pairs.find(ref).record.id;
    } catch (error) {
      const kept = this.host.events.list(undefined).find((e) => e.pair === ref || e.name === ref);
      if (kept?.pair) return kept.pair;
      throw error;
    }
  }

  private async until(pair: Pair, done: () => boolean): Promise<void> {
    const { clock } = this.host;
    const deadlineMs = clock.nowMs() + limits.protectTimeoutMs;
    while (!done()) {
      if (clock.nowMs() > deadlineMs) {
        throw new FtError({
          code: "TIME_OUT",
          subject: `container ${pair.record.name}`,
          message: `still ${pair.state} after ${limits.protectTimeoutMs} ms`,
          hint: "It goes on in the background; see `ftctl events`.",
          exitCode: ExitCode.timeOut,
        });
      }
      await clock.sleep(10);
    }
  }
}

function refuseFailed(container: string, results: CheckResult[]): void {
  const failed = results.filter(({ status }) => status === "failed");
  if (failed.length === 0) return;
  const fields = {
    subject: `container ${container}`,
    message: failed.map(({ name, host, reason }) => `${name} (${host}): ${reason}`).join("; "),
    hint: failed.flatMap(({ remedy }) => (remedy ? [remedy] : [])).join(" "),
  };
  if (failed.every(({ name }) => name === "peer")) {
    throw new FtError({ ...fields, code: "PEER_UNREACHABLE", exitCode: ExitCode.peerUnreachable });
  }
  throw new FtError({ ...fields, code: "PREFLIGHT_FAILED", exitCode: ExitCode.preflightFailed });
}

function requirePrimary(pair: Pair, host: string): void {
  if (pair.record.role === "primary") return;
  throw new FtError({
    code: "NOT_PRIMARY",
    subject: `container ${pair.record.name}`,
    message: `${host} is the standby of this pair; ${pair.record.peer} is its primary`,
    hint: `Run it on ${pair.record.peer}.`,
    exitCode: ExitCode.refused,
  });
}

/** Taking over from a living primary, or from nothing, needs --force: a person says what cannot be known here. */
function refuseFailover(pair: Pair, force: boolean): void {
  const { role, name } = pair.record;
  const refuse = (message: string, hint: string) =>
    new FtError({
      code: "FAILOVER_REFUSED",
      subject: `container ${name}`,
      message,
      hint,
      exitCode: ExitCode.refused,
    });
  const dead = pair.state === "starting" || pair.state === "failed";
  if (role === "primary" && !dead) {
    throw refuse(
      "this host is its primary already",
      `Run it on ${pair.record.peer}, or use \`ftctl switchover\`.`,
    );
  }
  if (role === "standby" && (pair.store?.epoch ?? 0) === 0) {
    throw refuse("no whole checkpoint has arrived here yet", "There is nothing to take over from.");
  }
  if (!force) {
    throw refuse(
      "a forced failover may lose what the primary released alone, if it still runs unprotected",
      "Make sure that the primary is dead, then give --force. For a living one: `ftctl switchover`.",
    );
  }
}

function switchoverFailed(pair: Pair): FtError {
  return new FtError({
    code: "SWITCHOVER_FAILED",
    subject: `container ${pair.record.name}`,
    message: pair.lastError?.message ?? pair.reason ?? "the standby did not take over",
    hint: "The service stays where it was; see `ftctl events` on both hosts.",
  });
}
