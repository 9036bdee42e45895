import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join, relative } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";
import { ERROR_CODES, ERROR_GROUPS, errorTables } from "./codes.js";

const root = join(dirname(fileURLToPath(import.meta.url)), "../..");
const BEGIN =
  "<!-- codes: made from orchestrator/errors/codes.ts by codes.test.ts, UPDATE_DOCS=1 -->\n";
const END = "\n<!-- end of codes -->";

function sources(dir: string): string[] {
  return readdirSync(join(root, dir), { recursive: true, encoding: "utf8" })
    .filter(
      (name) => name.endsWith(".ts") && !/\.test\.ts$|(^|\/)(testing|simulation)\//.test(name),
    )
    .map((name) => join(root, dir, name));
}

/** `code: "X"`, and helpers that take the code first: `refused("X", …)`. */
const LITERAL = /(?:\bcode: ?|(?:refused|[eE]rror|fail\w*)\(\s*)"([A-Z][A-Z0-9_]+)"/g;

function codesUsed(): Map<string, string> {
  const used = new Map<string, string>();
  for (const file of ["orchestrator", "criu", "policies"].flatMap(sources)) {
    for (const match of readFileSync(file, "utf8").matchAll(LITERAL)) {
      used.set(match[1] as string, relative(root, file));
    }
  }
  return used;
}

describe("error codes", () => {
  it("in the source are all registered", () => {
    const used = codesUsed();
    expect(used.size).toBeGreaterThan(50);
    const unknown = [...used].filter(([code]) => !ERROR_CODES.has(code));
    expect(unknown.map(([code, file]) => `${code} in ${file}`)).toEqual([]);
  });

  it("registered are all used", () => {
    const used = codesUsed();
    expect([...ERROR_CODES.keys()].filter((code) => !used.has(code))).toEqual([]);
  });

  it("are registered once", () => {
    const all = ERROR_GROUPS.flatMap(({ codes }) => Object.keys(codes));
    expect(all.filter((code, index) => all.indexOf(code) !== index)).toEqual([]);
  });

  it("are documented, word for word", () => {
    const path = join(root, "docs/errors.md");
    const text = readFileSync(path, "utf8");
    const [before, rest] = text.split(BEGIN);
    const after = rest?.split(END)[1];
    expect(after, "the markers are in docs/errors.md").toBeDefined();
    const made = `${before}${BEGIN}\n${errorTables()}\n${END}${after}`;
    if (process.env.UPDATE_DOCS === "1") writeFileSync(path, made);
    else expect(text).toBe(made);
  });
});
