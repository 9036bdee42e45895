/** An error for people: what failed on which subject, why, what to do, where the log is. */
import type { FtError } from "../../errors/error.js";
import type { Paint } from "./result.js";
import { clean } from "./table.js";

export function renderError(error: FtError, paint: Paint): string {
  const lines = [
    `${paint("bad", `error ${error.code}:`)} ${clean(error.subject)}: ${clean(error.message)}`,
    ...quoted(error).map((line) => `  ${paint("dim", "|")} ${clean(line)}`),
  ];
  if (error.hint !== undefined) lines.push(`  what to do: ${clean(error.hint)}`);
  if (error.log !== undefined) lines.push(`  full log:   ${clean(error.log)}`);
  if (error.code === "INTERNAL" && error.cause instanceof Error && error.cause.stack) {
    lines.push(...error.cause.stack.split("\n").map((line) => `  ${paint("dim", clean(line))}`));
  }
  return `${lines.join("\n")}\n`;
}

/** A single line that only says the message again is for programs, not for people. */
function quoted({ quoted: lines, subject, message }: FtError): string[] {
  const [only] = lines;
  if (lines.length === 1 && only !== undefined && `${subject}: ${message}`.endsWith(only))
    return [];
  return lines;
}
