import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { parse, stringify } from "yaml";
import { FtError } from "../orchestrator/errors/error.js";
import { applyLabels, effectivePolicy } from "./labels.js";
import {
  builtInDir,
  findPolicy,
  listPolicies,
  loadPolicyFile,
  POLICY_BYTES_MAX,
  parsePolicies,
} from "./load.js";
import { type ProtectionPolicyInput, protectionPolicySchema } from "./schema.js";
import { nearest } from "./suggest.js";

const HEAD = "apiVersion: ftctl.dev/v1alpha1\nkind: ProtectionPolicy\nmetadata: {name: web}\n";

function failure(action: () => unknown): FtError {
  try {
    action();
  } catch (error) {
    if (error instanceof FtError) return error;
    throw error;
  }
  throw new Error("expected a failure");
}

function problems(text: string): string[] {
  const error = failure(() => parsePolicies(text, "web.yaml"));
  expect(error).toMatchObject({ code: "POLICY_INVALID", exitCode: 2 });
  return error.quoted;
}

describe("places and reasons", () => {
  it.each([
    [
      "a misspelt field",
      `${HEAD}spec:\n  epoch:\n    intervallMs: 5\n`,
      'web.yaml:6:5: spec.epoch.intervallMs: unknown field; did you mean "intervalMs"?',
    ],
    [
      "a field at the wrong place",
      `${HEAD}spec:\n  heartbeatMs: 5\n`,
      "web.yaml:5:3: spec.heartbeatMs: unknown field here; it belongs at spec.detection.heartbeatMs",
    ],
    [
      "a misspelt value",
      `${HEAD}spec:\n  failover: automtic\n`,
      'web.yaml:5:13: spec.failover: expected one of automatic, manual; did you mean "automatic"?',
    ],
    [
      "a wrong type",
      `${HEAD}spec: {epoch: {intervalMs: often}}\n`,
      "web.yaml:4:28: spec.epoch.intervalMs: expected a number of milliseconds",
    ],
    [
      "a missing field, at its parent",
      "apiVersion: ftctl.dev/v1alpha1\nkind: ProtectionPolicy\nmetadata: {labels: {}}\n",
      "web.yaml:3:11: metadata.name: is required",
    ],
    [
      "a field given twice",
      `${HEAD}spec:\n  mode: auto\n  mode: checkpoint\n`,
      "web.yaml:6:3: this field is given twice",
    ],
    [
      "an item of a list",
      `${HEAD}spec:\n  files:\n    mounts:\n      - {target: data, action: replicate}\n`,
      "web.yaml:7:18: spec.files.mounts[0].target: expected an absolute path inside the container",
    ],
    ["a foreign kind", "kind: Pod\n", "web.yaml:1:7: kind: expected ProtectionPolicy"],
    ["nothing", "# only a comment\n", "web.yaml:1:1: has no policy in it"],
    [
      "a document after a good one",
      `${HEAD}---\n${HEAD}spec: {standby: 7}\n`,
      "web.yaml:8:17: spec.standby: expected string, received number",
    ],
  ])("tells %s", (_name, text, expected) => {
    expect(problems(text)).toContain(expected);
  });

  it("refuses automatic failover with running on alone, with the reason", () => {
    expect(problems(`${HEAD}spec:\n  onStandbyLoss: run-unprotected\n`)[0]).toMatch(
      /^web.yaml:5:18: spec.onStandbyLoss: .*two hosts alone cannot tell a dead peer from a cut link/,
    );
  });

  it("tells all problems of all documents at once", () => {
    expect(problems(`${HEAD}spec: {mode: x}\n---\n${HEAD}spec: {failover: y}\n`)).toHaveLength(2);
  });

  it("reads several documents, aliases and merge-free anchors", () => {
    const text = `${HEAD}spec: {epoch: &e {intervalMs: 40}}\n---\n${HEAD.replace("web", "db")}`;
    expect(parsePolicies(text, "x").map(({ policy }) => policy.metadata.name)).toEqual([
      "web",
      "db",
    ]);
  });
});

