/**
 * The policy of a pair, as people write it (`ProtectionPolicy`) and as the agent uses it (`ResolvedPolicy`,
 * policies/resolve.ts). Every default is here and nowhere else; docs/policies.md explains each of them.
 *
 * Durations are milliseconds, as numbers. Sizes are bytes, as numbers or quantities (`64Mi`).
 */
import { z } from "zod";
import { hostNameSchema } from "../orchestrator/links/host-name.js";
import { ipv4Number, isUnicastMac, networkOf, parseCidr, unusableAddress } from "./address.js";
import { parseQuantity, QUANTITY_PATTERN } from "./quantity.js";

export const POLICY_API_VERSION = "ftctl.dev/v1alpha1";
export const POLICY_KIND = "ProtectionPolicy";

const NAME = /^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$/;
/** Docker's rule for names of containers. */
const CONTAINER = /^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}$/;
const INTERFACE = /^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,14}$/;
const ABSOLUTE_PATH = /^\/[^\0\n]*$/;

const QUANTITY_EXPECTED = "expected bytes as a number or a quantity such as 64Mi";

function milliseconds(min: number, max: number, fallback: number, description: string) {
  return z
    .number({ error: "expected a number of milliseconds" })
    .int("expected whole milliseconds")
    .min(min, `must be at least ${min} ms`)
    .max(max, `must be at most ${max} ms`)
    .default(fallback)
    .describe(description);
}

function count(min: number, max: number, fallback: number, description: string) {
  return z.number().int().min(min).max(max).default(fallback).describe(description);
}

function quantity(min: number, max: number, fallback: number, description: string) {
  return z
    .union([z.number().int(), z.string().regex(QUANTITY_PATTERN, QUANTITY_EXPECTED)], {
      error: QUANTITY_EXPECTED,
    })
    .transform((value, context) => {
      const bytes = parseQuantity(value);
      if (bytes === undefined || bytes < min || bytes > max) {
        context.addIssue({
          code: "custom",
          message: `must come to between ${min} and ${max} whole bytes`,
        });
        return z.NEVER;
      }
      return bytes;
    })
    .prefault(fallback)
    .describe(description);
}

const annotations = z.record(z.string().min(1).max(256), z.string().max(4096));

const metadataSchema = z.strictObject({
  name: z
    .string()
    .regex(NAME, "expected lower-case letters, digits and dashes, at most 63")
    .describe("Name of the policy, as `--policy` and the label `ftctl.policy` give it."),
  labels: annotations.optional().describe("For people and other tools; ftctl reads none of them."),
  annotations: annotations.optional().describe("For people and other tools."),
});

const networkSchema = z.strictObject({
  address: z
    .string()
    .superRefine((text, context) => {
      const cidr = parseCidr(text);
      const why =
        cidr === undefined
          ? "expected an IPv4 address with prefix length, such as 10.0.0.5/24"
          : unusableAddress(cidr);
      if (why !== undefined) context.addIssue({ code: "custom", message: why });
    })
    .optional()
    .describe("The service's address with its prefix length. It moves with the service."),
  gateway: z
    .string()
    .refine((text) => ipv4Number(text) !== undefined, "expected an IPv4 address")
    .optional()
    .describe("Default gateway of the container. Without it only the subnet is reachable."),
  uplink: z
    .string()
    .regex(INTERFACE, "expected the name of a bridge, at most 15 characters")
    .optional()
    .describe("Name of the bridge, on both hosts, that the service's interface joins."),
  mac: z
    .string()
    .refine(isUnicastMac, "expected a unicast MAC address such as 02:42:0a:00:00:05")
    .transform((mac) => mac.toLowerCase())
    .optional()
    .describe("MAC address of the service. Default: derived from the pair, locally administered."),
  mtu: count(576, 9000, 1500, "Largest packet of the interface, in bytes."),
});

const epochSchema = z.strictObject({
  intervalMs: milliseconds(
    5,
    60_000,
    25,
    "Smallest distance between the starts of two checkpoints while output waits.",
  ),
  idleIntervalMs: milliseconds(
    5,
    600_000,
    1_000,
    "A checkpoint at least this often when no output waits.",
  ),
  freezeTimeoutMs: milliseconds(
    50,
    10_000,
    2_000,
    "Longest freeze; then the epoch is given up and the application goes on.",
  ),
  failuresMax: count(
    1,
    1_000,
    20,
    "Skipped epochs in a row after which protection counts as lost.",
  ),
});

