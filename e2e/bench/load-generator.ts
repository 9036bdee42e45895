/** Builds and runs the load generator (load.c) in the client's network. */
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { execa } from "execa";
import { checkoutRoot } from "../lab/layout.js";
import type { Hosts } from "../runner/hosts.js";
import { outFolder } from "../runner/workloads.js";

export interface LoadFigures {
  requests: number;
  seconds: number;
  avg: number;
  p50: number;
  p99: number;
  max: number;
}

export type BenchWorkload = "redis" | "memcached" | "lighttpd" | "nginx";

export interface LoadRequest {
  address: string;
  port: number;
  workload: BenchWorkload;
  connections: number;
  warmUpMs: number;
  durationMs: number;
}

const valueBytes = 64;

export async function buildLoadGenerator(): Promise<string> {
  const folder = join(outFolder(), "bench");
  mkdirSync(folder, { recursive: true });
  const program = join(folder, "load");
  const source = join(checkoutRoot(), "e2e/bench/load.c");
  const flags = ["-std=c11", "-O2", "-Wall", "-Wextra", "-Werror", "-o", program];
  await execa("gcc", [...flags, source]);
  return program;
}

export async function measureLoad(
  hosts: Hosts,
  program: string,
  request: LoadRequest,
): Promise<LoadFigures> {
  const { address, port, workload, connections, warmUpMs, durationMs } = request;
  const protocol = workload === "nginx" || workload === "lighttpd" ? "http" : workload;
  const argv = [address, port, protocol, connections, warmUpMs, durationMs, valueBytes].map(String);
  const result = await hosts.exec("client", [program, ...argv], warmUpMs + durationMs + 60_000);
  if (result.exitCode !== 0) {
    throw new Error(`load on ${workload}: ${result.stderr.trim().slice(0, 500)}`);
  }
  return JSON.parse(result.stdout) as LoadFigures;
}
