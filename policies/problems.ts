/** What is wrong with a policy, where, and why: `file:line:column: path: reason`. */
import type { z } from "zod";
import { ExitCode, FtError } from "../orchestrator/errors/error.js";
import { fieldNames, leafPaths } from "./fields.js";
import { didYouMean } from "./suggest.js";

export interface PolicyProblem {
  /** `web.yaml:4:7`, or `label ftctl.standby`. */
  place: string;
  /** `spec.epoch.intervalMs`; empty for the whole document. */
  path: string;
  reason: string;
}

/** A problem before its place is known. */
export interface PathProblem {
  path: PropertyKey[];
  /** Whether `path` names a key that should not be there, so that the key is to be shown, not its value. */
  atKey: boolean;
  reason: string;
}

const PROBLEMS_SHOWN_MAX = 50;

export function formatProblem(problem: PolicyProblem): string {
  return [problem.place, problem.path, problem.reason].filter((part) => part !== "").join(": ");
}

export function formatPath(path: readonly PropertyKey[]): string {
  return path
    .map((key) => (typeof key === "number" ? `[${key}]` : `.${printable(String(key))}`))
    .join("")
    .replace(/^\./, "");
}

/** Keys come from files that others wrote: no control characters, no walls of text. */
export function printable(text: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: these are what must not reach a terminal
  const clean = text.replace(/[\u0000-\u001f\u007f-\u009f\u2028\u2029]/g, "?");
  return clean.length > 64 ? `${clean.slice(0, 61)}...` : clean;
}

export function policyInvalid(problems: PolicyProblem[]): FtError {
  const [first] = problems;
  const subject = first === undefined ? "policy" : `policy ${first.place}`;
  const message =
    problems.length === 1 && first !== undefined
      ? [first.path, first.reason].filter((part) => part !== "").join(": ")
      : `${problems.length} problems, the first: ${first?.path}: ${first?.reason}`;
  const shown = problems.slice(0, PROBLEMS_SHOWN_MAX).map(formatProblem);
  if (problems.length > shown.length) shown.push(`… and ${problems.length - shown.length} more`);
  return new FtError({
    code: "POLICY_INVALID",
    subject,
    message,
    hint: "`ftctl policy schema` prints the JSON Schema; docs/policies.md explains every field.",
    quoted: shown,
    exitCode: ExitCode.usage,
  });
}

/** Zod's issues in our words. */
export function pathProblems(error: z.ZodError, input: unknown): PathProblem[] {
  return error.issues.flatMap((issue): PathProblem[] => {
    if (issue.code === "unrecognized_keys") {
      return issue.keys.map((key) => ({
        path: [...issue.path, key],
        atKey: true,
        reason: unknownField(key, issue.path),
      }));
    }
    return [{ path: issue.path, atKey: false, reason: reasonOf(issue, input) }];
  });
}

function unknownField(key: string, under: readonly PropertyKey[]): string {
  const hint = didYouMean(key, fieldNames(under));
  if (hint !== "") return `unknown field${hint}`;
  const elsewhere = leafPaths().find((path) => path.at(-1) === key);
  if (elsewhere !== undefined) return `unknown field here; it belongs at ${elsewhere.join(".")}`;
  const known = fieldNames(under);
  return known.length === 0 ? "unknown field" : `unknown field; known are ${known.join(", ")}`;
}

function reasonOf(issue: z.core.$ZodIssue, input: unknown): string {
  const value = valueAt(input, issue.path);
  if (value === undefined && issue.code !== "custom") return "is required";
  if (issue.code === "invalid_value" && issue.values.length > 1) {
    const known = issue.values.map(String);
    const hint = typeof value === "string" ? didYouMean(value, known) : "";
    return `expected one of ${known.join(", ")}${hint}`;
  }
  return issue.message.replace(/^Invalid input: /, "");
}

function valueAt(input: unknown, path: readonly PropertyKey[]): unknown {
  let value = input;
  for (const key of path) {
    if (typeof value !== "object" || value === null || !Object.hasOwn(value, key)) return undefined;
    value = (value as Record<PropertyKey, unknown>)[key];
  }
  return value;
}
