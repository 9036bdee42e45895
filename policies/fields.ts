/** What the schema says about the field at a path: for suggestions and for labels, which are all text. */
import { policyJsonSchema } from "./schema.js";

interface JsonSchemaNode {
  type?: string;
  properties?: Record<string, JsonSchemaNode>;
  additionalProperties?: boolean | JsonSchemaNode;
  items?: JsonSchemaNode;
  anyOf?: JsonSchemaNode[];
  enum?: unknown[];
}

let cached: JsonSchemaNode | undefined;

function root(): JsonSchemaNode {
  cached ??= policyJsonSchema() as JsonSchemaNode;
  return cached;
}

function child(node: JsonSchemaNode | undefined, key: PropertyKey): JsonSchemaNode | undefined {
  if (typeof key === "number") return node?.items;
  const own = node?.properties;
  return own !== undefined && Object.hasOwn(own, key) ? own[String(key)] : undefined;
}

export function fieldAt(path: readonly PropertyKey[]): JsonSchemaNode | undefined {
  let node: JsonSchemaNode | undefined = root();
  for (const key of path) node = child(node, key);
  return node;
}

/** Names of the fields of the object at a path. */
export function fieldNames(path: readonly PropertyKey[]): string[] {
  return Object.keys(fieldAt(path)?.properties ?? {});
}

/** Whether a text such as `30` stands for a number there. */
export function takesNumber(path: readonly PropertyKey[]): boolean {
  const node = fieldAt(path);
  const types = [node?.type, ...(node?.anyOf ?? []).map((option) => option.type)];
  return types.includes("integer") || types.includes("number");
}

/** Paths of all fields that hold a value rather than an object, below a path. */
export function leafPaths(under: readonly string[] = []): string[][] {
  return Object.keys(fieldAt(under)?.properties ?? {}).flatMap((key) => {
    const path = [...under, key];
    return fieldAt(path)?.properties === undefined ? [path] : leafPaths(path);
  });
}
