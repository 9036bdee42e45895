/**
 * `ftctl check`: all checks of a container and two hosts, in the order in which a person would fix them. Changes
 * nothing. `protect` runs it first and stops if one fails.
 */
import { readFile } from "node:fs/promises";
import type { CheckResult } from "../agent/api-types.js";
import type { PolicyMount } from "../docker/capture-roots.js";
import type { ContainerInspect } from "../docker/docker-types.js";
import { containerName } from "../docker/docker-types.js";
import { parseMountinfo } from "../docker/mountinfo.js";
import { asFtError } from "../errors/error.js";
import { containerChecks } from "./container-checks.js";
import { results, warning } from "./findings.js";
import { type HostNeeds, hostChecks, pairChecks } from "./host-checks.js";
import {
  gatherHostFacts,
  type HostEnvironment,
  type HostFacts,
  type HostQuestions,
  kindOf,
} from "./host-facts.js";
import { modeChecks } from "./mode.js";
import { recordingChecks, residentBytes, workloadChecks } from "./workload-checks.js";
import { gatherWorkloadFacts, type WorkloadFacts } from "./workload-facts.js";

export interface PreflightRequest {
  inspect: ContainerInspect;
  policyMounts: PolicyMount[];
  network: { address?: string; uplink?: string; mtu: number };
  /** Mode hybrid. */
  recorded: boolean;
  /** Mode hybrid, with an event log that is not encrypted. */
  openWire?: boolean | undefined;
  /** The policy leaves the mode to ftctl: why it is what it is. */
  modeReason?: string | undefined;
}

export interface PreflightParts {
  /** Of the host that the container runs on: this one. */
  environment: HostEnvironment;
  standbyHost: string;
  /** Asks the standby's agent. Absent: no standby is known yet. */
  askStandby?: (questions: HostQuestions) => Promise<HostFacts>;
  /** Dumps and restores a probe process, here and there. */
  probeCriu?: () => Promise<CheckResult[]>;
}

const OPEN_WIRE = warning(
  "the event log is not encrypted (transfer.wire: dedicated): who can listen between the hosts reads all that clients send",
);

export async function preflight(
  request: PreflightRequest,
  parts: PreflightParts,
): Promise<CheckResult[]> {
  const { inspect, policyMounts } = request;
  const { environment } = parts;
  const { host } = environment;
  const running = inspect.State.Running && inspect.State.Pid > 0;
  const workload = running ? await gatherWorkloadFacts(inspect.State.Pid) : undefined;
  const mounts = running
    ? parseMountinfo(await readFile(`/proc/${inspect.State.Pid}/mountinfo`, "utf8"))
    : [];
  const bindSources = await kindsOf(inspect.Mounts.map((mount) => mount.Source));
  const needs = hostNeeds(request, workload);
  const questions = hostQuestions(request);
  const primary = await gatherHostFacts(environment, { ...questions, role: "primary" });
  return [
    ...containerChecks({ inspect, mounts, policyMounts, bindSources }, host),
    ...(workload === undefined ? [] : workloadChecks(workload, host)),
    ...(workload === undefined || !request.recorded ? [] : recordingChecks(workload, host)),
    ...(request.modeReason === undefined
      ? []
      : modeChecks(request.recorded, request.modeReason, host)),
    ...(request.openWire ? results("wire", host, [OPEN_WIRE], "") : []),
    ...hostChecks(primary, needs),
    ...(await standbyChecks(parts, questions, primary, needs, request.recorded)),
    ...((await parts.probeCriu?.()) ?? []),
  ];
}

function hostNeeds(request: PreflightRequest, workload: WorkloadFacts | undefined): HostNeeds {
  const { address, uplink, mtu } = request.network;
  return {
    memoryBytes: workload === undefined ? 0 : residentBytes(workload),
    mtu,
    ...(address === undefined ? {} : { address }),
    ...(uplink === undefined ? {} : { uplink }),
  };
}

/** What both hosts are asked. */
export function hostQuestions(request: PreflightRequest): Omit<HostQuestions, "role"> {
  const { address, uplink } = request.network;
  const replicated = new Set(
    request.policyMounts
      .filter((m) => m.action === "replicate")
      .map((m) => m.target.replace(/(.)\/+$/, "$1")),
  );
  const binds = request.inspect.Mounts.filter(
    (mount) => mount.Type === "bind" && !replicated.has(mount.Destination),
  );
  return {
    imageId: request.inspect.Image,
    containerName: containerName(request.inspect),
    bindSources: binds.map((mount) => mount.Source),
    probeAddress: address !== undefined,
    ...(uplink === undefined ? {} : { uplink }),
    ...(address === undefined ? {} : { address: address.split("/")[0]! }),
  };
}

async function standbyChecks(
  parts: PreflightParts,
  questions: Omit<HostQuestions, "role">,
  primary: HostFacts,
  needs: HostNeeds,
  recorded: boolean,
): Promise<CheckResult[]> {
  if (parts.askStandby === undefined) return [];
  try {
    const standby = await parts.askStandby({ ...questions, role: "standby" });
    return [...hostChecks(standby, needs), ...pairChecks(primary, standby, recorded)];
  } catch (thrown) {
    const error = asFtError(thrown, `host ${parts.standbyHost}`);
    return [
      {
        name: "peer",
        host: parts.standbyHost,
        status: "failed",
        reason: `${parts.standbyHost} cannot be asked: ${error.message}`,
        remedy: error.hint ?? "Is its agent running, and has it joined (ftctl join)?",
      },
    ];
  }
}

async function kindsOf(sources: string[]) {
  const kinds = await Promise.all(
    sources.map(
      async (source) => [source, source === "" ? "missing" : await kindOf(source)] as const,
    ),
  );
  return Object.fromEntries(kinds);
}
