import { describe, expect, it } from "vitest";
import { FtError } from "../errors/error.js";
import {
  formatRestart,
  INIT_PATH,
  label,
  parseRestart,
  plainSpec,
  protectedSpec,
  specForHost,
} from "./container-spec.js";
import { inspectFixture } from "./inspect.fixture.js";

const options = {
  pairId: "0123456789ab",
  role: "primary" as const,
  initProgram: "/opt/ftctl/ftinit",
  recorder: "/opt/ftctl/libftrec.so",
  logFolder: (pair: string) => `/run/ftctl/pairs/${pair}/log`,
  recorded: false,
  address: "10.0.0.5",
};

/** Everything of the host configuration that protection has its own word about. */
const REPLACED = [
  "NetworkMode",
  "PortBindings",
  "PublishAllPorts",
  "Links",
  "Init",
  "AutoRemove",
  "RestartPolicy",
  "PidsLimit",
  "ExtraHosts",
  "Mounts",
  "Binds",
  "VolumesFrom",
  "ContainerIDFile",
];

describe("the protected container", () => {
  it("keeps every option that protection does not replace, known or not", () => {
    const inspect = inspectFixture({
      HostConfig: {
        Memory: 64 << 20,
        CpuQuota: 50_000,
        CapAdd: ["NET_ADMIN"],
        SecurityOpt: ["no-new-privileges", 'seccomp={"defaultAction":"SCMP_ACT_ALLOW"}'],
        Ulimits: [{ Name: "nofile", Soft: 10, Hard: 20 }],
        Sysctls: { "net.core.somaxconn": "99" },
        ShmSize: 33_554_432,
        OomScoreAdj: 7,
        Dns: ["10.0.0.1"],
        LogConfig: { Type: "json-file", Config: { "max-size": "1m" } },
        AnOptionOfTheFuture: { deep: [1, 2] },
      },
    });
    const spec = protectedSpec(inspect, options);
    for (const [key, value] of Object.entries(inspect.HostConfig)) {
      if (!REPLACED.includes(key)) expect(spec.HostConfig[key], key).toEqual(value);
    }
    expect(spec.HostConfig).toMatchObject({
      AnOptionOfTheFuture: { deep: [1, 2] },
      Memory: 64 << 20,
    });
  });

  it("keeps environment, user, folder, host name, health check and stop signal", () => {
    const config = {
      Hostname: "kh",
      Domainname: "example",
      User: "redis",
      Env: ["A=b"],
      WorkingDir: "/srv",
      StopSignal: "SIGUSR1",
      StopTimeout: 3,
      OpenStdin: true,
      Healthcheck: { Test: ["CMD", "true"], Interval: 1_000_000_000 },
      ExposedPorts: { "6379/tcp": {} },
    };
    expect(protectedSpec(inspectFixture({ Config: config }), options)).toMatchObject(config);
  });

  it("runs the combined entry point and command as ftinit's arguments", () => {
    const inspect = inspectFixture({
      Path: "docker-entrypoint.sh",
      Args: ["redis-server", "--save", ""],
    });
    const spec = protectedSpec(inspect, options);
    expect(spec.Entrypoint).toEqual([INIT_PATH, "--"]);
    expect(spec.Cmd).toEqual(["docker-entrypoint.sh", "redis-server", "--save", ""]);
    expect(spec.HostConfig.Mounts).toContainEqual({
      Type: "bind",
      Source: "/opt/ftctl/ftinit",
      Target: INIT_PATH,
      ReadOnly: true,
    });
  });

  it("takes network, ports, init and restarts away from Docker", () => {
    const inspect = inspectFixture({
      HostConfig: {
        NetworkMode: "bridge",
        PortBindings: { "80/tcp": [{ HostPort: "80" }] },
        Links: ["/db:/redis/db"],
        Init: true,
        RestartPolicy: { Name: "on-failure", MaximumRetryCount: 5 },
      },
      Config: { MacAddress: "02:42:ac:11:00:02" },
    });
    const spec = protectedSpec(inspect, options);
    expect(spec.HostConfig).toMatchObject({
      NetworkMode: "none",
      PortBindings: {},
      Links: null,
      Init: false,
      RestartPolicy: { Name: "no" },
    });
    expect(spec).not.toHaveProperty("MacAddress");
    expect(spec.Labels[label.restart]).toBe("on-failure:5");
  });

  it("leaves the application as many pids as it had", () => {
    const limited = inspectFixture({ HostConfig: { PidsLimit: 100 } });
    expect(protectedSpec(limited, options).HostConfig.PidsLimit).toBeGreaterThan(100);
    for (const PidsLimit of [null, 0, -1]) {
      const spec = protectedSpec(inspectFixture({ HostConfig: { PidsLimit } }), options);
      expect(spec.HostConfig.PidsLimit).toBeNull();
    }
  });

  it("resolves its own name to the service address, unless the user said otherwise", () => {
    const spec = protectedSpec(inspectFixture({ Config: { Hostname: "kh" } }), options);
    expect(spec.HostConfig.ExtraHosts).toEqual(["kh:10.0.0.5"]);
    const ExtraHosts = ["kh:127.0.1.1"];
    const own = inspectFixture({ Config: { Hostname: "kh" }, HostConfig: { ExtraHosts } });
    expect(protectedSpec(own, options).HostConfig.ExtraHosts).toEqual(ExtraHosts);
  });

  it("names anonymous volumes and those of other containers, so that no data is left behind", () => {
    const inspect = inspectFixture({
      HostConfig: {
        Binds: ["kvol:/data"],
        Mounts: [{ Type: "volume", Target: "/mounted" }],
        VolumesFrom: ["other"],
      },
      Mounts: [
        { Type: "volume", Name: "kvol", Source: "/v/kvol/_data", Destination: "/data", RW: true },
        { Type: "volume", Name: "aaaa", Source: "/v/aaaa/_data", Destination: "/anon", RW: true },
        {
          Type: "volume",
          Name: "bbbb",
          Source: "/v/bbbb/_data",
          Destination: "/mounted",
          RW: true,
        },
        { Type: "bind", Source: "/etc/other", Destination: "/other", RW: false },
      ],
    });
    const { HostConfig } = protectedSpec(inspect, options);
    expect(HostConfig.Binds).toEqual(["kvol:/data", "aaaa:/anon:rw", "/etc/other:/other:ro"]);
    expect(HostConfig.Mounts).toContainEqual({
      Type: "volume",
      Target: "/mounted",
      Source: "bbbb",
    });
    expect(HostConfig.VolumesFrom).toBeNull();
  });

  it("is refused for a container that is protected already", () => {
    const inspect = inspectFixture({ Config: { Labels: { [label.pair]: "ffffffffffff" } } });
    expect(() => protectedSpec(inspect, options)).toThrow(FtError);
    expect(() => plainSpec(inspect)).toThrow(/pair ffffffffffff/);
  });

  it("does not change what it was given", () => {
    const inspect = inspectFixture({ HostConfig: { Mounts: [{ Type: "volume", Target: "/m" }] } });
    const before = structuredClone(inspect);
    protectedSpec(inspect, options);
    plainSpec(inspect);
    expect(inspect).toEqual(before);
  });

  it("is the same on the standby but for ftinit's place and the role", () => {
    const spec = protectedSpec(inspectFixture({}), options);
    const there = specForHost(spec, {
      ...options,
      role: "standby",
      initProgram: "/usr/lib/ftinit",
    });
    expect(there.HostConfig.Mounts).toHaveLength(spec.HostConfig.Mounts!.length);
    expect(there.HostConfig.Mounts!.at(-1)?.Source).toBe("/usr/lib/ftinit");
    expect(there.Labels[label.createdAs]).toBe("standby");
    expect({ ...there, HostConfig: null, Labels: null }).toEqual({
      ...spec,
      HostConfig: null,
      Labels: null,
    });
  });
});

