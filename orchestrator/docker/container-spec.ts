/**
 * From `docker inspect` of a running container: what its protected form, its standby and the plain container of
 * `unprotect` are made from. Pure.
 *
 * The configuration is carried over whole and only what protection replaces is changed, so that an option that
 * nobody here has heard of is kept too. Docker takes back in a create request what it shows in inspect.
 */
import { ExitCode, FtError } from "../errors/error.js";
import type {
  ContainerInspect,
  ContainerSpec,
  HostConfig,
  MountRequest,
  NetworkEndpoint,
} from "./docker-types.js";
import { containerName } from "./docker-types.js";

export const INIT_PATH = "/.ftctl/ftinit";
/** Where libftrec.so and the folder of the event log are in a recorded container (mode hybrid). */
export const RECORDER_PATH = "/.ftctl/libftrec.so";
export const LOG_FOLDER = "/.ftctl/log";
/** The flag of ftinit with which the application, and nothing else, is recorded. */
const RECORD_FLAG = "--record";
/** Folder inside the container that belongs to ftctl; never captured, removed by `unprotect`. */
export const INIT_FOLDER = "/.ftctl";

/** Labels of the containers that ftctl makes. Not read as policy overrides. */
export const label = {
  pair: "ftctl.internal.pair",
  /** The role in which the container was created; roles change, labels cannot. */
  createdAs: "ftctl.internal.created-as",
  /** The application's own restart policy, `on-failure:5`: the agent carries it out. */
  restart: "ftctl.internal.restart",
  imageId: "ftctl.internal.image-id",
  /** The container that was protected, kept aside. */
  original: "ftctl.internal.original",
} as const;

/** ftinit itself, and what restoring needs for a moment, on top of the application's own limit. */
const EXTRA_PIDS = 4;

/** What of a host a protected container is given. */
export interface HostPrograms {
  /** Where ftinit is on that host. */
  initProgram: string;
  /** Where libftrec.so is. */
  recorder: string;
  /** The folder of the pair's event log, on the run dir's tmpfs. */
  logFolder: (pairId: string) => string;
}

export interface ProtectOptions extends HostPrograms {
  pairId: string;
  role: "primary" | "standby";
  /** Mode hybrid: the application is recorded. */
  recorded: boolean;
  /** The service address without prefix length: the container's own name resolves to it. */
  address: string;
}

export function protectedSpec(inspect: ContainerInspect, options: ProtectOptions): ContainerSpec {
  refuseProtected(inspect);
  // The service's MAC address belongs to the gate's interface; Docker makes none.
  const { MacAddress: _mac, ...config } = carriedConfig(inspect);
  const host = config.HostConfig;
  const hostname = inspect.Config.Hostname;
  return {
    ...config,
    name: containerName(inspect),
    Image: inspect.Config.Image,
    NetworkDisabled: false,
    Entrypoint: options.recorded ? [INIT_PATH, RECORD_FLAG, "--"] : [INIT_PATH, "--"],
    Cmd: [inspect.Path, ...inspect.Args],
    Labels: {
      ...inspect.Config.Labels,
      [label.pair]: options.pairId,
      [label.createdAs]: options.role,
      [label.restart]: formatRestart(inspect.HostConfig.RestartPolicy),
      [label.imageId]: inspect.Image,
      [label.original]: inspect.Id,
    },
    HostConfig: {
      ...host,
      NetworkMode: "none",
      PortBindings: {},
      PublishAllPorts: false,
      Links: null,
      Init: false,
      AutoRemove: false,
      RestartPolicy: { Name: "no", MaximumRetryCount: 0 },
      PidsLimit: withRoom(inspect.HostConfig.PidsLimit),
      ExtraHosts: withOwnName(inspect.HostConfig.ExtraHosts, hostname, options.address),
      Mounts: [...(host.Mounts ?? []), ...ownMounts(options, options.recorded, options.pairId)],
    },
  };
}

export function isRecorded(spec: Pick<ContainerSpec, "Entrypoint">): boolean {
  return spec.Entrypoint?.[0] === INIT_PATH && spec.Entrypoint[1] === RECORD_FLAG;
}

/** The same container as it is made on another host: only where ftinit lies there, and the role, differ. */
export function specForHost(
  spec: ContainerSpec,
  options: HostPrograms & Pick<ProtectOptions, "role">,
): ContainerSpec {
  const own = new Set([INIT_PATH, RECORDER_PATH, LOG_FOLDER]);
  const mounts = (spec.HostConfig.Mounts ?? []).filter((mount) => !own.has(mount.Target));
  const added = ownMounts(options, isRecorded(spec), spec.Labels[label.pair] ?? "");
  return {
    ...spec,
    Labels: { ...spec.Labels, [label.createdAs]: options.role },
    HostConfig: { ...spec.HostConfig, Mounts: [...mounts, ...added] },
  };
}

/** What `unprotect` makes: the original again, on whichever host. */
export function plainSpec(inspect: ContainerInspect): ContainerSpec {
  refuseProtected(inspect);
  const spec = carriedConfig(inspect);
  const endpoints = Object.entries(inspect.NetworkSettings.Networks).slice(0, 1);
  const shared = /^(host|none|container:)/.test(inspect.HostConfig.NetworkMode ?? "");
  if (shared || endpoints.length === 0) return spec;
  const [network, endpoint] = endpoints[0] as [string, NetworkEndpoint];
  spec.NetworkingConfig = {
    EndpointsConfig: { [network]: carriedEndpoint(endpoint, inspect.Id) },
  };
  return spec;
}

