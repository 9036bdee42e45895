/** The agent's log: JSON lines to stderr (journald keeps them), the last ones of each pair in memory for `ftctl logs`. */
import { Writable } from "node:stream";
import { type Logger, multistream, pino } from "pino";

const LINES_PER_PAIR_MAX = 1_000;
const PAIRS_MAX = 256;

export class RecentLines {
  private readonly byPair = new Map<string, string[]>();

  readonly stream = new Writable({
    decodeStrings: false,
    write: (chunk: string, _encoding, done) => {
      this.keep(String(chunk));
      done();
    },
  });

  of(pair: string, count: number): string[] {
    return (this.byPair.get(pair) ?? []).slice(-count);
  }

  private keep(line: string): void {
    const pair = /"pair":"([0-9a-f]{12})"/.exec(line)?.[1];
    if (pair === undefined) return;
    const lines = this.byPair.get(pair) ?? [];
    if (!this.byPair.has(pair) && this.byPair.size >= PAIRS_MAX) return;
    lines.push(line.trimEnd());
    if (lines.length > LINES_PER_PAIR_MAX) lines.shift();
    this.byPair.set(pair, lines);
  }
}

export function createLog(host: string, level: string, recent: RecentLines): Logger {
  const streams = multistream([
    { level: level as "info", stream: process.stderr },
    { level: "info", stream: recent.stream },
  ]);
  return pino({ level, base: { host } }, streams);
}
