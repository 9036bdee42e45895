/** Turns results into text. Pure but for the writer. */
import { stringify } from "yaml";
import { unreachable } from "../../errors/error.js";
import type { OutputFormat, Paint, RowsResult, StreamResult, TextResult } from "./result.js";
import { clean, renderTable } from "./table.js";

export interface Sink {
  write(text: string): void | Promise<void>;
  isTerminal: boolean;
}

const CLEAR_SCREEN = "\u001b[H\u001b[2J\u001b[3J";

export function renderRows(
  result: RowsResult,
  format: OutputFormat | undefined,
  paint: Paint,
): string {
  const { view, rows } = result;
  switch (format) {
    case "json":
      return `${JSON.stringify(shown(result), null, 2)}\n`;
    case "yaml":
      return yaml(shown(result));
    case "name":
      return rows.map((row) => `${clean(view.name(row))}\n`).join("");
    case undefined:
      if (rows.length === 0) return "";
      if (view.describe === undefined) return renderTable(view, rows, false, paint);
      return rows.map((row) => view.describe?.(row, paint)).join(view.lines === true ? "" : "\n");
    case "table":
    case "wide":
      return rows.length === 0 ? "" : renderTable(view, rows, format === "wide", paint);
    default:
      return unreachable(format);
  }
}

function shown({ rows, single }: RowsResult): unknown {
  return single ? rows[0] : rows;
}

export function renderText(result: TextResult, format: OutputFormat | undefined): string {
  if (format === "json") return `${JSON.stringify(result.value, null, 2)}\n`;
  if (format === "yaml") return yaml(result.value);
  return result.text;
}

/** Each item as it comes: one JSON object a line, one YAML document, or a screen. */
export async function printStream(
  result: StreamResult,
  format: OutputFormat | undefined,
  paint: Paint,
  sink: Sink,
): Promise<void> {
  const { view } = result;
  let first = true;
  for await (const rows of result.items) {
    if (format === "json") {
      for (const row of rows) await sink.write(`${JSON.stringify(row)}\n`);
    } else if (format === "yaml") {
      for (const row of rows) await sink.write(`---\n${yaml(row)}`);
    } else if (result.redraw) {
      const screen = renderRows({ kind: "rows", view, rows }, format, paint);
      await sink.write(sink.isTerminal ? CLEAR_SCREEN + screen : `${first ? "" : "\n"}${screen}`);
    } else {
      for (const row of rows) await sink.write(streamLine(view, row, format, paint));
    }
    first = false;
  }
}

/** Columns cannot be aligned with what has not come yet: one blank-separated line a row. */
function streamLine(
  view: StreamResult["view"],
  row: unknown,
  format: OutputFormat | undefined,
  paint: Paint,
): string {
  if (format === "name") return `${clean(view.name(row))}\n`;
  const columns = view.columns.filter((column) => format === "wide" || column.wide !== true);
  const cells = columns.map((column) =>
    paint(column.tone?.(row) ?? "plain", clean(column.cell(row))),
  );
  return `${cells.join("  ")}\n`;
}

function yaml(value: unknown): string {
  return stringify(value, { lineWidth: 0, aliasDuplicateObjects: false });
}
