/**
 * The services that tests protect: what is in their image, how they are run, what their protocol promises. The redis,
 * memcached, nginx and lighttpd are Debian's own; the others are written here so that every reply proves something.
 */
import { join } from "node:path";
import { FtError } from "../../orchestrator/errors/error.js";
import { workloads } from "../clients/report.js";
import type { ImageRequest } from "../lab/image.js";
import { checkoutRoot } from "../lab/layout.js";

export interface WorkloadDefinition {
  name: WorkloadName;
  image: ImageRequest;
  port: number;
  /** Options of `docker run` besides name and network. */
  runOptions: string[];
  /** What a client may hold it to. */
  protocol: string;
}

/** What clients know how to talk to, and the same with other options. */
export const WORKLOAD_NAMES = [...workloads, "redis-always", "redis-saving", "nginx-1"] as const;
export type WorkloadName = (typeof WORKLOAD_NAMES)[number];

export const LARGE_FILE_BYTES = 2 ** 20;
export const SMALL_FILE_TEXT = "small file of the nginx workload\n".repeat(31);

export function workload(name: WorkloadName): WorkloadDefinition {
  return definitions[name]();
}

export function workloadName(text: string): WorkloadName {
  const name = WORKLOAD_NAMES.find((each) => each === text);
  if (name !== undefined) return name;
  throw new FtError({
    code: "USAGE",
    subject: `workload ${text}`,
    message: `is none of ${WORKLOAD_NAMES.join(", ")}`,
    exitCode: 2,
  });
}

const definitions: Record<WorkloadName, () => WorkloadDefinition> = {
  redis: () => redis("redis", "everysec"),
  "redis-always": () => redis("redis-always", "always"),
  "redis-saving": () => redis("redis-saving", "always", SAVING),
  memcached: () => ({
    name: "memcached",
    image: {
      ...plain("ft-memcached"),
      packages: ["memcached"],
      command: [
        "memcached",
        "-u",
        "memcache",
        "-l",
        "0.0.0.0",
        "-t",
        "4",
        "-m",
        "256",
        "-c",
        "1024",
      ],
    },
    port: 11211,
    runOptions: [],
    protocol: "memcached's text protocol; 4 worker threads and a timer thread; nothing on disk",
  }),
  nginx: () => nginx("nginx", 2),
  "nginx-1": () => nginx("nginx-1", 1),
  lighttpd: () => ({
    name: "lighttpd",
    image: lighttpdImage(),
    port: 80,
    runOptions: [],
    protocol: `HTTP/1.1 with keep-alive; the files of the nginx workload; one process`,
  }),
  echo: () =>
    ours(
      "echo",
      7007,
      ["ft-echo", "7007"],
      "`<sequence> <payload>` → `ok <sequence> <counter> <payload>`; `stats` → `ok requests=<n> bad=<n>`; `bad …` if a sequence number is not the next",
    ),
  disk: () =>
    ours(
      "disk",
      7008,
      ["ft-disk", "7008", "/data/records"],
      "`append <text>` → `ok <number> <offset>` once synced; `read <number>`, `count`, `verify`",
    ),
  tree: () =>
    ours(
      "tree",
      7009,
      ["ft-tree", "7009"],
      "`step <value>` → `ok <count> <sum>` if parent, both children, pipes and both shared memories agree; `pids`",
    ),
  bank: () =>
    ours(
      "bank",
      7010,
      ["ft-bank", "7010"],
      "`move <client> <n> <from> <to> <amount>` → number and balance of both accounts' changes; `audit` → the sum, always the same; 4 worker threads, a lock an account",
    ),
  "race-none": () => race("race-none"),
  "race-counter": () => race("race-counter"),
  "race-flag": () => race("race-flag"),
};

function plain(name: string): ImageRequest {
  return { name, packages: [], copies: [], command: [], env: [] };
}

/** A child writes all keys every second while there are writes, and takes its time: the host is often lost under it. */
const SAVING = ["--save", "1 1", "--rdb-key-save-delay", "20"];

