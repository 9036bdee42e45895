/**
 * Labels of a container as overrides of its policy: `ftctl.<path below spec>=<value>`, for example
 * `ftctl.standby=beta` or `ftctl.epoch.intervalMs=40`. `ftctl.policy` names the policy itself.
 * Stronger than the policy, weaker than flags.
 */
import { fieldAt, fieldNames, leafPaths, takesNumber } from "./fields.js";
import { findPolicy } from "./load.js";
import { formatPath, type PolicyProblem, pathProblems, policyInvalid } from "./problems.js";
import { type ResolveContext, type ResolvedPolicy, resolvePolicy } from "./resolve.js";
import { type ProtectionPolicy, protectionPolicySchema } from "./schema.js";
import { nearest } from "./suggest.js";

export const LABEL_PREFIX = "ftctl.";
export const POLICY_LABEL = "ftctl.policy";
/** Set by ftctl itself on the containers it makes; never read as overrides. */
export const OWN_LABEL_PREFIX = "ftctl.internal.";

const DEFAULT_POLICY = "default";
/** Belongs to the policy, not to one of its containers. */
const NOT_BY_LABEL = ["containers"];

export interface Labels {
  readonly [name: string]: string;
}

/** The policy with the container's labels over it; throws `POLICY_INVALID` that names the label. */
export function applyLabels(
  policy: ProtectionPolicy,
  labels: Labels,
  container: string,
): ProtectionPolicy {
  const place = (label: string) => `container ${container} label ${label}`;
  const problems: PolicyProblem[] = [];
  const changed = structuredClone(policy) as unknown as { spec: Record<string, unknown> };
  const labelOf = new Map<string, string>();
  for (const [label, text] of Object.entries(labels)) {
    if (!isOverride(label)) continue;
    const path = label.slice(LABEL_PREFIX.length).split(".");
    if (!isLeaf(path)) {
      problems.push({ place: place(label), path: "", reason: unknownLabel(path) });
      continue;
    }
    setIn(changed.spec, path, fieldValue(path, text));
    labelOf.set(["spec", ...path].join("."), label);
  }
  if (problems.length > 0) throw policyInvalid(problems);
  const result = protectionPolicySchema.safeParse(changed);
  if (result.success) return result.data;
  throw policyInvalid(
    pathProblems(result.error, changed).map(({ path, reason }) => {
      const label = labelFor(path, labelOf);
      return {
        place: label === undefined ? `policy ${policy.metadata.name}` : place(label),
        path: formatPath(path),
        reason,
      };
    }),
  );
}

export interface EffectivePolicyRequest extends ResolveContext {
  labels: Labels;
  /** The document the user gave; absent: the label `ftctl.policy`, or else the built-in `default`. */
  document?: unknown;
  /** Folder with the host's own policies, such as /etc/ftctl/policies. */
  policiesDir?: string | undefined;
}

/** What `protect` works with: policy, labels, flags and peer put together. */
export async function effectivePolicy(request: EffectivePolicyRequest): Promise<ResolvedPolicy> {
  const { labels, container, document } = request;
  const base =
    document === undefined
      ? (await findPolicy(labels[POLICY_LABEL] ?? DEFAULT_POLICY, request.policiesDir)).policy
      : parseGiven(document, container);
  return resolvePolicy(applyLabels(base, labels, container), request);
}

function parseGiven(document: unknown, container: string): ProtectionPolicy {
  const result = protectionPolicySchema.safeParse(document);
  if (result.success) return result.data;
  throw policyInvalid(
    pathProblems(result.error, document).map(({ path, reason }) => ({
      place: `for container ${container}`,
      path: formatPath(path),
      reason,
    })),
  );
}

function isOverride(label: string): boolean {
  return (
    label.startsWith(LABEL_PREFIX) && label !== POLICY_LABEL && !label.startsWith(OWN_LABEL_PREFIX)
  );
}

function isLeaf(path: string[]): boolean {
  const field = fieldAt(["spec", ...path]);
  return (
    field !== undefined && field.properties === undefined && !NOT_BY_LABEL.includes(path[0] ?? "")
  );
}

function fieldValue(path: string[], text: string): unknown {
  if (path.join(".") === "files.mounts") return mountsOf(text);
  if (takesNumber(["spec", ...path]) && /^-?\d{1,15}(\.\d+)?$/.test(text)) return Number(text);
  return text;
}

/** `/data:replicate,/cache:ignore` */
function mountsOf(text: string): unknown[] {
  return text
    .split(",")
    .filter((item) => item !== "")
    .map((item) => {
      const colon = item.lastIndexOf(":");
      return colon < 0
        ? { target: item, action: "replicate" }
        : { target: item.slice(0, colon), action: item.slice(colon + 1) };
    });
}

function setIn(target: Record<string, unknown>, path: string[], value: unknown): void {
  let node = target;
  for (const key of path.slice(0, -1)) {
    node[key] ??= {};
    node = node[key] as Record<string, unknown>;
  }
  node[path.at(-1) as string] = value;
}

/** The label that set a field, or one of the fields a rule is about. */
function labelFor(path: readonly PropertyKey[], labelOf: Map<string, string>): string | undefined {
  for (let length = path.length; length > 0; length--) {
    const label = labelOf.get(path.slice(0, length).join("."));
    if (label !== undefined) return label;
  }
  return labelOf.size === 1 ? [...labelOf.values()][0] : undefined;
}

function unknownLabel(path: string[]): string {
  const known = ["policy", ...leafPaths(["spec"]).map((leaf) => leaf.slice(1).join("."))];
  const candidate = nearest(path.join("."), known);
  if (candidate !== undefined) {
    return `unknown setting; did you mean "${LABEL_PREFIX}${candidate}"?`;
  }
  const fields = fieldNames(["spec", ...path]);
  if (fields.length === 0) return "unknown setting";
  return `is a group of settings: ${fields.map((name) => `${LABEL_PREFIX}${path.join(".")}.${name}`).join(", ")}`;
}
