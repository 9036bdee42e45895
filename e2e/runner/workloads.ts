/** The services that are protected in tests: how their image is made, how they are run, how they are loaded. */
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileContent, filePath } from "../clients/http.js";
import { clientDefaults, defaultPorts } from "../clients/options.js";
import type { Workload } from "../clients/report.js";
import { checkoutRoot } from "../lab/layout.js";

export interface WorkloadSpec {
  workload: Workload;
  image: string;
  packages: string[];
  /** The container's command, split at spaces. */
  command: string;
  port: number;
  /** `source:destination` of files to put into the image. */
  copies: string[];
}

export const outFolder = (): string => join(checkoutRoot(), "e2e/out");

export const specs: Record<Workload, () => WorkloadSpec> = {
  redis: () => ({
    workload: "redis",
    image: "ft-redis",
    packages: ["redis-server"],
    command:
      "redis-server --bind 0.0.0.0 --protected-mode no --dir /var/lib/redis --appendonly yes",
    port: defaultPorts.redis,
    copies: [],
  }),
  memcached: () => ({
    workload: "memcached",
    image: "ft-memcached",
    packages: ["memcached"],
    command: "memcached -u nobody -l 0.0.0.0 -t 4 -m 256",
    port: defaultPorts.memcached,
    copies: [],
  }),
  echo: () => lineService("echo", "/usr/bin/ft-echo"),
  disk: () => lineService("disk", "/usr/bin/ft-disk", "/var/ft-disk.log"),
  tree: () => lineService("tree", "/usr/bin/ft-tree"),
  nginx: () => ({
    workload: "nginx",
    image: "ft-nginx",
    packages: ["nginx-light"],
    command: "nginx -c /etc/nginx/ft.conf",
    port: defaultPorts.nginx,
    copies: nginxFiles(),
  }),
};

/** A program of e2e/workloads. */
function lineService(workload: "echo" | "disk" | "tree", program: string, file = ""): WorkloadSpec {
  const port = defaultPorts[workload];
  const built = join(checkoutRoot(), `build/workloads/ft-${workload}`);
  return {
    workload,
    image: `ft-${workload}`,
    packages: ["libc6"],
    command: `${program} ${port} ${file}`.trim(),
    port,
    copies: [`${built}:${program}`],
  };
}

const nginxConfiguration = `daemon off;
worker_processes 2;
pid /run/ft-nginx.pid;
error_log stderr warn;
events { worker_connections 512; }
http {
  access_log off;
  keepalive_requests 100000000;
  keepalive_timeout 600s;
  default_type text/plain;
  server { listen 80; root /srv; }
}
`;

/** Writes the configuration and the files the client will ask for. */
function nginxFiles(): string[] {
  const folder = join(outFolder(), "images/nginx");
  mkdirSync(join(folder, "ft"), { recursive: true });
  const configuration = join(folder, "ft.conf");
  writeFileSync(configuration, nginxConfiguration);
  const copies = [`${configuration}:/etc/nginx/ft.conf`];
  for (let i = 0; i < clientDefaults.files; i += 1) {
    const file = join(folder, filePath(i));
    writeFileSync(file, fileContent(i, nginxFileBytes));
    copies.push(`${file}:/srv${filePath(i)}`);
  }
  return copies;
}

export const nginxFileBytes = 4_096;