function redis(
  name: "redis" | "redis-always" | "redis-saving",
  fsync: string,
  more: string[] = [],
): WorkloadDefinition {
  const debug = ["--enable-debug-command", "local"];
  const options = [
    "--bind",
    "0.0.0.0",
    "--protected-mode",
    "no",
    "--dir",
    "/var/lib/redis",
    ...debug,
  ];
  return {
    name,
    image: {
      ...plain(`ft-${name}`),
      packages: ["redis-server", "redis-tools"],
      command: ["redis-server", ...options, "--appendonly", "yes", "--appendfsync", fsync, ...more],
      user: "redis",
      folders: [{ path: "var/lib/redis", owner: "redis", mode: 0o750 }],
    },
    port: 6379,
    runOptions: [],
    protocol: `RESP; append-only file in /var/lib/redis, synced ${fsync}; the first request of a lost write shows as a missing or repeated counter`,
  };
}

const nginxConfiguration = (workers: number) => `daemon off;
user www-data;
worker_processes ${workers};
pid /run/nginx.pid;
error_log stderr warn;
events { worker_connections 1024; }
http {
  access_log off;
  keepalive_timeout 3600s;
  keepalive_requests 1000000000;
  default_type text/plain;
  sendfile on;
  tcp_nodelay on;
  server { listen 80; root /srv/www; }
}
`;

function nginx(name: "nginx" | "nginx-1", workers: number): WorkloadDefinition {
  return {
    name,
    image: nginxImage(`ft-${name}`, workers),
    port: 80,
    runOptions: [],
    protocol: `HTTP/1.1 with keep-alive; /small.txt (${SMALL_FILE_TEXT.length} bytes), /large.txt (${LARGE_FILE_BYTES} bytes); a master and ${workers} worker${workers > 1 ? "s" : ""}`,
  };
}

function nginxImage(name: string, workers: number): ImageRequest {
  return {
    ...plain(name),
    packages: ["nginx-light"],
    command: ["nginx", "-c", "/etc/nginx/workload.conf"],
    files: [
      { path: "etc/nginx/workload.conf", text: nginxConfiguration(workers) },
      { path: "srv/www/small.txt", text: SMALL_FILE_TEXT },
      { path: "srv/www/large.txt", text: largeFile() },
    ],
    folders: [{ path: "var/lib/nginx", owner: "root" }],
  };
}

const LIGHTTPD_CONFIGURATION = `server.modules = ( "mod_indexfile", "mod_access" )
server.document-root = "/srv/www"
server.port = 80
server.username = "www-data"
server.groupname = "www-data"
server.max-keep-alive-idle = 3600
server.max-keep-alive-requests = 1000000000
mimetype.assign = ( ".txt" => "text/plain" )
`;

function lighttpdImage(): ImageRequest {
  return {
    ...plain("ft-lighttpd"),
    packages: ["lighttpd"],
    command: ["lighttpd", "-D", "-f", "/etc/lighttpd/workload.conf"],
    files: [
      { path: "etc/lighttpd/workload.conf", text: LIGHTTPD_CONFIGURATION },
      { path: "srv/www/small.txt", text: SMALL_FILE_TEXT },
      { path: "srv/www/large.txt", text: largeFile() },
    ],
    folders: [{ path: "var/cache/lighttpd/uploads", owner: "www-data" }],
  };
}

/** Every line numbered, so that a byte in the wrong place cannot go unseen. */
export function largeFile(): string {
  const lines = Array.from(
    { length: LARGE_FILE_BYTES / 16 },
    (_, i) => `${String(i).padStart(15, "0")}\n`,
  );
  return lines.join("");
}

function race(name: "race-none" | "race-counter" | "race-flag"): WorkloadDefinition {
  return ours(
    name,
    7011,
    ["ft-race", "7011", name.slice("race-".length)],
    "`<n>` → `ok <n> <n> <value>`; the value hangs on which of 4 threads was first, by a lock (none) or by a data race (counter, flag)",
  );
}

function ours(
  name: WorkloadName,
  port: number,
  command: [string, ...string[]],
  protocol: string,
): WorkloadDefinition {
  const [program] = command;
  return {
    name,
    image: {
      ...plain(`ft-${name}`),
      packages: ["libc6"],
      copies: [
        {
          source: join(checkoutRoot(), "build/workloads", program),
          target: `/usr/local/bin/${program}`,
          mode: 0o755,
        },
      ],
      command,
      folders: [{ path: "data", owner: "root" }],
    },
    port,
    runOptions: [],
    protocol,
  };
}
