/**
 * What takeovers had to replay during a run, from the agents' logs: events and status are gone when an agent is killed, and the
 * campaign kills agents.
 */
import { closeSync, existsSync, fstatSync, openSync, readSync } from "node:fs";
import type { Hosts } from "../runner/hosts.js";

export interface Replays {
  /** Takeovers that replayed a log to its end. */
  replayed: number;
  events: number;
  outputs: number;
  ms: number;
  /** Takeovers that had no log to replay, as no checkpoint led into it yet. */
  uncovered: number;
  /** Of those replayed: at the first attempt. With pacing on-retry that is the rate without mitigation. */
  atOnce: number;
  /** Including those that came to the end. */
  attempts: number;
  /** Of the attempts: outcome by outcome, those that did not. */
  diverged: number;
  stalled: number;
  otherwise: number;
  /** Why they did not, in their own words. */
  why: string[];
}

export const noReplays = (): Replays => ({
  ...{ replayed: 0, atOnce: 0, events: 0, outputs: 0, ms: 0, uncovered: 0 },
  ...{ attempts: 0, diverged: 0, stalled: 0, otherwise: 0, why: [] },
});

const wholeFileBytesMax = 64 << 20;

/** Marks where the agents' logs end now; what it returns tells what came since. */
export function watchReplays(hosts: Hosts): () => Replays {
  const logs = hosts.hosts.map((host) => hosts.logsOf(host)[0] ?? "");
  const ends = logs.map((log) => readFrom(log, Number.POSITIVE_INFINITY).end);
  return () =>
    logs
      .map((log, i) => replaysIn(readFrom(log, ends[i] ?? 0).text))
      .reduce(addReplays, noReplays());
}

export function addReplays(a: Replays, b: Replays): Replays {
  return {
    replayed: a.replayed + b.replayed,
    atOnce: a.atOnce + b.atOnce,
    events: a.events + b.events,
    outputs: a.outputs + b.outputs,
    ms: a.ms + b.ms,
    uncovered: a.uncovered + b.uncovered,
    attempts: a.attempts + b.attempts,
    diverged: a.diverged + b.diverged,
    stalled: a.stalled + b.stalled,
    otherwise: a.otherwise + b.otherwise,
    why: [...a.why, ...b.why],
  };
}

const types = ['"takeover-done"', '"replay-failed"', '"log-not-replayed"'];

/** The events of takeovers among an agent's lines; others, and broken ones, are passed over. */
export function replaysIn(text: string): Replays {
  const found = noReplays();
  for (const line of text.split("\n")) {
    if (!types.some((type) => line.includes(type))) continue;
    const event = parse(line);
    if (event?.type === "takeover-done" && event.replayed !== undefined) {
      found.replayed += 1;
      if (event.attempts === 1) found.atOnce += 1;
      found.attempts += 1;
      found.events += Number(event.replayed);
      found.outputs += Number(event.outputs);
      found.ms += Number(event.replayMs);
    } else if (event?.type === "log-not-replayed") {
      found.uncovered += 1;
    } else if (event?.type === "replay-failed") {
      found.attempts += 1;
      if (event.outcome === "diverged") found.diverged += 1;
      else if (event.outcome === "stalled") found.stalled += 1;
      else found.otherwise += 1;
      found.why.push(String(event.msg));
    }
  }
  return found;
}

function parse(line: string): Record<string, unknown> | undefined {
  try {
    return JSON.parse(line.slice(line.indexOf("{"))) as Record<string, unknown>;
  } catch {
    // Cut off by the death of its writer.
    return undefined;
  }
}

/** From there to the end; a file that has become shorter is a new one, and is read whole. */
function readFrom(path: string, from: number): { text: string; end: number } {
  if (!existsSync(path)) return { text: "", end: 0 };
  const file = openSync(path, "r");
  try {
    const end = fstatSync(file).size;
    if (from === Number.POSITIVE_INFINITY) return { text: "", end };
    const start = Math.max(from <= end ? from : 0, end - wholeFileBytesMax);
    const buffer = Buffer.alloc(end - start);
    readSync(file, buffer, 0, buffer.length, start);
    return { text: buffer.toString("utf8"), end };
  } finally {
    closeSync(file);
  }
}
