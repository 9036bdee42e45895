/** Binds `check` to this host, the peer and the policy. */
import { probeCriu } from "../../criu/probe.js";
import { describeToolkit } from "../../criu/toolkit.js";
import type { ResolvedPolicy } from "../../policies/resolve.js";
import { asFtError } from "../errors/error.js";
import { newPairId } from "../pair/protect.js";
import {
  gatherHostFacts,
  type HostEnvironment,
  type HostFacts,
  type HostQuestions,
} from "../preflight/host-facts.js";
import { preflight } from "../preflight/preflight.js";
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
      modeAuto: policy.modeAsked === "auto",
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
