import pc from "picocolors";
import type { Paint } from "./result.js";

export function paintWith(colors: boolean): Paint {
  const on = pc.createColors(colors);
  const tones = {
    good: on.green,
    busy: on.yellow,
    bad: on.red,
    dim: on.dim,
    plain: (text: string) => text,
  };
  return (tone, text) => tones[tone](text);
}
