import { readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";
import { fieldAt, leafPaths } from "./fields.js";
import { listPolicies } from "./load.js";
import { formatQuantity } from "./quantity.js";

const root = join(dirname(fileURLToPath(import.meta.url)), "..");
const text = readFileSync(join(root, "docs/policies.md"), "utf8");

/** Rows of the table of fields: name → [default, range, meaning]. */
const documented = new Map(
  [...text.matchAll(/^\| `([\w.]+)` \| ([^|]*) \| ([^|]*) \| ([^|]*) \|$/gm)].map((match) => [
    match[1] as string,
    match.slice(2).map((cell) => cell.trim()),
  ]),
);
const fields = leafPaths(["spec"]).map((path) => path.slice(1).join("."));

describe("docs/policies.md", () => {
  it("has every field of the schema and no other", () => {
    expect([...documented.keys()].sort()).toEqual([...fields].sort());
  });

  it.each(fields)("tells the default of %s", (field) => {
    const schema = fieldAt(["spec", ...field.split(".")]) as { default?: unknown; enum?: string[] };
    const [shown = "", range = ""] = documented.get(field) ?? [];
    const value = schema.default;
    if (typeof value === "number") {
      const forms = [String(value), formatQuantity(value)];
      expect(forms).toContain(shown);
    } else if (typeof value === "string") expect(shown).toBe(`\`${value}\``);
    else expect(shown).toMatch(/^(none|required|the only peer|derived from the pair)$/);
    for (const choice of schema.enum ?? []) expect(range).toContain(`\`${choice}\``);
  });

  it("names every built-in policy", async () => {
    for (const { policy } of await listPolicies()) {
      expect(text).toContain(`| \`${policy.metadata.name}\` |`);
    }
  });
});