describe("the plain container of unprotect", () => {
  it("is the original: entry point, network, ports, restart policy, labels", () => {
    const inspect = inspectFixture({
      Config: { Entrypoint: ["/entry"], Cmd: ["serve"], Labels: { team: "a" } },
      HostConfig: {
        NetworkMode: "web",
        PortBindings: { "80/tcp": [{ HostPort: "8080" }] },
        RestartPolicy: { Name: "always" },
      },
      NetworkSettings: {
        Networks: {
          web: {
            IPAMConfig: { IPv4Address: "10.9.0.7" },
            Aliases: ["web-1", "94e0b7c211b5"],
            IPAddress: "10.9.0.7",
            EndpointID: "x",
          },
        },
      },
    });
    const spec = plainSpec(inspect);
    expect(spec).toMatchObject({ Entrypoint: ["/entry"], Cmd: ["serve"], Labels: { team: "a" } });
    expect(spec.HostConfig).toMatchObject({
      NetworkMode: "web",
      PortBindings: { "80/tcp": [{ HostPort: "8080" }] },
      RestartPolicy: { Name: "always" },
    });
    expect(spec.NetworkingConfig?.EndpointsConfig.web).toEqual({
      IPAMConfig: { IPv4Address: "10.9.0.7" },
      Links: null,
      Aliases: ["web-1"],
      DriverOpts: null,
    });
  });

  it("survives being kept as JSON", () => {
    const spec = plainSpec(inspectFixture({}));
    expect(JSON.parse(JSON.stringify(spec))).toEqual(spec);
  });
});

