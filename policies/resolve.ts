/**
 * From a policy to what the agent works with: every field present. Pure.
 *
 * Precedence, strongest first: flag (`--standby`) > label of the container (`ftctl.*`) > policy document >
 * default of the schema. The standby falls back to the only peer.
 */
import { createHash } from "node:crypto";
import { ExitCode, FtError } from "../orchestrator/errors/error.js";
import { parseCidr } from "./address.js";
import type { PolicySpec, ProtectionPolicy } from "./schema.js";

/** `auto` is decided when the application has been looked at. */
export type ResolvedMode = "checkpoint" | "hybrid";

export type ResolvedPolicy = Omit<PolicySpec, "mode" | "standby" | "network" | "containers"> & {
  /** Name of the policy it came from. */
  name: string;
  mode: ResolvedMode;
  /** As it was written: with `auto` it was chosen for the application (orchestrator/preflight/mode.ts). */
  modeAsked: PolicySpec["mode"];
  /** With `auto`: why. */
  modeReason?: string | undefined;
  standby: string;
  network: {
    /** With prefix length: `10.0.0.5/24`. */
    address: string;
    ip: string;
    prefix: number;
    gateway?: string | undefined;
    uplink: string;
    mac: string;
    mtu: number;
  };
};

export interface ResolveContext {
  /** Name of the container, for messages. */
  container: string;
  /** Twelve hex digits; the MAC is derived from it. */
  pairId: string;
  /** `--standby`. */
  standby?: string | undefined;
  /** The peer, if this host has exactly one. */
  onlyPeer?: string | undefined;
}

/** Fills in what only the environment knows; throws `POLICY_INCOMPLETE`. */
export function resolvePolicy(policy: ProtectionPolicy, context: ResolveContext): ResolvedPolicy {
  const { mode, standby, network, containers: _containers, ...rest } = policy.spec;
  const chosen = context.standby ?? standby ?? context.onlyPeer;
  if (chosen === undefined) {
    throw incomplete(
      policy,
      context,
      "spec.standby",
      "no standby is named and this host has not exactly one peer",
      "Name it: --standby HOST, label ftctl.standby=HOST, or spec.standby in the policy.",
    );
  }
  return {
    ...rest,
    name: policy.metadata.name,
    // What needs nothing of the application, until somebody has looked at it.
    mode: mode === "hybrid" ? "hybrid" : "checkpoint",
    modeAsked: mode,
    standby: chosen,
    network: resolveNetwork(policy, network, context),
  };
}

function resolveNetwork(
  policy: ProtectionPolicy,
  network: PolicySpec["network"],
  context: ResolveContext,
): ResolvedPolicy["network"] {
  const { address, uplink } = network;
  const cidr = address === undefined ? undefined : parseCidr(address);
  if (address === undefined || cidr === undefined) {
    throw incomplete(
      policy,
      context,
      "spec.network.address",
      "the service has no address of its own",
      "Give it one: label ftctl.network.address=10.0.0.5/24, or spec.network.address in the policy.",
    );
  }
  if (uplink === undefined) {
    throw incomplete(
      policy,
      context,
      "spec.network.uplink",
      "the bridge that the service's interface joins is not named",
      "Name a bridge that exists on both hosts: label ftctl.network.uplink=br0, or spec.network.uplink in the policy.",
    );
  }
  return {
    address,
    ip: cidr.ip,
    prefix: cidr.prefix,
    gateway: network.gateway,
    uplink,
    mac: network.mac ?? macOf(context.pairId),
    mtu: network.mtu,
  };
}

/** Stable, locally administered, unicast. */
export function macOf(pairId: string): string {
  const digest = createHash("sha256").update(`ftctl mac ${pairId}`).digest();
  const octets = [((digest[0] as number) & 0xfc) | 0x02, ...digest.subarray(1, 6)];
  return octets.map((octet) => octet.toString(16).padStart(2, "0")).join(":");
}

function incomplete(
  policy: ProtectionPolicy,
  context: ResolveContext,
  path: string,
  why: string,
  hint: string,
): FtError {
  return new FtError({
    code: "POLICY_INCOMPLETE",
    subject: `container ${context.container}`,
    message: `policy ${policy.metadata.name}: ${path}: ${why}`,
    hint,
    exitCode: ExitCode.usage,
  });
}
