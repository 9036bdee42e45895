/**
 * Policies from YAML text and files. Hostile text costs bounded time and memory and ends in a
 * `POLICY_INVALID` that names file, line and column; nothing else is ever thrown for what a file says.
 */
import { readdir, readFile, stat } from "node:fs/promises";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { type Document, isMap, isNode, isScalar, LineCounter, parseAllDocuments } from "yaml";
import { ExitCode, FtError } from "../orchestrator/errors/error.js";
import { formatPath, type PathProblem, pathProblems, policyInvalid } from "./problems.js";
import { type ProtectionPolicy, protectionPolicySchema } from "./schema.js";
import { didYouMean } from "./suggest.js";

/** Bounds of one policy file. */
export const POLICY_BYTES_MAX = 256 * 1024;
export const POLICY_DOCUMENTS_MAX = 64;
/** Uses of one anchor's content, counted as the yaml library does: against "billion laughs". */
const ALIASES_MAX = 32;
const DEPTH_MAX = 64;

export interface LoadedPolicy {
  policy: ProtectionPolicy;
  /** The document as written, before defaults. */
  input: unknown;
  /** `web.yaml:1` */
  place: string;
  /** Text of the whole file it came from, comments and all. */
  text: string;
}

/** All documents of a text; throws one `POLICY_INVALID` with every problem of every document. */
export function parsePolicies(text: string, file: string): LoadedPolicy[] {
  refuseLarge(Buffer.byteLength(text), file);
  const lines = new LineCounter();
  const documents = parseYaml(text, file, lines);
  const problems: ReturnType<typeof placed>[] = [];
  const loaded: LoadedPolicy[] = [];
  for (const document of documents) {
    const result = parseDocument(document, file, lines, text);
    if (Array.isArray(result)) problems.push(...result);
    else loaded.push(result);
  }
  if (problems.length > 0) throw policyInvalid(problems);
  return loaded;
}

/** Any value that claims to be a policy (from JSON, from the local API), validated. */
export function parsePolicyValue(value: unknown, place: string): ProtectionPolicy {
  const result = protectionPolicySchema.safeParse(value);
  if (result.success) return result.data;
  const problems = pathProblems(result.error, value);
  throw policyInvalid(
    problems.map(({ path, reason }) => ({ place, path: formatPath(path), reason })),
  );
}

export async function loadPolicyFile(path: string): Promise<LoadedPolicy[]> {
  let text: string;
  try {
    // The size first: a file such as /dev/zero or a disk image is not read to its end.
    const { size } = await regularFile(path);
    refuseLarge(size, path);
    text = await readFile(path, "utf8");
  } catch (error) {
    if (error instanceof FtError) throw error;
    throw new FtError({
      code: "POLICY_UNREADABLE",
      subject: `policy ${path}`,
      message: `cannot be read: ${(error as Error).message}`,
      exitCode: (error as NodeJS.ErrnoException).code === "ENOENT" ? ExitCode.notFound : undefined,
      cause: error,
    });
  }
  return parsePolicies(text, path);
}

async function regularFile(path: string) {
  const info = await stat(path);
  if (info.isFile()) return info;
  throw new FtError({
    code: "POLICY_UNREADABLE",
    subject: `policy ${path}`,
    message: info.isDirectory() ? "is a folder, not a file" : "is not a regular file",
    exitCode: ExitCode.usage,
  });
}

/** Where the built-in policies are: beside this file in a checkout, above `dist` when compiled. */
export function builtInDir(here: string = dirname(fileURLToPath(import.meta.url))): string {
  return here.replace(/([/\\])dist([/\\])policies$/, "$1policies");
}

export interface NamedPolicy extends LoadedPolicy {
  origin: "built-in" | "file";
  path: string;
}

/** All policies known by name: those of the folder first; they may replace a built-in of the same name. */
export async function listPolicies(policiesDir?: string): Promise<NamedPolicy[]> {
  const found = new Map<string, NamedPolicy>();
  for (const [dir, origin] of [
    [policiesDir, "file"],
    [builtInDir(), "built-in"],
  ] as const) {
    if (dir === undefined) continue;
    for (const path of await yamlFiles(dir)) {
      for (const loaded of await loadPolicyFile(path)) {
        const name = loaded.policy.metadata.name;
        if (!found.has(name)) found.set(name, { ...loaded, origin, path });
      }
    }
  }
  return [...found.values()].sort((a, b) =>
    a.policy.metadata.name < b.policy.metadata.name ? -1 : 1,
  );
}

