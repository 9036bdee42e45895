/** Binds `check` to this host, the peer and the policy. */
import { probeCriu } from "../../criu/probe.js";
import { describeToolkit } from "../../criu/toolkit.js";
import type { ResolvedPolicy } from "../../policies/resolve.js";
import { type ContainerInspect, containerName } from "../docker/docker-types.js";
import { asFtError } from "../errors/error.js";
import { newPairId } from "../pair/protect.js";
import {
  gatherHostFacts,
  type HostEnvironment,
  type HostFacts,
  type HostQuestions,
  recorderFacts,
} from "../preflight/host-facts.js";
import { chooseMode } from "../preflight/mode.js";
import { preflight } from "../preflight/preflight.js";
import { gatherWorkloadFacts } from "../preflight/workload-facts.js";
import type { CheckRequest, CheckResult } from "./api-types.js";
import type { AgentShared } from "./main.js";
import type { HostFactsRequest } from "./peer-service.js";

export async function checkBoth(
  shared: AgentShared,
  request: CheckRequest,
  policyOf: (pairId: string) => Promise<ResolvedPolicy>,
): Promise<CheckResult[]> {
  const { engine, clients } = shared;
  const inspect = await engine.inspect(request.container);
  const policy = await policyOf(newPairId());
  const peer = () => clients.client(policy.standby);
  const { address, uplink, mtu } = policy.network;
  return preflight(
    {
      inspect,
      policyMounts: policy.files.mounts,
      network: { address, uplink, mtu },
      recorded: policy.mode === "hybrid",
      modeReason: policy.modeReason,
      openWire: policy.mode === "hybrid" && policy.transfer.wire === "dedicated",
    },
    {
      environment: await environmentOf(shared),
      standbyHost: policy.standby,
      askStandby: (questions) => askFacts(peer(), questions),
      probeCriu: async () => [
        ...(await probeThisHost(shared)),
        // An unreachable peer is a failed check of its own already.
        ...(await peer()
          .call("probeCriu", {})
          .then(
            ({ results }) => results,
            () => [],
          )),
      ],
    },
  );
}

/** With `mode: auto`: looks at the application and at the standby's recorder. */
export async function withMode(
  shared: AgentShared,
  inspect: ContainerInspect,
  policy: ResolvedPolicy,
): Promise<ResolvedPolicy> {
  if (policy.modeAsked !== "auto") return policy;
  const runs = inspect.State.Running && inspect.State.Pid > 0;
  const workload = runs ? await gatherWorkloadFacts(inspect.State.Pid) : undefined;
  const { host } = shared.identity;
  const primary = { host, ...(await recorderFacts(shared.config.nativeDir)) };
  const questions = {
    ...{
      imageId: inspect.Image,
      containerName: containerName(inspect),
      bindSources: [],
      probeAddress: false,
    },
    role: "standby" as const,
  };
  // One that cannot be reached is a failed check of its own.
  const standby = await askFacts(shared.clients.client(policy.standby), questions).catch(
    () => undefined,
  );
  const { mode, reason } = chooseMode(workload, primary, standby);
  return { ...policy, mode, modeReason: reason };
}

async function askFacts(
  client: ReturnType<AgentShared["clients"]["client"]>,
  questions: HostQuestions,
): Promise<HostFacts> {
  const { facts } = await client.call("hostFacts", questions);
  return facts as unknown as HostFacts;
}

export async function factsOfThisHost(
  shared: AgentShared,
  request: HostFactsRequest,
): Promise<HostFacts> {
  const { uplink, address, ...rest } = request;
  return gatherHostFacts(await environmentOf(shared), {
    ...rest,
    ...(uplink === undefined ? {} : { uplink }),
    ...(address === undefined ? {} : { address }),
  });
}

async function environmentOf(shared: AgentShared): Promise<HostEnvironment> {
  const { engine, clock, config, identity } = shared;
  const criuVersion = await describeToolkit(config.toolkitDir).then(
    (toolkit) => toolkit.criuVersion,
    () => undefined,
  );
  const { runDir, stateDir, nativeDir, tracking } = config;
  const host = identity.host;
  return { host, engine, clock, runDir, stateDir, criuVersion, nativeDir, tracking };
}

/** `criu check` is not to be trusted: a probe process with a socket is dumped and restored for real. */
export async function probeThisHost(shared: AgentShared): Promise<CheckResult[]> {
  const { config, identity } = shared;
  const base = { name: "criu-probe", host: identity.host };
  try {
    await probeCriu({
      toolkit: config.toolkitDir,
      nativeDir: config.nativeDir,
      runDir: config.runDir,
    });
    return [
      { ...base, status: "ok", reason: "a process with a TCP socket was dumped and restored" },
    ];
  } catch (error) {
    const { message, hint, quoted } = asFtError(error, identity.host);
    const reason = [message, ...quoted].join("; ");
    return [{ ...base, status: "failed", reason, ...(hint === undefined ? {} : { remedy: hint }) }];
  }
}
