/**
 * What a client felt: latencies, their course over time, and the silences. All times are microseconds of
 * the machine's monotonic clock, which every process and network namespace shares, so that the instant a
 * host was killed can be put on the same axis.
 */
import * as hdr from "hdr-histogram-js";

export interface LatencySummary {
  count: number;
  avg: number;
  p50: number;
  p90: number;
  p99: number;
  max: number;
}

/** A stretch in which a connection that wanted an answer got none. */
export interface Gap {
  connection: number;
  fromUs: number;
  toUs: number;
}

/** One slice of the timeline. */
export interface Slice {
  atUs: number;
  replies: number;
  latencyUsMax: number;
}

export const sliceUs = 50_000;
const slicesMax = 72_000;
const gapsMax = 1_000;
/** Shorter silences are ordinary latency. */
const gapUsMin = 100_000;

export const monotonicUs = (): number => Number(process.hrtime.bigint() / 1000n);

export class LatencyRecorder {
  readonly #histogram = hdr.build({
    lowestDiscernibleValue: 1,
    highestTrackableValue: 600_000_000,
    numberOfSignificantValueDigits: 3,
    bitBucketSize: 32,
  });
  readonly #slices: Slice[] = [];
  readonly #gaps: Gap[] = [];
  readonly #lastReplyUs = new Map<number, number>();
  #sumUs = 0;

  /** The connection is open and about to ask: silences count from here. */
  opened(connection: number, nowUs: number): void {
    this.#lastReplyUs.set(connection, nowUs);
  }

  replied(connection: number, sentUs: number, nowUs: number): void {
    const latencyUs = Math.max(1, nowUs - sentUs);
    this.#histogram.recordValue(latencyUs);
    this.#sumUs += latencyUs;
    this.#slice(nowUs, latencyUs);
    const last = this.#lastReplyUs.get(connection) ?? sentUs;
    this.#lastReplyUs.set(connection, nowUs);
    this.#gap(connection, Math.max(last, sentUs), nowUs);
  }

  /** The connection is over while a request was out since `sentUs`: that silence counts too. */
  ended(connection: number, sentUs: number | undefined, nowUs: number): void {
    if (sentUs !== undefined) this.#gap(connection, sentUs, nowUs);
    this.#lastReplyUs.delete(connection);
  }

  summary(): LatencySummary {
    const count = this.#histogram.totalCount;
    const at = (percentile: number) =>
      count === 0 ? 0 : this.#histogram.getValueAtPercentile(percentile);
    return {
      count,
      avg: count === 0 ? 0 : this.#sumUs / count,
      p50: at(50),
      p90: at(90),
      p99: at(99),
      max: count === 0 ? 0 : this.#histogram.maxValue,
    };
  }

  timeline(): Slice[] {
    return this.#slices;
  }

  /** Longest first. */
  gaps(): Gap[] {
    return this.#gaps.toSorted((a, b) => b.toUs - b.fromUs - (a.toUs - a.fromUs));
  }

  #gap(connection: number, fromUs: number, toUs: number): void {
    if (toUs - fromUs < gapUsMin) return;
    this.#gaps.push({ connection, fromUs, toUs });
    if (this.#gaps.length > gapsMax) {
      this.#gaps.sort((a, b) => b.toUs - b.fromUs - (a.toUs - a.fromUs));
      this.#gaps.length = gapsMax / 2;
    }
  }

  #slice(nowUs: number, latencyUs: number): void {
    const atUs = Math.floor(nowUs / sliceUs) * sliceUs;
    const last = this.#slices.at(-1);
    if (last && last.atUs === atUs) {
      last.replies += 1;
      last.latencyUsMax = Math.max(last.latencyUsMax, latencyUs);
    } else if (this.#slices.length < slicesMax) {
      this.#slices.push({ atUs, replies: 1, latencyUsMax: latencyUs });
    }
  }
}

/** The longest silence that had begun by `afterUs` + `withinUs` and was not over at `afterUs`. */
export function outageMsAround(gaps: Gap[], afterUs: number, withinUs = 5_000_000): number {
  const touching = gaps.filter((gap) => gap.toUs > afterUs && gap.fromUs < afterUs + withinUs);
  return Math.max(0, ...touching.map((gap) => (gap.toUs - gap.fromUs) / 1000));
}
