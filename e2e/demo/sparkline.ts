/** Latency over time as a line of blocks: what the clients felt around the failure. */
import type { Slice } from "../clients/latency.js";

const blocks = "▁▂▃▄▅▆▇█";
/** Nothing was answered in this slice. */
const silence = "·";

/**
 * One character per slice of `sliceUs` from `fromUs` on; heights are logarithmic between 1 ms and 1 s,
 * because an ordinary reply and an outage lie two orders of magnitude apart.
 */
export function sparkline(
  slices: Slice[],
  fromUs: number,
  sliceUs: number,
  characters: number,
): string {
  const highest = new Array<number>(characters).fill(-1);
  for (const slice of slices) {
    const i = Math.floor((slice.atUs - fromUs) / sliceUs);
    if (i >= 0 && i < characters) highest[i] = Math.max(highest[i]!, slice.latencyUsMax);
  }
  return highest.map((latencyUs) => (latencyUs < 0 ? silence : block(latencyUs))).join("");
}

function block(latencyUs: number): string {
  const height = Math.log10(Math.max(latencyUs, 1_000) / 1_000) / 3;
  const i = Math.min(blocks.length - 1, Math.floor(height * blocks.length));
  return blocks[i]!;
}