describe("restart policies", () => {
  it("come back from their label as they were", () => {
    for (const [policy, back] of [
      [{ Name: "always" }, { name: "always", retriesMax: 0 }],
      [{ Name: "unless-stopped" }, { name: "unless-stopped", retriesMax: 0 }],
      [
        { Name: "on-failure", MaximumRetryCount: 5 },
        { name: "on-failure", retriesMax: 5 },
      ],
      [{ Name: "on-failure" }, { name: "on-failure", retriesMax: 0 }],
      [{ Name: "" }, { name: "no", retriesMax: 0 }],
      [null, { name: "no", retriesMax: 0 }],
    ] as const) {
      expect(parseRestart(formatRestart(policy))).toEqual(back);
    }
  });
});

describe("a recorded container (mode hybrid)", () => {
  const targets = (spec: ReturnType<typeof protectedSpec>) =>
    (spec.HostConfig.Mounts ?? []).map(({ Source, Target }) => `${Source} ${Target}`);

  it("has the recorder and the folder of the log beside ftinit, and nothing of it in its environment", () => {
    const inspect = inspectFixture({});
    const spec = protectedSpec(inspect, { ...options, recorded: true });
    expect(spec.Entrypoint).toEqual([INIT_PATH, "--record", "--"]);
    expect(spec.Env).toEqual((inspect.Config as Record<string, unknown>).Env);
    expect(targets(spec)).toEqual(
      expect.arrayContaining([
        "/opt/ftctl/libftrec.so /.ftctl/libftrec.so",
        "/run/ftctl/pairs/0123456789ab/log /.ftctl/log",
      ]),
    );
  });

  it("finds them where they are on the other host", () => {
    const spec = protectedSpec(inspectFixture({}), { ...options, recorded: true });
    const there = specForHost(spec, {
      role: "standby",
      initProgram: "/usr/lib/ftinit",
      recorder: "/usr/lib/libftrec.so",
      logFolder: (pair) => `/var/run/${pair}`,
    });
    const own = targets(there).filter((mount) => mount.includes(" /.ftctl/"));
    expect(own).toEqual([
      "/usr/lib/ftinit /.ftctl/ftinit",
      "/usr/lib/libftrec.so /.ftctl/libftrec.so",
      "/var/run/0123456789ab /.ftctl/log",
    ]);
  });
});
