/** A small `docker inspect`, for tests, with parts replaced. */
import type { ContainerInspect } from "./docker-types.js";

type Parts = {
  [K in keyof ContainerInspect]?: ContainerInspect[K] extends unknown[]
    ? ContainerInspect[K]
    : Partial<ContainerInspect[K]>;
};

export function inspectFixture(parts: Parts): ContainerInspect {
  const id = "94e0b7c211b5f61261fedfebddc0631912f4641f215e3ea78e1bd18c3caaffbb";
  const base: ContainerInspect = {
    Id: id,
    Name: "/redis",
    Path: "redis-server",
    Args: [],
    Image: "sha256:cbe5720ddd96911450e752517ae5173aa87ef09a3e0ef739a00ac6fffc34d12e",
    Driver: "overlay2",
    ExecIDs: null,
    State: { Status: "running", Running: true, Paused: false, Pid: 4711, ExitCode: 0 },
    HostConfig: {
      Binds: null,
      ContainerIDFile: "",
      NetworkMode: "default",
      RestartPolicy: { Name: "no", MaximumRetryCount: 0 },
      ConsoleSize: [0, 0],
      ExtraHosts: null,
      PidsLimit: null,
    },
    GraphDriver: { Name: "overlay2", Data: { UpperDir: "/var/lib/docker/overlay2/aa/diff" } },
    Mounts: [],
    Config: { Hostname: "94e0b7c211b5", Image: "redis:7", Cmd: ["redis-server"], Labels: {} },
    NetworkSettings: { Networks: {} },
  };
  const merged = { ...base, ...parts } as ContainerInspect;
  for (const key of ["State", "HostConfig", "GraphDriver", "Config", "NetworkSettings"] as const) {
    Object.assign(merged, { [key]: { ...base[key], ...(parts[key] as object | undefined) } });
  }
  return merged;
}
