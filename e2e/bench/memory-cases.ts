/** What the memory section measures: pure data, so that its size can be seen and tested. */
import { shortcuts } from "../../criu/checkpointer.js";

/** A service as it stands while several ways of dumping it have their turns. */
export interface MemoryCase {
  workload: "redis" | "memcached";
  memoryMiB: number;
  threads: number;
  connections: number;
  ways: MemoryWay[];
}

/** One ftdump; it meets the fractions one after the other. */
export interface MemoryWay {
  name: string;
  tracking: "auto" | "full";
  without: (typeof shortcuts)[number][];
  compression: "none" | "lz4" | "zstd";
  fractions: number[];
  /** Another build's ftdump and library, in place of this one's. */
  build?: string;
}

export interface MemorySettings {
  sizes: number[];
  fractions: number[];
  connections: number[];
  threads: number[];
  /** Without the rows that compare sizes, each with every shortcut off in turn, and those of packing. */
  comparedOnly?: boolean;
  /** Instead of shortcuts off in turn: other builds, by turns. */
  against?: string[];
}

/** Where connections, threads and compression are compared. */
const COMPARED_MIB = 100;

const way = (name: string, fractions: number[], over: Partial<MemoryWay> = {}): MemoryWay => ({
  ...{ name, fractions, tracking: "auto", without: [], compression: "none" },
  ...over,
});

export function memoryCases({
  sizes,
  fractions,
  connections,
  threads,
  comparedOnly = false,
  against = [],
}: MemorySettings): MemoryCase[] {
  const least = fractions.slice(0, 1);
  const written = way("written", fractions);
  const redis = { workload: "redis" as const, threads: 1, connections: connections[0] ?? 1 };
  if (against.length > 0) {
    const others = against.map((build) => way(`written, ${build}`, fractions, { build }));
    return sizes.flatMap((memoryMiB) =>
      connections.map((count) => ({
        ...{ ...redis, connections: count, memoryMiB },
        ways: [written, ...others],
      })),
    );
  }
  const bySize = sizes.map((memoryMiB) => ({
    ...redis,
    memoryMiB,
    ways: [
      written,
      way("full", least, { tracking: "full", without: [...shortcuts] }),
      ...shortcuts.map((one) => way(`without ${one}`, least, { without: [one] })),
    ],
  }));
  if (!sizes.includes(COMPARED_MIB)) return bySize;
  const most = fractions.slice(-2, -1);
  const packed = {
    ...redis,
    memoryMiB: COMPARED_MIB,
    ways: (["lz4", "zstd"] as const).map((compression) => way(compression, most, { compression })),
  };
  const byConnections = connections.slice(1).map((count) => ({
    ...{ ...redis, connections: count, memoryMiB: COMPARED_MIB },
    ways: [
      way("written", least),
      way("full", least, { tracking: "full", without: [...shortcuts] }),
    ],
  }));
  const byThreads = threads.map((count) => ({
    ...{ workload: "memcached" as const, threads: count, connections: connections[0] ?? 1 },
    memoryMiB: COMPARED_MIB,
    ways: [
      way("written", count === 4 ? fractions : least),
      way("full", least, { tracking: "full", without: [...shortcuts] }),
    ],
  }));
  if (comparedOnly) return [...byConnections, ...byThreads];
  return [...bySize, packed, ...byConnections, ...byThreads];
}
