/** Numbers for people: three digits that matter, a unit, nothing more. */

export function milliseconds(ms: number | undefined): string {
  if (ms === undefined) return "-";
  if (ms < 1) return `${Number(ms.toFixed(2))} ms`;
  if (ms < 10) return `${Number(ms.toFixed(1))} ms`;
  if (ms < 1000) return `${Math.round(ms)} ms`;
  if (ms < 10_000) return `${Number((ms / 1000).toFixed(1))} s`;
  return span(ms);
}

/** Docker's way: the largest unit, at most two of them. */
export function span(ms: number): string {
  const seconds = Math.max(0, Math.floor(ms / 1000));
  if (seconds < 120) return `${seconds} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 120) return `${minutes} min`;
  const hours = Math.floor(minutes / 60);
  if (hours < 48) return `${hours} h ${minutes % 60} min`;
  return `${Math.floor(hours / 24)} d ${hours % 24} h`;
}

export function bytes(count: number | undefined): string {
  if (count === undefined) return "-";
  let value = count;
  for (const unit of ["B", "KiB", "MiB", "GiB"]) {
    if (value < 1024) return `${value < 10 ? Number(value.toFixed(1)) : Math.round(value)} ${unit}`;
    value /= 1024;
  }
  return `${Number(value.toFixed(1))} TiB`;
}

/** 4711 → `4,711`; the same in every locale. */
export function count(value: number): string {
  return String(value).replace(/\B(?=(\d{3})+$)/g, ",");
}

export function since(at: string | undefined, nowMs: number): string {
  const then = at === undefined ? Number.NaN : Date.parse(at);
  return Number.isNaN(then) ? "-" : span(nowMs - then);
}
