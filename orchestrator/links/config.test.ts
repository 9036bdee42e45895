import { writeFileSync } from "node:fs";
import { join } from "node:path";
import fc from "fast-check";
import { afterAll, describe, expect, it } from "vitest";
import { FtError } from "../errors/error.js";
import { loadAgentConfig, parseConfig } from "./config.js";
import { Folders } from "./test-cluster.js";

const folders = new Folders();
afterAll(() => folders.remove());

function load(text: string | undefined, env: NodeJS.ProcessEnv = {}) {
  const configFile = join(folders.make(), "agent.yaml");
  if (text !== undefined) writeFileSync(configFile, text);
  return loadAgentConfig({ configFile, stateDir: "/var/lib/ftctl", runDir: "/run/ftctl" }, env);
}

function problem(text: string): FtError {
  try {
    parseConfig(text, "agent.yaml");
  } catch (error) {
    expect(error).toBeInstanceOf(FtError);
    return error as FtError;
  }
  throw new Error("was accepted");
}

describe("the agent's configuration", () => {
  it("is all defaults without a file", () => {
    const config = load(undefined);
    expect(config).toMatchObject({
      listen: undefined,
      controlPort: 7400,
      streamPort: 7401,
      joinPort: 7402,
      heartbeatPort: 7410,
      metrics: { address: "127.0.0.1", port: 9477 },
      dockerSocket: "/var/run/docker.sock",
      toolkitDir: "/var/lib/ftctl/toolkit",
      peers: [],
    });
    expect(config.nativeDir).toMatch(/[^/]\/build$/);
  });

  it("takes the environment before the file", () => {
    const text = "controlPort: 1000\nstreamPort: 1001\nmetrics: 'off'\n";
    const config = load(text, { FTCTL_CONTROL_PORT: "2000", FTCTL_LOG_LEVEL: "debug" });
    expect(config).toMatchObject({
      controlPort: 2000,
      streamPort: 1001,
      metrics: undefined,
      logLevel: "debug",
    });
  });

  it("gives peers this host's ports unless they have their own", () => {
    const text = [
      "streamPort: 9001",
      "peers:",
      "  - {host: beta, address: 10.0.0.2}",
      "  - {host: gamma, address: 10.0.0.3, streamPort: 9002}",
    ].join("\n");
    expect(load(text).peers).toEqual([
      { host: "beta", address: "10.0.0.2", controlPort: 7400, streamPort: 9001 },
      { host: "gamma", address: "10.0.0.3", controlPort: 7400, streamPort: 9002 },
    ]);
  });

  it.each([
    ["listen: 10.0.0.1\ncontrolprot: 1\n", "agent.yaml:2:1", "unknown field"],
    ["peers:\n  - host: beta\n    adress: x\n", "agent.yaml:2:5", "address"],
    ["peers:\n  - host: Beta!\n    address: 10.0.0.2\n", "agent.yaml:2:5", "lower-case"],
    ["\n  streamPort: 70000\n", "agent.yaml:2:3", "65535"],
    ["listen: [", "agent.yaml:1:10", ""],
    ["listen: 10.0.0.300", "agent.yaml:1:1", "IP address"],
    ["metrics: maybe", "agent.yaml:1:1", "address:port"],
    ["- a list", "agent.yaml:1:1", ""],
  ])("says where %j is wrong", (text, place, reason) => {
    const error = problem(text);
    expect(error).toMatchObject({ code: "CONFIG_INVALID", exitCode: 2 });
    expect(error.subject).toBe(`configuration ${place}`);
    expect(error.message).toContain(reason);
  });

  it("names the variable that is wrong", () => {
    expect(() => load("", { FTCTL_STREAM_PORT: "many" })).toThrow(
      expect.objectContaining({ subject: "configuration FTCTL_STREAM_PORT" }),
    );
  });

  it("throws nothing but CONFIG_INVALID, whatever the file says", () => {
    fc.assert(
      fc.property(fc.string({ maxLength: 200, unit: "binary" }), (text) => {
        try {
          parseConfig(text, "f");
        } catch (error) {
          expect((error as FtError).code).toBe("CONFIG_INVALID");
        }
      }),
      { numRuns: 500 },
    );
  });
});