describe("hostile text", () => {
  const bomb = `a: &a [x,x,x,x,x,x,x,x]\nb: &b [${"*a,".repeat(9)}]\nc: &c [${"*b,".repeat(9)}]\n`;
  it.each([
    ["a text over the bound", "#".repeat(POLICY_BYTES_MAX + 1)],
    ["brackets without end", "[".repeat(100_000)],
    ["dashes without end", "- ".repeat(100_000)],
    ["nested lists", "[a,".repeat(50_000)],
    ["an alias bomb", bomb],
    ["an alias of itself", `${HEAD}spec: &s {network: *s}`],
    ["documents without end", "---\na\n".repeat(1000)],
    ["a prototype", `${HEAD}spec: {__proto__: {mode: auto}}`],
    ["keys that are no text", `${HEAD}spec: {[a]: b}`],
    ["NUL", "\0"],
  ])("refuses %s in bounded time", (_name, text) => {
    const start = performance.now();
    expect(problems(text).length).toBeGreaterThan(0);
    expect(performance.now() - start).toBeLessThan(10_000);
  });

  it("keeps control characters of keys away from the terminal", () => {
    expect(problems(`${HEAD}spec: {"\\e[2J": 1}`).join()).not.toContain("\u001b");
  });
});

describe("arbitrary input", () => {
  const loads = (text: string) => {
    try {
      for (const { policy } of parsePolicies(text, "any.yaml")) {
        expect(protectionPolicySchema.parse(policy)).toEqual(policy);
      }
    } catch (error) {
      expect(error).toBeInstanceOf(FtError);
      expect((error as FtError).code).toBe("POLICY_INVALID");
    }
  };

  it("of any text ends in policies or POLICY_INVALID", () => {
    fc.assert(fc.property(fc.string({ unit: "binary", maxLength: 400 }), loads), { numRuns: 500 });
  });

  it("of any YAML ends in policies or POLICY_INVALID", () => {
    fc.assert(
      fc.property(fc.jsonValue({ maxDepth: 4 }), (value) => loads(stringify(value))),
      { numRuns: 300 },
    );
  });

  it("of a policy with a part replaced by anything ends the same way", async () => {
    const good = parse(await readFile(join(builtInDir(), "default.yaml"), "utf8"));
    const groups = Object.keys(good.spec);
    fc.assert(
      fc.property(fc.constantFrom(...groups), fc.jsonValue({ maxDepth: 3 }), (group, value) =>
        loads(stringify({ ...good, spec: { ...good.spec, [group]: value } })),
      ),
      { numRuns: 300 },
    );
  });

  it("of a policy with bytes changed ends the same way", async () => {
    const good = await readFile(join(builtInDir(), "default.yaml"), "utf8");
    fc.assert(
      fc.property(fc.nat(good.length - 1), fc.string({ maxLength: 6 }), (at, piece) =>
        loads(good.slice(0, at) + piece + good.slice(at + 3)),
      ),
      { numRuns: 300 },
    );
  });
});

describe("built-in policies", () => {
  it("are these, valid, each under the name of its file", async () => {
    const all = await listPolicies();
    expect(all.map(({ policy }) => policy.metadata.name)).toEqual([
      "default",
      "files",
      "low-latency",
      "manual",
      "throughput",
    ]);
    for (const { policy, path } of all) {
      expect(path.endsWith(`/${policy.metadata.name}.yaml`)).toBe(true);
    }
  });

  it("the default writes out the schema's own defaults and nothing else", async () => {
    const { policy, input } = await findPolicy("default");
    const bare: ProtectionPolicyInput = { ...(input as ProtectionPolicyInput), spec: {} };
    expect(policy).toEqual(protectionPolicySchema.parse(bare));
  });

  it("suggests a name near the one asked for", async () => {
    await expect(findPolicy("low-latncy")).rejects.toMatchObject({
      code: "POLICY_NOT_FOUND",
      exitCode: 3,
      message: expect.stringContaining('did you mean "low-latency"?'),
    });
  });
});

describe("files", () => {
  let dir: string;
  beforeAll(async () => {
    dir = await mkdtemp(join(tmpdir(), "ftctl-policies-"));
  });
  afterAll(() => rm(dir, { recursive: true }));

  it("of the host replace built-ins of the same name", async () => {
    await writeFile(join(dir, "d.yaml"), HEAD.replace("web", "default"));
    expect(await findPolicy("default", dir)).toMatchObject({ origin: "file" });
    expect(await findPolicy("manual", dir)).toMatchObject({ origin: "built-in" });
  });

  it.each([
    ["/nonexistent/x.yaml", 3],
    ["/dev/zero", 2],
    ["/tmp", 2],
  ])("%s is refused", async (path, exitCode) => {
    await expect(loadPolicyFile(path)).rejects.toMatchObject({
      code: "POLICY_UNREADABLE",
      exitCode,
    });
  });
});

