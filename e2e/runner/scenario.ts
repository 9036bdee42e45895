/** What a scenario is, and what it is given. */
import type { Verdict } from "../checkers/verdict.js";
import { brokenPromises, verdictOf } from "../checkers/verdict.js";
import type { ClientProcess } from "../clients/client-process.js";
import { outageMsAround } from "../clients/latency.js";
import type { ClientOptions } from "../clients/options.js";
import type { ClientReport } from "../clients/report.js";
import type { WorkloadName } from "../workloads/workloads.js";
import type { Ftctl } from "./ftctl.js";
import type { Host, Hosts } from "./hosts.js";
import type { PairPool } from "./pair-pool.js";
import type { PolicyOverrides, Service } from "./service.js";
import { watchSilence } from "./silence.js";

export interface Scenario {
  name: string;
  /** Runs in `make test`; the others with --all. */
  quick: boolean;
  /** The scenario has failed when it takes longer. */
  boundMs: number;
  run(context: Context): Promise<void>;
}

export interface Context {
  hosts: Hosts;
  ftctl: Ftctl;
  pool: PairPool;
  note(text: string): void;
}

/** A protected service under load, while a scenario does things to it. */
export interface Loaded {
  service: Service;
  primary: Host;
  standby: Host;
  client: ClientProcess;
}

export interface LoadedOptions {
  workload?: WorkloadName;
  policy?: PolicyOverrides;
  client?: Partial<ClientOptions>;
  /** Answers that must have come before the fault. */
  warmUpReplies?: number;
  /** What may be broken on purpose: for a fault whose price is documented. */
  tolerate?: (keyof Verdict)[];
}

export interface Aftermath {
  report: ClientReport;
  verdict: Verdict;
}

const progressTimeoutMs = 45_000;

/**
 * The pattern of most scenarios: protect, load, fault, and then every promise must have been kept, to every
 * connection. `fault` returns when the service answers again, or leaves that to the progress demanded here.
 */
export async function underLoad(
  context: Context,
  options: LoadedOptions,
  fault: (loaded: Loaded) => Promise<void>,
): Promise<Aftermath> {
  const { service, primary, standby } = await context.pool.get(
    options.workload ?? "redis",
    options.policy ?? {},
  );
  const connections = options.client?.connections ?? 8;
  // A little thinking keeps an unprotected service from being drowned in records that all must be read back.
  const client = await service.load({
    ...{ connections, thinkMs: 1, stallMsMax: 60_000 },
    ...options.client,
  });
  const silences = watchSilence(context.hosts, client, service.name);
  try {
    await client.makesProgress(options.warmUpReplies ?? connections * 20, progressTimeoutMs);
    await fault({ service, primary, standby, client });
    await client.makesProgress(connections * 10, progressTimeoutMs);
    const report = await client.stop();
    const verdict = verdictOf(report, await client.verify());
    const broken = brokenPromises(forgive(verdict, options.tolerate ?? []));
    const longestMs = outageMsAround(report.gaps, report.startedUs, Number.POSITIVE_INFINITY);
    context.note(
      `${verdict.acknowledgedWrites} acknowledged, longest silence ${Math.round(longestMs)} ms`,
    );
    if (broken.length > 0) {
      const complaints = verdict.complaints.map((text) => `\n    ${text}`).join("");
      const endings = report.ledgers
        .filter((ledger) => ledger.ending !== "finished")
        .map((ledger) => `\n    connection ${ledger.connection}: ${ledger.ending}`)
        .join("");
      throw new Error(`promises broken: ${broken.join("; ")}${complaints}${endings}`);
    }
    return { report, verdict };
  } finally {
    for (const folder of silences()) context.note(`a client waited: ${folder}`);
    client.dispose();
  }
}

/** A scenario that is a fault under load and nothing else. */
export function scenarioUnderLoad(
  about: LoadedOptions & { name: string; quick: boolean; boundMs?: number },
  fault: (loaded: Loaded, context: Context) => Promise<void>,
): Scenario {
  const { name, quick, boundMs = 120_000, ...options } = about;
  return {
    name,
    quick,
    boundMs,
    run: async (context) => {
      await underLoad(context, options, (loaded) => fault(loaded, context));
    },
  };
}

function forgive(verdict: Verdict, tolerated: (keyof Verdict)[]): Verdict {
  const forgiven = { ...verdict };
  for (const field of tolerated)
    if (typeof forgiven[field] === "number") forgiven[field] = 0 as never;
  return forgiven;
}

/** A check inside a scenario. */
export function expectThat(condition: unknown, message: string): asserts condition {
  if (!condition) throw new Error(message);
}
