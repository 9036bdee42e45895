/**
 * The agent's configuration. Strongest first: flag > `FTCTL_*` > file (/etc/ftctl/agent.yaml) > default.
 * The file is read strictly: an unknown field or a wrong value is an error with file:line:column.
 * A host's name and its certificates are not configuration: `ftctl init` and `ftctl join` make them.
 */
import { readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { type Document, isMap, isNode, isScalar, LineCounter, parseDocument } from "yaml";
import { z } from "zod";
import { ExitCode, FtError } from "../errors/error.js";
import { hostNameSchema } from "./host-name.js";
import { DEFAULT_PORTS, type Peer } from "./peers.js";

const CONFIG_BYTES_MAX = 256 << 10;
const port = z.coerce.number().int().min(1).max(65_535);
const ipAddress = z.union([z.ipv4(), z.ipv6()], { error: "must be an IP address" });
const folder = z.string().startsWith("/", { error: "must be an absolute path" });

const fileSchema = z.strictObject({
  /** On the replication network; without it, the address given to `ftctl init` or `ftctl join`. */
  listen: ipAddress.optional(),
  controlPort: port.default(DEFAULT_PORTS.control),
  streamPort: port.default(DEFAULT_PORTS.stream),
  joinPort: port.default(DEFAULT_PORTS.join),
  /** First of the UDP ports of the gates' heartbeats: one a pair. */
  heartbeatPort: port.default(DEFAULT_PORTS.heartbeat),
  /** Where Prometheus reads, `address:port`; `off` for nowhere. */
  metrics: z
    .string()
    .regex(/^(off|(\d{1,3}\.){3}\d{1,3}:\d{1,5}|\[[0-9a-fA-F:]+\]:\d{1,5})$/, {
      error: "must be address:port, or off",
    })
    .default("127.0.0.1:9477"),
  stateDir: folder.optional(),
  runDir: folder.optional(),
  policiesDir: folder.optional(),
  dockerSocket: folder.default("/var/run/docker.sock"),
  /** Holds bin/ftgate and the other native programs. */
  nativeDir: folder.optional(),
  toolkitDir: folder.optional(),
  /** `auto`: only written pages are dumped, where the kernel can tell which they are, in the best way it has; `full`: all memory, every epoch. */
  tracking: z.enum(["auto", "soft-dirty", "full"]).default("auto"),
  /** When an application runs after a takeover: `lazy`: before its memory is there; `whole`: after; `auto`: by its size. */
  restore: z.enum(["auto", "lazy", "whole"]).default("auto"),
  logLevel: z.enum(["trace", "debug", "info", "warn", "error", "fatal"]).default("info"),
  /** Hosts known besides those learnt by joining, or at other addresses. */
  peers: z
    .array(
      z.strictObject({
        host: hostNameSchema,
        address: ipAddress,
        controlPort: port.optional(),
        streamPort: port.optional(),
      }),
    )
    .max(64)
    .default([]),
});

export interface AgentConfig {
  listen: string | undefined;
  controlPort: number;
  streamPort: number;
  joinPort: number;
  heartbeatPort: number;
  metrics: { address: string; port: number } | undefined;
  stateDir: string;
  runDir: string;
  policiesDir: string;
  dockerSocket: string;
  nativeDir: string;
  toolkitDir: string;
  tracking: "auto" | "soft-dirty" | "full";
  restore: "auto" | "lazy" | "whole";
  logLevel: "trace" | "debug" | "info" | "warn" | "error" | "fatal";
  peers: Peer[];
}

/** What the command line has settled already. */
export interface ConfigSettings {
  configFile: string;
  stateDir: string;
  runDir: string;
}

/** Variables of the environment and the fields that they override. */
const VARIABLES = {
  FTCTL_LISTEN: "listen",
  FTCTL_CONTROL_PORT: "controlPort",
  FTCTL_STREAM_PORT: "streamPort",
  FTCTL_JOIN_PORT: "joinPort",
  FTCTL_HEARTBEAT_PORT: "heartbeatPort",
  FTCTL_METRICS: "metrics",
  FTCTL_POLICIES_DIR: "policiesDir",
  FTCTL_DOCKER_SOCKET: "dockerSocket",
  FTCTL_NATIVE_DIR: "nativeDir",
  FTCTL_TOOLKIT_DIR: "toolkitDir",
  FTCTL_TRACKING: "tracking",
  FTCTL_RESTORE: "restore",
  FTCTL_LOG_LEVEL: "logLevel",
} as const;

/** A file that is not there counts as empty; all defaults then hold. */
export function loadAgentConfig(settings: ConfigSettings, env: NodeJS.ProcessEnv): AgentConfig {
  const { configFile, stateDir, runDir } = settings;
  const file = readConfigFile(configFile);
  const overridden = parsedEnvironment(env);
  const fields = { ...parseConfig(file, configFile), ...overridden };
  return {
    listen: fields.listen,
    controlPort: fields.controlPort,
    streamPort: fields.streamPort,
    joinPort: fields.joinPort,
    heartbeatPort: fields.heartbeatPort,
    metrics: metricsAddress(fields.metrics),
    stateDir,
    runDir,
    policiesDir: fields.policiesDir ?? join(dirname(configFile), "policies"),
    dockerSocket: fields.dockerSocket,
    nativeDir: fields.nativeDir ?? join(packageRoot(), "build"),
    toolkitDir: fields.toolkitDir ?? join(stateDir, "toolkit"),
    tracking: fields.tracking,
    restore: fields.restore,
    logLevel: fields.logLevel,
    peers: fields.peers.map((peer) => ({
      ...peer,
      controlPort: peer.controlPort ?? fields.controlPort,
      streamPort: peer.streamPort ?? fields.streamPort,
    })),
  };
}

/** Throws CONFIG_INVALID that quotes every problem with its place. */
export function parseConfig(text: string, file: string): z.output<typeof fileSchema> {
  const lines = new LineCounter();
  const place = (offset: number) => {
    const { line, col } = lines.linePos(offset);
    return `${file}:${Math.max(line, 1)}:${Math.max(col, 1)}`;
  };
  const document = parseDocument(text, {
    lineCounter: lines,
    prettyErrors: false,
    stringKeys: true,
    logLevel: "silent",
  });
  if (document.errors.length > 0) {
    throw invalid(document.errors.map((error) => `${place(error.pos[0])}: ${error.message}`));
  }
  const result = fileSchema.safeParse(document.toJS({ maxAliasCount: 32 }) ?? {});
  if (result.success) return result.data;
  throw invalid(
    result.error.issues.flatMap((issue) => {
      const paths =
        issue.code === "unrecognized_keys"
          ? issue.keys.map((key) => ({ path: [...issue.path, key], reason: "unknown field" }))
          : [{ path: issue.path, reason: issue.message }];
      return paths.map(
        ({ path, reason }) => `${place(offsetOf(document, path))}: ${path.join(".")}: ${reason}`,
      );
    }),
  );
}

/** Where a field is; where it is missing, its nearest ancestor that exists. */
function offsetOf(document: Document.Parsed, path: readonly PropertyKey[]): number {
  for (let length = path.length; length > 0; length -= 1) {
    const parent =
      length === 1 ? document.contents : document.getIn(path.slice(0, length - 1), true);
    const key = path[length - 1];
    const pair = isMap(parent)
      ? parent.items.find((item) => isScalar(item.key) && item.key.value === key)
      : undefined;
    const node = pair?.key ?? document.getIn(path.slice(0, length), true);
    if (isNode(node) && node.range) return node.range[0];
  }
  return document.contents?.range?.[0] ?? 0;
}

function parsedEnvironment(env: NodeJS.ProcessEnv): Partial<z.output<typeof fileSchema>> {
  const given: Record<string, unknown> = {};
  for (const [variable, field] of Object.entries(VARIABLES)) {
    const value = env[variable];
    if (value === undefined || value === "") continue;
    const result = fileSchema.shape[field].safeParse(value);
    if (!result.success) throw invalid([`${variable}: ${result.error.issues[0]?.message}`]);
    given[field] = result.data;
  }
  return given;
}

function readConfigFile(path: string): string {
  let text: string;
  try {
    text = readFileSync(path, "utf8");
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === "ENOENT") return "";
    throw invalid([`${path}: cannot be read: ${(cause as Error).message}`], cause);
  }
  if (text.length > CONFIG_BYTES_MAX) throw invalid([`${path}: is too large`]);
  return text;
}

function metricsAddress(text: string): AgentConfig["metrics"] {
  if (text === "off") return undefined;
  const colon = text.lastIndexOf(":");
  const address = text.slice(0, colon).replace(/^\[(.*)\]$/, "$1");
  return { address, port: Number(text.slice(colon + 1)) };
}

/** Above both the sources and what is compiled from them. */
function packageRoot(): string {
  const here = dirname(fileURLToPath(import.meta.url));
  return here.replace(/(\/dist)?\/orchestrator\/links$/, "");
}

function invalid(problems: string[], cause?: unknown): FtError {
  const [first = ""] = problems;
  const place = /^\S+:\d+:\d+|^[^:]+/.exec(first)?.[0] ?? "agent.yaml";
  return new FtError({
    code: "CONFIG_INVALID",
    subject: `configuration ${place}`,
    message: first.slice(place.length).replace(/^: /, ""),
    hint: "docs/ARCHITECTURE.md lists the fields of the agent's configuration.",
    quoted: problems.length > 1 ? problems.slice(0, 50) : [],
    exitCode: ExitCode.usage,
    cause,
  });
}
