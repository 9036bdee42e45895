/** The options of a load client, and their way across a command line as one JSON argument. */
import type { Workload } from "./report.js";

export interface ClientOptions {
  workload: Workload;
  host: string;
  port: number;
  connections: number;
  /** Requests outstanding on each connection. */
  pipeline: number;
  thinkMs: number;
  valueBytes: number;
  largeEvery: number;
  /** A new connection for each request; only for services whose replies do not hang on the connection. */
  shortConnections: boolean;
  /** Per connection. */
  requestsMax: number;
  durationMsMax: number;
  connectTimeoutMs: number;
  stallMsMax: number;
  run: string;
}

export const clientDefaults = {
  connections: 8,
  pipeline: 1,
  thinkMs: 0,
  valueBytes: 64,
  largeEvery: 32,
  shortConnections: false,
  requestsMax: 200_000,
  durationMsMax: 120_000,
  connectTimeoutMs: 10_000,
  stallMsMax: 30_000,
} as const;

export const defaultPorts: Record<Workload, number> = {
  redis: 6379,
  memcached: 11211,
  nginx: 80,
  lighttpd: 80,
  echo: 7007,
  disk: 7008,
  tree: 7009,
  bank: 7010,
  "race-none": 7011,
  "race-counter": 7011,
  "race-flag": 7011,
};

export type GivenOptions = Pick<ClientOptions, "workload" | "host"> & Partial<ClientOptions>;

export function clientOptions(given: GivenOptions): ClientOptions {
  const options: ClientOptions = {
    ...clientDefaults,
    port: defaultPorts[given.workload],
    run: Math.floor(Math.random() * 2 ** 32).toString(36),
    ...given,
  };
  for (const [name, value] of Object.entries(options)) {
    if (typeof value === "number" && (!Number.isFinite(value) || value < 0)) {
      throw new Error(`client option ${name} must be a number ≥ 0, is ${value}`);
    }
  }
  return options;
}
