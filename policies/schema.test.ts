import { describe, expect, it } from "vitest";
import { formatQuantity, parseQuantity } from "./quantity.js";
import { macOf, resolvePolicy } from "./resolve.js";
import { type ProtectionPolicyInput, policyJsonSchema, protectionPolicySchema } from "./schema.js";

type Spec = NonNullable<ProtectionPolicyInput["spec"]>;

function document(spec: Spec = {}): ProtectionPolicyInput {
  return {
    apiVersion: "ftctl.dev/v1alpha1",
    kind: "ProtectionPolicy",
    metadata: { name: "web" },
    spec,
  };
}

function complaints(spec: unknown): string[] {
  const result = protectionPolicySchema.safeParse(document(spec as Spec));
  return result.success
    ? []
    : result.error.issues.map((issue) => `${issue.path.join(".")}: ${issue.message}`);
}

describe("defaults", () => {
  it("fills every field from an empty spec", () => {
    const { spec } = protectionPolicySchema.parse(document());
    expect(spec).toEqual({
      mode: "checkpoint",
      network: { mtu: 1500 },
      epoch: { intervalMs: 25, idleIntervalMs: 1000, freezeTimeoutMs: 2000, failuresMax: 20 },
      detection: {
        heartbeatMs: 30,
        missLimit: 3,
        leaseMs: 60,
        agentGraceMs: 5000,
        lanGraceMs: 500,
      },
      failover: "automatic",
      onStandbyLoss: "block",
      reprotect: "auto",
      onApplicationExit: "failover",
      files: { mounts: [], bufferBytesMax: 2 ** 30 },
      transfer: { compression: "none", wire: "shared" },
      hold: { heldBytesMax: 2 ** 26, queuedBytesMax: 2 ** 26 },
      pacing: "on-retry",
      onDivergence: "retry",
    });
  });

  it("parses its own output again to the same", () => {
    const once = protectionPolicySchema.parse(document({ hold: { heldBytesMax: "128Mi" } }));
    expect(protectionPolicySchema.parse(JSON.parse(JSON.stringify(once)))).toEqual(once);
  });
});