const detectionSchema = z.strictObject({
  heartbeatMs: milliseconds(5, 10_000, 30, "Distance between two heartbeats."),
  missLimit: count(2, 100, 3, "Heartbeats missed in a row that make the peer silent."),
  leaseMs: milliseconds(
    5,
    60_000,
    60,
    "How long an answered heartbeat lets the primary release committed output, and ARP and ICMP.",
  ),
  agentGraceMs: milliseconds(
    100,
    600_000,
    5_000,
    "How long the peer's agent may be away, its gate still beating, before the peer counts as lost.",
  ),
  lanGraceMs: milliseconds(
    0,
    600_000,
    500,
    "How long the primary's LAN link may be down before the service moves.",
  ),
});

const mountSchema = z.strictObject({
  target: z
    .string()
    .regex(ABSOLUTE_PATH, "expected an absolute path inside the container")
    .describe("Where the volume or bind mount is mounted inside the container."),
  action: z
    .enum(["replicate", "shared", "ignore"])
    .describe(
      "replicate: part of every epoch. shared: both hosts already see the same storage. ignore: the standby has its own.",
    ),
});

const filesSchema = z.strictObject({
  mounts: z
    .array(mountSchema)
    .max(64, "at most 64 mounts")
    .default([])
    .describe("Volumes and bind mounts, by their path inside the container."),
  bufferBytesMax: quantity(
    2 ** 20,
    2 ** 36,
    2 ** 30,
    "Most memory that one epoch's changed files may take before they are shipped.",
  ),
});

const transferSchema = z.strictObject({
  compression: z
    .enum(["none", "lz4", "zstd"])
    .default("none")
    .describe(
      "How changed pages of memory are packed for the way, after the thaw. none: for links faster than a processor packs.",
    ),
  wire: z
    .enum(["shared", "dedicated"])
    .default("shared")
    .describe(
      "Mode hybrid: dedicated, if nobody else can listen between the hosts. The event log is then authenticated, not encrypted.",
    ),
});

const holdSchema = z.strictObject({
  heldBytesMax: quantity(
    2 ** 20,
    2 ** 33,
    64 * 2 ** 20,
    "Most output held; then the container's sends wait.",
  ),
  queuedBytesMax: quantity(
    2 ** 20,
    2 ** 33,
    64 * 2 ** 20,
    "Most input queued during a freeze or takeover; then it is dropped and clients send again.",
  ),
});

export const policySpecSchema = z
  .strictObject({
    mode: z
      .enum(["checkpoint", "hybrid", "auto"])
      .default("checkpoint")
      .describe(
        "What output waits for. hybrid is experimental; auto: hybrid if the application can be recorded, else checkpoint.",
      ),
    standby: hostNameSchema
      .optional()
      .describe("Host of the warm standby. May be left out when there is one peer only."),
    containers: z
      .array(z.string().regex(CONTAINER, "expected the name of a container"))
      .max(256, "at most 256 containers")
      .optional()
      .describe("Containers that `ftctl apply` protects with this policy."),
    network: networkSchema.prefault({}).describe("The service's only interface."),
    epoch: epochSchema.prefault({}).describe("When checkpoints are taken."),
    detection: detectionSchema.prefault({}).describe("How the loss of the peer is noticed."),
    failover: z
      .enum(["automatic", "manual"])
      .default("automatic")
      .describe("Who decides that the standby takes over when the primary is silent."),
    onStandbyLoss: z
      .enum(["block", "run-unprotected"])
      .default("block")
      .describe("What the primary does when the standby is silent."),
    reprotect: z
      .enum(["auto", "manual"])
      .default("auto")
      .describe("Whether a host that comes back becomes the new standby by itself."),
    onApplicationExit: z
      .enum(["failover", "restart", "stop"])
      .default("failover")
      .describe("When the application crashes. A clean exit (status 0) always stops the service."),
    files: filesSchema.prefault({}).describe("Which files belong to the epoch."),
    transfer: transferSchema.prefault({}).describe("How epochs travel to the standby."),
    hold: holdSchema.prefault({}).describe("Bounds of the gate's buffers."),
    pacing: z
      .enum(["off", "on-retry", "always"])
      .default("on-retry")
      .describe("Mode hybrid: whether a replay enforces the recorded intervals between calls."),
    onDivergence: z
      .enum(["retry", "checkpoint", "stop"])
      .default("retry")
      .describe(
        "Mode hybrid: what follows when a replay has differed from its recording three times.",
      ),
  })
  .superRefine((spec, context) => {
    for (const { path, message } of contradictions(spec)) {
      context.addIssue({ code: "custom", path, message });
    }
  });