describe("labels", () => {
  const base = protectionPolicySchema.parse(parse(HEAD));

  it("override the policy, by path", () => {
    const { spec } = applyLabels(
      base,
      {
        "ftctl.standby": "beta",
        "ftctl.network.address": "10.0.0.5/24",
        "ftctl.epoch.intervalMs": "40",
        "ftctl.hold.heldBytesMax": "128Mi",
        "ftctl.files.mounts": "/data:replicate,/cache:ignore",
        "ftctl.policy": "web",
        "ftctl.internal.role": "primary",
        "com.docker.compose.service": "redis",
      },
      "redis",
    );
    expect(spec).toMatchObject({
      standby: "beta",
      network: { address: "10.0.0.5/24", mtu: 1500 },
      epoch: { intervalMs: 40, idleIntervalMs: 1000 },
      hold: { heldBytesMax: 2 ** 27 },
      files: {
        mounts: [
          { target: "/data", action: "replicate" },
          { target: "/cache", action: "ignore" },
        ],
      },
    });
    expect(base.spec.standby).toBeUndefined();
  });

  it.each([
    [
      { "ftctl.standbye": "b" },
      'label ftctl.standbye: unknown setting; did you mean "ftctl.standby"?',
    ],
    [{ "ftctl.epoch": "5" }, "is a group of settings: ftctl.epoch.intervalMs"],
    [{ "ftctl.epoch.intervalMs": "fast" }, "label ftctl.epoch.intervalMs: spec.epoch.intervalMs: "],
    [{ "ftctl.onStandbyLoss": "run-unprotected" }, "label ftctl.onStandbyLoss: spec.onStandbyLoss"],
    [{ "ftctl.containers": "a" }, "unknown setting"],
    [{ "ftctl.__proto__.x": "a" }, "unknown setting"],
  ])("%j is refused by name", (labels, expected) => {
    const error = failure(() => applyLabels(base, labels as Record<string, string>, "redis"));
    expect(error.code).toBe("POLICY_INVALID");
    expect(error.quoted.join("\n")).toContain(expected);
  });

  it("of any content never crash it", () => {
    const key = fc.oneof(
      fc.string(),
      fc.string().map((rest) => `ftctl.${rest}`),
      fc.constantFrom("ftctl.epoch.intervalMs", "ftctl.files.mounts", "ftctl.network.address"),
    );
    fc.assert(
      fc.property(fc.dictionary(key, fc.string()), (labels) => {
        try {
          applyLabels(base, labels, "redis");
        } catch (error) {
          expect(error).toBeInstanceOf(FtError);
        }
      }),
      { numRuns: 300 },
    );
  });

  it("name the policy; flags win over labels, labels over the document", async () => {
    const request = {
      container: "redis",
      pairId: "0123456789ab",
      labels: {
        "ftctl.policy": "throughput",
        "ftctl.standby": "beta",
        "ftctl.network.address": "10.0.0.5/24",
        "ftctl.network.uplink": "br0",
      },
    };
    expect(await effectivePolicy(request)).toMatchObject({
      name: "throughput",
      standby: "beta",
      epoch: { intervalMs: 100 },
    });
    const document = { ...base, spec: { ...base.spec, standby: "gamma" } };
    expect(await effectivePolicy({ ...request, document })).toMatchObject({
      name: "web",
      standby: "beta",
    });
    expect((await effectivePolicy({ ...request, standby: "delta" })).standby).toBe("delta");
  });
});

describe("suggestions", () => {
  it("only offers what is near", () => {
    expect(nearest("intervalMS", ["intervalMs", "mode"])).toBe("intervalMs");
    expect(nearest("stnadby", ["standby"])).toBe("standby");
    expect(nearest("colour", ["mode", "standby"])).toBeUndefined();
    expect(nearest("x".repeat(10_000), ["mode"])).toBeUndefined();
  });
});
