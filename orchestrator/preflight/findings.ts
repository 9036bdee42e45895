/** A check is a name, and what it found: nothing (ok), or one result for each thing found. */
import type { CheckResult } from "../agent/api-types.js";

export interface Finding {
  status: "warning" | "failed";
  reason: string;
  remedy?: string;
}

export const failed = (reason: string, remedy?: string): Finding => ({
  status: "failed",
  reason,
  ...(remedy === undefined ? {} : { remedy }),
});

export const warning = (reason: string, remedy?: string): Finding => ({
  ...failed(reason, remedy),
  status: "warning",
});

/** One ok result when nothing was found, else a result for each finding. */
export function results(
  name: string,
  host: string,
  findings: Finding[],
  okReason: string,
): CheckResult[] {
  if (findings.length === 0) return [{ name, host, status: "ok", reason: okReason }];
  return findings.map((finding) => ({ name, host, ...finding }));
}

/** Whether `protect` may go on. */
export function passes(checks: CheckResult[]): boolean {
  return checks.every((check) => check.status !== "failed");
}

/** `a, b, c and 4 more`, so that a service with a thousand descriptors stays readable. */
export function some(items: string[], max = 4): string {
  const unique = [...new Set(items)];
  const more = unique.length - max;
  return more <= 0 ? unique.join(", ") : `${unique.slice(0, max).join(", ")} and ${more} more`;
}