export const protectionPolicySchema = z.strictObject({
  apiVersion: z.literal(POLICY_API_VERSION, { error: `expected ${POLICY_API_VERSION}` }),
  kind: z.literal(POLICY_KIND, { error: `expected ${POLICY_KIND}` }),
  metadata: metadataSchema,
  spec: policySpecSchema.prefault({}),
});

/** As people write it. */
export type ProtectionPolicyInput = z.input<typeof protectionPolicySchema>;
/** Validated, defaults filled in. What the environment must supply (address, uplink, standby) may be missing still. */
export type ProtectionPolicy = z.output<typeof protectionPolicySchema>;
export type PolicySpec = ProtectionPolicy["spec"];

interface Contradiction {
  path: (string | number)[];
  message: string;
}

/** The rules between fields, each with its reason. */
function contradictions(spec: {
  network: z.output<typeof networkSchema>;
  epoch: z.output<typeof epochSchema>;
  detection: z.output<typeof detectionSchema>;
  files: z.output<typeof filesSchema>;
  containers?: string[] | undefined;
  failover: string;
  onStandbyLoss: string;
}): Contradiction[] {
  return [
    ...loneHostRules(spec),
    ...timingRules(spec.epoch, spec.detection),
    ...networkRules(spec.network),
    ...duplicates(
      spec.files.mounts.map((mount) => normalPath(mount.target)),
      ["files", "mounts"],
      "target",
    ),
    ...duplicates(spec.containers ?? [], ["containers"]),
  ];
}

function loneHostRules(spec: { failover: string; onStandbyLoss: string }): Contradiction[] {
  if (spec.failover !== "automatic" || spec.onStandbyLoss !== "run-unprotected") return [];
  return [
    {
      path: ["onStandbyLoss"],
      message:
        "run-unprotected cannot go with failover: automatic: two hosts alone cannot tell a dead peer from a cut link, so both would run the service at once. It needs a witness, which does not exist yet; use onStandbyLoss: block, or failover: manual",
    },
  ];
}

function timingRules(
  epoch: z.output<typeof epochSchema>,
  detection: z.output<typeof detectionSchema>,
): Contradiction[] {
  const found: Contradiction[] = [];
  const silenceMs = detection.heartbeatMs * detection.missLimit;
  if (detection.leaseMs >= silenceMs) {
    found.push({
      path: ["detection", "leaseMs"],
      message: `must be below heartbeatMs × missLimit (${silenceMs} ms): the primary has to fall silent before its standby takes over`,
    });
  }
  if (detection.agentGraceMs < silenceMs) {
    found.push({
      path: ["detection", "agentGraceMs"],
      message: `must be at least heartbeatMs × missLimit (${silenceMs} ms): an agent's restart is less of a reason to move than a silent host`,
    });
  }
  if (epoch.idleIntervalMs < epoch.intervalMs) {
    found.push({
      path: ["epoch", "idleIntervalMs"],
      message: `must be at least intervalMs (${epoch.intervalMs} ms): an idle service is not checkpointed more often than a busy one`,
    });
  }
  return found;
}

function networkRules(network: z.output<typeof networkSchema>): Contradiction[] {
  if (network.gateway === undefined || network.address === undefined) return [];
  const cidr = parseCidr(network.address);
  const gateway = ipv4Number(network.gateway);
  if (cidr === undefined || gateway === undefined) return [];
  const ip = ipv4Number(cidr.ip) as number;
  const path = ["network", "gateway"];
  if (networkOf(ip, cidr.prefix) !== networkOf(gateway, cidr.prefix)) {
    return [
      { path, message: `${network.gateway} is not in the subnet of address ${network.address}` },
    ];
  }
  if (ip === gateway) return [{ path, message: "is the service's own address" }];
  const why = unusableAddress({ ip: network.gateway, prefix: cidr.prefix });
  return why === undefined ? [] : [{ path, message: why }];
}

function duplicates(values: string[], path: string[], field?: string): Contradiction[] {
  return values.flatMap((value, index) =>
    values.indexOf(value) === index
      ? []
      : [
          {
            path: [...path, index, ...(field === undefined ? [] : [field])],
            message: `${value} is listed twice`,
          },
        ],
  );
}

/** `/data/` and `/data` are the same mount. */
export function normalPath(path: string): string {
  return path.length > 1 ? path.replace(/\/+$/, "") || "/" : path;
}

/** For editors: `ftctl policy schema`. */
export function policyJsonSchema(): Record<string, unknown> {
  const schema = z.toJSONSchema(protectionPolicySchema, { io: "input", target: "draft-2020-12" });
  return {
    ...schema,
    $id: `https://ftctl.dev/schemas/${POLICY_KIND}.v1alpha1.json`,
    title: POLICY_KIND,
  };
}