describe("rules between fields", () => {
  it.each([
    [
      "automatic with run-unprotected",
      { failover: "automatic", onStandbyLoss: "run-unprotected" },
      /^onStandbyLoss|spec.onStandbyLoss: .*cannot tell a dead peer from a cut link.*witness/,
    ],
    ["the same with failover by default", { onStandbyLoss: "run-unprotected" }, /witness/],
    ["a lease as long as the detection", { detection: { leaseMs: 90 } }, /leaseMs: .*90 ms/],
    [
      "an agent's grace below the detection",
      { detection: { heartbeatMs: 1000, missLimit: 6 } },
      /agentGraceMs/,
    ],
    ["idle more often than busy", { epoch: { intervalMs: 2000 } }, /idleIntervalMs/],
    [
      "a gateway elsewhere",
      { network: { address: "10.0.0.5/24", gateway: "10.0.1.1" } },
      /gateway: 10.0.1.1 is not in the subnet/,
    ],
    [
      "a gateway that is the service",
      { network: { address: "10.0.0.5/24", gateway: "10.0.0.5" } },
      /own address/,
    ],
    [
      "a broadcast address as gateway",
      { network: { address: "10.0.0.5/24", gateway: "10.0.0.255" } },
      /broadcast/,
    ],
    ["the network's address", { network: { address: "10.0.0.0/24" } }, /network's own/],
    ["no prefix", { network: { address: "10.0.0.5" } }, /expected an IPv4 address with prefix/],
    ["octal digits", { network: { address: "10.0.0.05/24" } }, /expected an IPv4/],
    ["loopback", { network: { address: "127.0.0.1/8" } }, /not a unicast/],
    ["a multicast MAC", { network: { mac: "01:00:5e:00:00:05" } }, /unicast MAC/],
    [
      "a mount twice",
      {
        files: {
          mounts: [
            { target: "/data", action: "replicate" },
            { target: "/data/", action: "ignore" },
          ],
        },
      },
      /mounts.1.target: \/data is listed twice/,
    ],
    ["a huge quantity", { hold: { heldBytesMax: "9Ti" } }, /heldBytesMax: must come to between/],
    ["no quantity", { hold: { heldBytesMax: "64 MB" } }, /quantity such as 64Mi/],
    ["an unknown field", { epok: {} }, /epok/],
    ["a fraction", { epoch: { intervalMs: 2.5 } }, /whole milliseconds/],
  ])("refuses %s", (_name, spec, reason) => {
    expect(complaints(spec).join("\n")).toMatch(reason);
  });

  it("lets a lone host run on when a person decides about failover", () => {
    expect(complaints({ failover: "manual", onStandbyLoss: "run-unprotected" })).toEqual([]);
  });

  it("lets a longer detection have a longer lease", () => {
    expect(complaints({ detection: { heartbeatMs: 100, leaseMs: 299, missLimit: 3 } })).toEqual([]);
  });
});

describe("quantities", () => {
  it.each([
    ["64Mi", 67_108_864],
    ["1Gi", 1_073_741_824],
    ["1.5Ki", 1536],
    ["500k", 500_000],
    [4096, 4096],
    ["0", 0],
  ])("%s is %i bytes", (text, bytes) => {
    expect(parseQuantity(text)).toBe(bytes);
  });

  it.each(["", "Mi", "-1", "1e3", "01", "1.3", "64mi", "1 Gi", "Infinity", Number.NaN, -1, 0.5])(
    "refuses %s",
    (text) => {
      expect(parseQuantity(text)).toBeUndefined();
    },
  );

  it("formats to the shortest exact form", () => {
    expect([67_108_864, 1536, 1025, 0].map(formatQuantity)).toEqual(["64Mi", "1536", "1025", "0"]);
  });
});

describe("resolvePolicy", () => {
  const complete = protectionPolicySchema.parse(
    document({ network: { address: "10.0.0.5/24", uplink: "br0" } }),
  );
  const context = { container: "redis", pairId: "0123456789ab", onlyPeer: "beta" };

  it("fills in standby, mode and MAC", () => {
    const resolved = resolvePolicy(complete, context);
    expect(resolved).toMatchObject({ name: "web", standby: "beta", mode: "checkpoint" });
    expect(resolved.network).toMatchObject({
      ip: "10.0.0.5",
      prefix: 24,
      mac: macOf(context.pairId),
    });
  });

  it("takes hybrid where it is named, and checkpoint for auto", () => {
    const hybrid = { ...complete, spec: { ...complete.spec, mode: "hybrid" as const } };
    expect(resolvePolicy(hybrid, context).mode).toBe("hybrid");
    expect(resolvePolicy(complete, context).mode).toBe("checkpoint");
  });

  it("prefers the flag over the policy over the only peer", () => {
    const named = { ...complete, spec: { ...complete.spec, standby: "gamma" } };
    expect(resolvePolicy(named, context).standby).toBe("gamma");
    expect(resolvePolicy(named, { ...context, standby: "delta" }).standby).toBe("delta");
  });

  it.each([
    ["no address", { spec: { ...complete.spec, network: { mtu: 1500 } } }, "POLICY_INCOMPLETE"],
  ])("refuses %s", (_name, change, code) => {
    expect(() => resolvePolicy({ ...complete, ...change }, context)).toThrow(
      expect.objectContaining({ code }),
    );
  });

  it("refuses to guess the standby", () => {
    expect(() => resolvePolicy(complete, { ...context, onlyPeer: undefined })).toThrow(
      expect.objectContaining({ code: "POLICY_INCOMPLETE" }),
    );
  });

  it("derives a stable, unicast, locally administered MAC", () => {
    expect(macOf("0123456789ab")).toBe(macOf("0123456789ab"));
    expect(macOf("0123456789ab")).not.toBe(macOf("0123456789ac"));
    for (let i = 0; i < 100; i++) {
      const first = Number.parseInt(macOf(`pair${i}`).slice(0, 2), 16);
      expect(first & 3).toBe(2);
    }
  });
});

describe("JSON Schema", () => {
  it("is strict, has the defaults and knows every top-level field of the spec", () => {
    const schema = policyJsonSchema() as {
      additionalProperties: boolean;
      required: string[];
      properties: { spec: { properties: Record<string, { default?: unknown }> } };
    };
    expect(schema.additionalProperties).toBe(false);
    expect(schema.required).toEqual(["apiVersion", "kind", "metadata"]);
    expect(Object.keys(schema.properties.spec.properties)).toContain("onStandbyLoss");
    expect(schema.properties.spec.properties.failover?.default).toBe("automatic");
  });
});
