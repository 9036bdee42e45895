/** The version of ftctl, from package.json, which lies above both the sources and what is compiled from them. */
import { existsSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

export function ownVersion(): string {
  let dir = dirname(fileURLToPath(import.meta.url));
  while (!existsSync(join(dir, "package.json")) && dirname(dir) !== dir) dir = dirname(dir);
  const content = JSON.parse(readFileSync(join(dir, "package.json"), "utf8")) as {
    version?: string;
  };
  return content.version ?? "unknown";
}
