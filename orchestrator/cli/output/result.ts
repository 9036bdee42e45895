/** What a command hands back. Handlers return data; only main prints. */
import type { FtError } from "../../errors/error.js";

export const OUTPUT_FORMATS = ["table", "wide", "json", "yaml", "name"] as const;
export type OutputFormat = (typeof OUTPUT_FORMATS)[number];

export type Tone = "good" | "busy" | "bad" | "dim" | "plain";

export interface Column<T> {
  header: string;
  cell(row: T): string;
  tone?(row: T): Tone;
  /** Only with `-o wide`. */
  wide?: boolean;
}

export interface View<T> {
  columns: Column<T>[];
  /** `-o name` */
  name(row: T): string;
  /** When no format is asked for and a table is not the best way to read it. */
  describe?(row: T, paint: Paint): string;
  /** Descriptions are lines of their own, with no blank line between two of them. */
  lines?: boolean;
  /** A line below the table's row, such as the remedy of a failed check. */
  note?(row: T): string | undefined;
}

/** Colours, or none. */
export type Paint = (tone: Tone, text: string) => string;

export interface RowsResult<T = unknown> {
  kind: "rows";
  view: View<T>;
  rows: T[];
  /** json and yaml show the first row itself, not a list. */
  single?: boolean;
  /** Errors of the objects that failed, when several were asked for. */
  failures?: FtError[];
  /** For what is not an error, such as a degraded pair. The worst of this and of the failures counts. */
  exitCode?: number;
  /** Said on stderr, to people, when there are no rows. */
  empty?: string;
  /** What follows, said on stderr to people. */
  advice?: string;
}

export interface StreamResult<T = unknown> {
  kind: "stream";
  view: View<T>;
  /** Groups: what belongs together on one screen. */
  items: AsyncIterable<T[]>;
  /** On a terminal each group replaces the one before. */
  redraw: boolean;
}

export interface TextResult {
  kind: "text";
  text: string;
  /** What json and yaml show. */
  value: unknown;
  exitCode?: number;
}

export type CommandResult = RowsResult | StreamResult | TextResult;

/** Keeps the row's type while a command is written, drops it where results are printed alike. */
export function rows<T>(result: Omit<RowsResult<T>, "kind">): CommandResult {
  return { kind: "rows", ...result } as unknown as RowsResult;
}

export function stream<T>(result: Omit<StreamResult<T>, "kind">): CommandResult {
  return { kind: "stream", ...result } as unknown as StreamResult;
}

export function text(value: string, data: unknown = value): CommandResult {
  return { kind: "text", text: value, value: data };
}