export async function findPolicy(name: string, policiesDir?: string): Promise<NamedPolicy> {
  const known = await listPolicies(policiesDir);
  const found = known.find(({ policy }) => policy.metadata.name === name);
  if (found !== undefined) return found;
  const names = known.map(({ policy }) => policy.metadata.name);
  throw new FtError({
    code: "POLICY_NOT_FOUND",
    subject: `policy ${name}`,
    message: `there is no policy of this name${didYouMean(name, names)}`,
    hint: `Known are ${names.join(", ")}. A path to a file must contain a slash or end in .yaml.`,
    exitCode: ExitCode.notFound,
  });
}

async function yamlFiles(dir: string): Promise<string[]> {
  try {
    const names = await readdir(dir);
    return names
      .filter((name) => /^[^.].*\.ya?ml$/.test(name))
      .sort()
      .map((name) => join(dir, name));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return [];
    throw error;
  }
}

function refuseLarge(bytes: number, file: string): void {
  if (bytes <= POLICY_BYTES_MAX) return;
  throw policyInvalid([
    { place: file, path: "", reason: `has ${bytes} bytes; at most ${POLICY_BYTES_MAX} are read` },
  ]);
}

function parseYaml(text: string, file: string, lineCounter: LineCounter): Document.Parsed[] {
  let documents: Document.Parsed[];
  refuseDeep(text, file);
  try {
    documents = [
      ...parseAllDocuments(text, {
        lineCounter,
        prettyErrors: false,
        stringKeys: true,
        uniqueKeys: true,
        logLevel: "silent",
      }),
    ] as Document.Parsed[];
  } catch (error) {
    throw policyInvalid([
      { place: file, path: "", reason: `not YAML: ${(error as Error).message}` },
    ]);
  }
  const used = documents.filter((document) => document.contents !== null || hasErrors(document));
  if (used.length === 0) {
    throw policyInvalid([{ place: `${file}:1:1`, path: "", reason: "has no policy in it" }]);
  }
  if (used.length > POLICY_DOCUMENTS_MAX) {
    const reason = `has ${used.length} documents; at most ${POLICY_DOCUMENTS_MAX} are read`;
    throw policyInvalid([{ place: file, path: "", reason }]);
  }
  return used;
}

/** The parser recurses: text that only opens brackets would exhaust the stack. */
function refuseDeep(text: string, file: string): void {
  const opened = /(?:[[{]\s*){65}/.exec(text) ?? /(?:[-?:][ \t]+){65}/.exec(text);
  if (opened === null) return;
  throw policyInvalid([
    { place: file, path: "", reason: `is nested deeper than ${DEPTH_MAX} levels` },
  ]);
}

function hasErrors(document: Document.Parsed): boolean {
  return document.errors.length > 0;
}

function parseDocument(document: Document.Parsed, file: string, lines: LineCounter, text: string) {
  const place = (offset: number) => placeOf(file, lines, offset);
  if (hasErrors(document)) {
    return document.errors.map((error) => ({
      place: place(error.pos[0]),
      path: "",
      reason: error.code === "DUPLICATE_KEY" ? "this field is given twice" : error.message,
    }));
  }
  const start = document.contents?.range?.[0] ?? 0;
  let input: unknown;
  try {
    input = document.toJS({ maxAliasCount: ALIASES_MAX });
  } catch (error) {
    return [{ place: place(start), path: "", reason: (error as Error).message }];
  }
  const result = protectionPolicySchema.safeParse(input);
  if (result.success) return { policy: result.data, input, place: place(start), text };
  return pathProblems(result.error, input).map((problem) => placed(problem, document, place));
}

function placed(
  problem: PathProblem,
  document: Document.Parsed,
  place: (offset: number) => string,
) {
  return {
    place: place(offsetOf(problem, document)),
    path: formatPath(problem.path),
    reason: problem.reason,
  };
}

/** Where in the text a path is; for a field that is missing, its nearest ancestor that exists. */
function offsetOf({ path, atKey }: PathProblem, document: Document.Parsed): number {
  if (atKey) {
    const parent = document.getIn(path.slice(0, -1), true);
    const pair = isMap(parent)
      ? parent.items.find(({ key }) => isScalar(key) && key.value === path.at(-1))
      : undefined;
    if (isNode(pair?.key) && pair.key.range) return pair.key.range[0];
  }
  for (let length = path.length; length >= 0; length--) {
    const node = length === 0 ? document.contents : document.getIn(path.slice(0, length), true);
    if (isNode(node) && node.range) return node.range[0];
  }
  return 0;
}

function placeOf(file: string, lines: LineCounter, offset: number): string {
  const { line, col } = lines.linePos(offset);
  return `${file}:${Math.max(line, 1)}:${Math.max(col, 1)}`;
}
