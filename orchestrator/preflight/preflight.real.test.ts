/** The whole of preflight on a real container: FTCTL_TEST_DOCKER names this host's Docker (`make test-docker`). Needs root. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { CheckResult } from "../agent/api-types.js";
import { systemClock } from "../clock.js";
import { Engine } from "../docker/engine.js";
import { buildImage, dropImage } from "../docker/image.fixture.js";
import { gatherHostFacts, type HostFacts, type HostQuestions } from "./host-facts.js";
import { type PreflightParts, preflight } from "./preflight.js";

const socket = process.env.FTCTL_TEST_DOCKER ?? "";
const image = `k-check-${process.pid}`;
const request = {
  policyMounts: [],
  network: { mtu: 1500 },
  recorded: false,
  modeReason: "for the test",
};

describe.runIf(socket !== "")("preflight on a real container", () => {
  const engine = Engine.at(socket, { host: "alpha" });
  let runDir: string;
  let parts: PreflightParts;

  beforeAll(async () => {
    runDir = await mkdtemp(join("/dev/shm", "k-check-"));
    const environment = {
      host: "alpha",
      engine,
      clock: systemClock,
      runDir,
      stateDir: tmpdir(),
      criuVersion: "4.2.1",
      nativeDir: "build",
      tracking: "auto" as const,
    };
    const askStandby = async (questions: HostQuestions): Promise<HostFacts> => ({
      ...(await gatherHostFacts(environment, { ...questions, role: "primary" })),
      host: "beta",
    });
    parts = { environment, standbyHost: "beta", askStandby };
    await buildImage(socket, image);
  }, 60_000);
  afterAll(async () => {
    for (const c of await engine.list()) if (c.name.startsWith(image)) await engine.remove(c.id);
    await dropImage(socket, image);
    await rm(runDir, { recursive: true });
  }, 60_000);

  async function check(HostConfig: object, config: object = {}): Promise<CheckResult[]> {
    const name = `${image}-app`;
    const spec = { name, Image: image, Entrypoint: ["/bin/sleep"], Cmd: ["60"], Labels: {} };
    const id = await engine.create({
      ...spec,
      ...config,
      HostConfig: { NetworkMode: "none", ...HostConfig },
    });
    try {
      await engine.start(id);
      return await preflight({ ...request, inspect: await engine.inspect(name) }, parts);
    } finally {
      await engine.remove(id);
    }
  }
  const failures = (checks: CheckResult[]) =>
    checks.filter((c) => c.status === "failed").map((c) => `${c.host} ${c.name}: ${c.reason}`);

  it("finds nothing against an ordinary one, and says what it looked at, on both hosts", async () => {
    const checks = await check({});
    expect(failures(checks)).toEqual([]);
    const names = new Set(checks.map((c) => c.name));
    for (const name of ["kernel", "criu", "io-uring", "mptcp", "mounts", "cpu-features", "space"]) {
      expect(names).toContain(name);
    }
    expect(new Set(checks.map((c) => c.host))).toEqual(new Set(["alpha", "beta"]));
  });

  it("finds what it was started with that cannot be protected", async () => {
    const checks = await check(
      {
        PidMode: "host",
        Binds: [`${socket}:/docker.sock`],
        Devices: [{ PathOnHost: "/dev/null", PathInContainer: "/dev/odd", CgroupPermissions: "r" }],
      },
      { Tty: true },
    );
    const found = failures(checks).map((line) => line.split(":")[0]);
    for (const name of ["namespaces", "terminal", "devices", "mounts", "volumes"]) {
      expect(found).toContain(`alpha ${name}`);
    }
  });

  it("does not throw when the standby cannot be asked: that is a finding", async () => {
    const askStandby = async () => {
      throw new Error("nobody there");
    };
    parts = { ...parts, askStandby };
    expect(failures(await check({}))).toEqual(["beta peer: beta cannot be asked: nobody there"]);
  });
});
