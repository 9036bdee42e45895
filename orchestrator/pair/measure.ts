/** Sliding windows of measured values, for `status` and the metrics. Bounded; sorted only when asked. */
import type { Percentiles } from "../agent/api-types.js";

const WINDOW_MAX = 512;

export class Window {
  private values: number[] = [];
  private next = 0;

  add(value: number): void {
    if (this.values.length < WINDOW_MAX) this.values.push(value);
    else this.values[this.next % WINDOW_MAX] = value;
    this.next += 1;
  }

  /** Undefined before the first value. */
  percentiles(): Percentiles | undefined {
    if (this.values.length === 0) return undefined;
    const sorted = [...this.values].sort((a, b) => a - b);
    const at = (q: number) => sorted[Math.min(sorted.length - 1, Math.floor(q * sorted.length))]!;
    const avg = sorted.reduce((sum, value) => sum + value, 0) / sorted.length;
    return { avg: round(avg), p50: round(at(0.5)), p99: round(at(0.99)), max: round(at(1)) };
  }
}

/** Undefined before the first value. */
export function medians(windows: Map<string, Window>): Record<string, number> | undefined {
  if (windows.size === 0) return undefined;
  return Object.fromEntries(
    [...windows].map(([name, window]) => [name, window.percentiles()?.p50 ?? 0]),
  );
}

function round(value: number): number {
  return Math.round(value * 1000) / 1000;
}
