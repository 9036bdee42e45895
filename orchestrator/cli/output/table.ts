/** Aligned columns, as kubectl has them: no lines, three blanks between, easy to read and to cut up. */
import type { Column, Paint, View } from "./result.js";

const GAP = "   ";

export function renderTable<T>(view: View<T>, rows: T[], wide: boolean, paint: Paint): string {
  const columns = view.columns.filter((column) => wide || column.wide !== true);
  const cells = rows.map((row) => columns.map((column) => clean(column.cell(row))));
  const widths = columns.map((column, index) =>
    Math.max(column.header.length, ...cells.map((row) => (row[index] as string).length)),
  );
  const header = columns.map((column) => column.header);
  const lines = [line(header, widths, (_index, padded) => paint("dim", padded))];
  rows.forEach((row, index) => {
    const toned = (column: number, padded: string) =>
      paint((columns[column] as Column<T>).tone?.(row) ?? "plain", padded);
    lines.push(line(cells[index] as string[], widths, toned));
    const note = view.note?.(row);
    if (note !== undefined) lines.push(paint("dim", `${GAP}${clean(note)}`));
  });
  return `${lines.join("\n")}\n`;
}

/** Padded before it is painted, so that colours do not count as width; the last cell is not padded. */
function line(
  cells: string[],
  widths: number[],
  paint: (index: number, padded: string) => string,
): string {
  return cells
    .map((cell, index) =>
      paint(index, index === cells.length - 1 ? cell : cell.padEnd(widths[index] as number)),
    )
    .join(GAP);
}

/** One line, and no control characters: names and messages come from other hosts and programs. */
export function clean(text: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: these are what must not reach a terminal
  return text.replace(/\s*\n\s*/g, " ").replace(/[\u0000-\u001f\u007f-\u009f]/g, "?");
}