function refuseProtected(inspect: ContainerInspect): void {
  const pair = inspect.Config.Labels?.[label.pair];
  if (pair === undefined) return;
  throw new FtError({
    code: "ALREADY_PROTECTED",
    subject: `container ${containerName(inspect)}`,
    message: `it belongs to pair ${pair}`,
    hint: "ftctl status shows it; ftctl unprotect makes it a plain container again.",
    exitCode: ExitCode.refused,
  });
}

function carriedConfig(inspect: ContainerInspect): ContainerSpec {
  const { Entrypoint, Cmd, Labels, ...rest } = structuredClone(inspect.Config);
  return {
    ...rest,
    name: containerName(inspect),
    HostConfig: carriedHostConfig(inspect),
    Entrypoint: typeof Entrypoint === "string" ? [Entrypoint] : (Entrypoint ?? null),
    Cmd: Cmd ?? [],
    Labels: Labels ?? {},
  };
}

/** Volumes without a name of their own, and those of `--volumes-from`, are named, or they would be lost. */
function carriedHostConfig(inspect: ContainerInspect): HostConfig {
  const host = structuredClone(inspect.HostConfig);
  delete host.ContainerIDFile;
  const binds = host.Binds ?? [];
  const mounts = (host.Mounts ?? []).map((mount) => withSource(mount, inspect));
  const bound = new Set(binds.map(bindTarget));
  for (const mount of mounts) bound.add(mount.Target);
  const unnamed = inspect.Mounts.filter(
    (mount) => !bound.has(mount.Destination) && (mount.Type === "volume" || mount.Type === "bind"),
  ).map((mount) => {
    const source = mount.Type === "volume" ? (mount.Name ?? mount.Source) : mount.Source;
    return `${source}:${mount.Destination}:${mount.RW ? "rw" : "ro"}`;
  });
  return { ...host, Binds: [...binds, ...unnamed], Mounts: mounts, VolumesFrom: null };
}

function withSource(mount: MountRequest, inspect: ContainerInspect): MountRequest {
  if (mount.Type !== "volume" || (mount.Source ?? "") !== "") return mount;
  const found = inspect.Mounts.find((point) => point.Destination === mount.Target);
  return found?.Name === undefined ? mount : { ...mount, Source: found.Name };
}

/** `source:target[:mode]`. */
function bindTarget(bind: string): string {
  return bind.split(":")[1] ?? bind;
}

function carriedEndpoint(endpoint: NetworkEndpoint, id: string): NetworkEndpoint {
  const aliases = (endpoint.Aliases ?? []).filter((alias) => !id.startsWith(alias));
  return {
    IPAMConfig: endpoint.IPAMConfig ?? null,
    Links: endpoint.Links ?? null,
    Aliases: aliases.length > 0 ? aliases : null,
    DriverOpts: endpoint.DriverOpts ?? null,
  };
}

function ownMounts(host: HostPrograms, recorded: boolean, pairId: string): MountRequest[] {
  const init: MountRequest = {
    Type: "bind",
    Source: host.initProgram,
    Target: INIT_PATH,
    ReadOnly: true,
  };
  if (!recorded) return [init];
  return [
    init,
    { Type: "bind", Source: host.recorder, Target: RECORDER_PATH, ReadOnly: true },
    // A folder: the log is made anew for each start of the application, and the standby's is made by its gate.
    { Type: "bind", Source: host.logFolder(pairId), Target: LOG_FOLDER, ReadOnly: false },
  ];
}

function withRoom(limit: number | null | undefined): number | null {
  return limit === null || limit === undefined || limit <= 0 ? null : limit + EXTRA_PIDS;
}

/** Docker writes the container's own name into /etc/hosts only for networks of its own. */
function withOwnName(
  hosts: string[] | null | undefined,
  hostname: string,
  address: string,
): string[] {
  const given = hosts ?? [];
  const named = given.some((entry) => entry.startsWith(`${hostname}:`));
  return named || hostname === "" ? given : [...given, `${hostname}:${address}`];
}

export interface RestartPolicy {
  name: "no" | "always" | "unless-stopped" | "on-failure";
  /** 0: no bound. Only with `on-failure`. */
  retriesMax: number;
}

export function formatRestart(policy: HostConfig["RestartPolicy"]): string {
  const name = policy?.Name || "no";
  const retries = policy?.MaximumRetryCount ?? 0;
  return name === "on-failure" && retries > 0 ? `${name}:${retries}` : name;
}

/** The application's own restart policy, from the label of its protected container. */
export function parseRestart(text: string | undefined): RestartPolicy {
  const [name, retries] = (text ?? "no").split(":");
  if (name === "always" || name === "unless-stopped") return { name, retriesMax: 0 };
  if (name === "on-failure") return { name, retriesMax: Number(retries ?? 0) || 0 };
  return { name: "no", retriesMax: 0 };
}
