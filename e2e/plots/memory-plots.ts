/** The memory section's figures as charts: docs/plots/memory-*.svg. */
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { MemoryRow } from "../bench/rows.js";
import { barChart, type Series } from "./svg.js";

export function writeMemoryPlots(folder: string, rows: MemoryRow[]): void {
  mkdirSync(folder, { recursive: true });
  for (const [name, svg] of Object.entries(memoryPlots(rows)))
    writeFileSync(join(folder, name), svg);
}

export function memoryPlots(rows: MemoryRow[]): Record<string, string> {
  const pauses = rows.filter(({ pauseMs }) => pauseMs !== undefined);
  const outages = rows.filter(({ outageMs }) => outageMs !== undefined);
  const redis = pauses.filter(({ workload }) => workload === "redis");
  const alone = redis.filter(({ connections }) => connections === least(redis, "connections"));
  const rarely = (of: MemoryRow[]) =>
    of.filter(({ dirtyFraction }) => dirtyFraction === least(of, "dirtyFraction"));
  const compared = rarely(redis).filter(({ memoryMiB }) => memoryMiB === 100);
  const threaded = rarely(pauses.filter(({ workload }) => workload === "memcached"));
  const plots = {
    "memory-pause-size.svg": chart(
      "redis: pause against memory, 0.1 % of it written an epoch",
      rarely(alone),
      {
        ...byWay,
        category: ({ memoryMiB }) => `${memoryMiB} MiB`,
      },
    ),
    "memory-pause-dirty.svg": chart(
      "redis: pause against memory written an epoch",
      ofWay(alone, "written"),
      {
        category: ({ dirtyFraction = 0 }) => `${dirtyFraction * 100} %`,
        series: ({ memoryMiB }) => `${memoryMiB} MiB`,
        value: pauseOf,
      },
    ),
    "memory-pause-connections.svg": chart("redis of 100 MiB: pause against connections", compared, {
      ...byWay,
      category: ({ connections }) => `${connections}`,
    }),
    "memory-pause-threads.svg": chart("memcached of 100 MiB: pause against threads", threaded, {
      ...byWay,
      category: ({ threads }) => `${threads}`,
    }),
    "memory-outage-size.svg": chart(
      "redis: outage at the power loss of the host, against memory",
      outages.filter(({ connections }) => connections === least(outages, "connections")),
      { category: ({ memoryMiB }) => `${memoryMiB} MiB`, series: () => "p50", value: outageOf },
    ),
    "memory-outage-connections.svg": chart(
      "redis of 100 MiB: outage at the power loss of the host, against connections",
      outages.filter(({ memoryMiB }) => memoryMiB === 100),
      { category: ({ connections }) => `${connections}`, series: () => "p50", value: outageOf },
    ),
  };
  return Object.fromEntries(
    Object.entries(plots).flatMap(([name, svg]) => (svg ? [[name, svg]] : [])),
  );
}

const pauseOf = ({ pauseMs }: MemoryRow) => pauseMs?.p50;
const outageOf = ({ outageMs }: MemoryRow) => outageMs?.p50;
const byWay = {
  series: ({ configuration }: MemoryRow) =>
    ({ written: "written pages", full: "CRIU's plain full dump" })[configuration] ?? configuration,
  value: pauseOf,
};

const ofWay = (rows: MemoryRow[], way: string) =>
  rows.filter(({ configuration }) => configuration === way);

const least = (rows: MemoryRow[], field: "connections" | "dirtyFraction") =>
  Math.min(...rows.map((row) => row[field] ?? Number.POSITIVE_INFINITY));

interface Axes {
  category(row: MemoryRow): string;
  series(row: MemoryRow): string;
  value(row: MemoryRow): number | undefined;
}

/** Nothing to draw: no chart. */
function chart(title: string, rows: MemoryRow[], axes: Axes): string | undefined {
  // Shortcuts and packing are in the table; here they would only crowd the picture.
  const drawn = rows.filter(({ configuration }) => /^(written|full|failover)$/.test(configuration));
  if (drawn.length === 0) return undefined;
  const ordered = drawn.toSorted(
    (a, b) =>
      a.memoryMiB - b.memoryMiB ||
      a.threads - b.threads ||
      a.connections - b.connections ||
      (a.dirtyFraction ?? 0) - (b.dirtyFraction ?? 0),
  );
  const categories = [...new Set(ordered.map(axes.category))];
  const series: Series[] = [...new Set(ordered.map(axes.series))].map((name) => ({
    name,
    values: categories.map((category) => {
      const row = ordered.find(
        (each) => axes.category(each) === category && axes.series(each) === name,
      );
      return row && axes.value(row);
    }),
  }));
  return barChart({ title, unit: "ms", logarithmic: true, categories, series });
}
