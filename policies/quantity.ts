/** Byte quantities as people write them: `64Mi`, `1Gi`, `500k`, or a plain number. */

const FACTORS: Readonly<Record<string, number>> = {
  "": 1,
  k: 1e3,
  M: 1e6,
  G: 1e9,
  T: 1e12,
  Ki: 2 ** 10,
  Mi: 2 ** 20,
  Gi: 2 ** 30,
  Ti: 2 ** 40,
};

export const QUANTITY_PATTERN = /^(0|[1-9]\d{0,14})(\.\d{1,6})?(k|M|G|T|Ki|Mi|Gi|Ti)?$/;

/** Bytes, or undefined when the text is not a quantity or does not come to whole bytes. */
export function parseQuantity(value: string | number): number | undefined {
  if (typeof value === "number") {
    return Number.isSafeInteger(value) && value >= 0 ? value : undefined;
  }
  const match = QUANTITY_PATTERN.exec(value);
  if (match === null) return undefined;
  const factor = FACTORS[match[3] ?? ""];
  if (factor === undefined) return undefined;
  const bytes = Number(`${match[1]}${match[2] ?? ""}`) * factor;
  return Number.isSafeInteger(bytes) ? bytes : undefined;
}

/** The shortest exact form: 67108864 → `64Mi`. */
export function formatQuantity(bytes: number): string {
  for (const unit of ["Ti", "Gi", "Mi", "Ki"]) {
    const factor = FACTORS[unit] as number;
    if (bytes >= factor && bytes % factor === 0) return `${bytes / factor}${unit}`;
  }
  return String(bytes);
}
