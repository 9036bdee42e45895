/** The parts of Docker's own data that ftctl looks at. Everything else passes through untouched. */

export interface MountPoint {
  Type: string;
  Name?: string;
  Source: string;
  Destination: string;
  Driver?: string;
  Mode?: string;
  RW: boolean;
  Propagation?: string;
}

/** An entry of `HostConfig.Mounts`, as `docker run --mount` makes them. */
export interface MountRequest {
  Type: string;
  Source?: string;
  Target: string;
  ReadOnly?: boolean;
  [field: string]: unknown;
}

export interface HostConfig {
  Binds?: string[] | null;
  Mounts?: MountRequest[] | null;
  NetworkMode?: string;
  PidMode?: string;
  IpcMode?: string;
  UTSMode?: string;
  UsernsMode?: string;
  Privileged?: boolean;
  AutoRemove?: boolean;
  Init?: boolean | null;
  RestartPolicy?: { Name: string; MaximumRetryCount?: number } | null;
  PidsLimit?: number | null;
  ExtraHosts?: string[] | null;
  PortBindings?: Record<string, unknown> | null;
  PublishAllPorts?: boolean;
  Links?: string[] | null;
  VolumesFrom?: string[] | null;
  Devices?: unknown[] | null;
  DeviceRequests?: unknown[] | null;
  Tmpfs?: Record<string, string> | null;
  Sysctls?: Record<string, string> | null;
  ShmSize?: number;
  Memory?: number;
  Runtime?: string;
  [field: string]: unknown;
}

export interface ContainerConfig {
  Hostname: string;
  Image: string;
  User?: string;
  Tty?: boolean;
  OpenStdin?: boolean;
  Env?: string[] | null;
  Cmd?: string[] | null;
  Entrypoint?: string[] | string | null;
  Labels?: Record<string, string> | null;
  ExposedPorts?: Record<string, unknown> | null;
  Healthcheck?: { Test?: string[] | null } | null;
  [field: string]: unknown;
}

export interface NetworkEndpoint {
  IPAMConfig?: unknown;
  Links?: string[] | null;
  Aliases?: string[] | null;
  DriverOpts?: unknown;
  MacAddress?: string;
  IPAddress?: string;
  [field: string]: unknown;
}

export interface ContainerInspect {
  Id: string;
  Name: string;
  Path: string;
  Args: string[];
  Image: string;
  Driver: string;
  Platform?: string;
  ExecIDs?: string[] | null;
  State: {
    Status: string;
    Running: boolean;
    Paused: boolean;
    Pid: number;
    ExitCode: number;
    [field: string]: unknown;
  };
  HostConfig: HostConfig;
  Config: ContainerConfig;
  GraphDriver: { Name: string; Data: Record<string, string> | null };
  Mounts: MountPoint[];
  NetworkSettings: { Networks: Record<string, NetworkEndpoint> };
}

/** What a container is made from: the create request, as plain JSON, so that it can be kept and sent. */
export interface ContainerSpec {
  name: string;
  Image: string;
  HostConfig: HostConfig;
  Labels: Record<string, string>;
  Cmd: string[];
  Entrypoint: string[] | null;
  NetworkingConfig?: { EndpointsConfig: Record<string, NetworkEndpoint> };
  [field: string]: unknown;
}

/** `/redis` as `redis`. */
export function containerName(inspect: Pick<ContainerInspect, "Name">): string {
  return inspect.Name.replace(/^\//, "");
}
