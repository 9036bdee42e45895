/** Test data as a function of its place, so that it can be checked without having been remembered. */
export function payloadFor(run: string, connection: number, n: number, bytes: number): string {
  const stem = `${run}/${connection}/${n};`;
  return stem.repeat(Math.ceil(bytes / stem.length)).slice(0, Math.max(bytes, stem.length));
}
