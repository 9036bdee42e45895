/**
 * Which files of a container belong to an epoch, and how ftdump and ftstore are told: a line a root, `<kind>
 * <path here> <name inside the container>`, percent-encoded. Pure.
 *
 * The writable layer and every tmpfs always belong: the restored memory refers to them. Volumes and bind mounts
 * belong when the policy says `replicate`.
 */
import { FtError } from "../errors/error.js";
import type { ContainerInspect } from "./docker-types.js";
import { containerName } from "./docker-types.js";
import { isBelow, isWritable, type Mount } from "./mountinfo.js";

export interface CaptureRoot {
  kind: "upper" | "tree";
  path: string;
  name: string;
}

export interface PolicyMount {
  target: string;
  action: "replicate" | "shared" | "ignore";
}

/** Files that Docker itself makes for each container. */
const DOCKERS_OWN = new Set(["/etc/resolv.conf", "/etc/hostname", "/etc/hosts"]);
/** File systems of the kernel, and the tmpfs with the device nodes. */
const KERNELS_OWN = ["/proc", "/sys"];

/** Roots on the primary, of the running container with this host pid. */
export function captureRoots(
  inspect: ContainerInspect,
  mounts: Mount[],
  policyMounts: PolicyMount[],
): CaptureRoot[] {
  const through = (target: string) => `/proc/${inspect.State.Pid}/root${target}`;
  const layer: CaptureRoot = { kind: "upper", path: upperDir(inspect, mounts), name: "/" };
  const trees = new Set<string>();
  for (const mount of mounts) if (isCapturedTmpfs(mount)) trees.add(mount.target);
  for (const target of replicated(policyMounts)) {
    requireMounted(inspect, mounts, target);
    trees.add(target);
  }
  const sorted = [...trees].sort();
  return [
    layer,
    ...sorted.map((name): CaptureRoot => ({ kind: "tree", path: through(name), name })),
  ];
}

function replicated(policyMounts: PolicyMount[]): string[] {
  return policyMounts
    .filter((mount) => mount.action === "replicate")
    .map((mount) => mount.target.replace(/(.)\/+$/, "$1"));
}

export function isCapturedTmpfs(mount: Mount): boolean {
  if (mount.type !== "tmpfs" || mount.root !== "/" || !isWritable(mount)) return false;
  if (mount.target === "/dev") return false;
  return !KERNELS_OWN.some((folder) => isBelow(mount.target, folder));
}

/** Writable volumes and bind mounts: what a policy has to decide about. */
export function writableVolumes(inspect: ContainerInspect): string[] {
  return inspect.Mounts.filter(
    (mount) => mount.RW && mount.Type !== "tmpfs" && !DOCKERS_OWN.has(mount.Destination),
  ).map((mount) => mount.Destination);
}

function requireMounted(inspect: ContainerInspect, mounts: Mount[], target: string): void {
  if (mounts.some((mount) => mount.target === target)) return;
  throw new FtError({
    code: "MOUNT_NOT_FOUND",
    subject: `container ${containerName(inspect)}`,
    message: `the policy replicates ${target}, but nothing is mounted there`,
    hint: "The writable layer is always part of an epoch; list only volumes and bind mounts.",
  });
}

/** The overlay's upper folder on the host. */
export function upperDir(inspect: ContainerInspect, mounts: Mount[] = []): string {
  if (inspect.GraphDriver.Name === "overlay2") {
    const known = inspect.GraphDriver.Data?.UpperDir;
    if (known) return known;
  }
  const root = mounts.find((mount) => mount.target === "/" && mount.type === "overlay");
  const option = root?.superOptions.find((text) => text.startsWith("upperdir="));
  if (option !== undefined) return option.slice("upperdir=".length);
  throw new FtError({
    code: "STORAGE_UNSUPPORTED",
    subject: `container ${containerName(inspect)}`,
    message: `its writable layer is kept by the storage driver ${inspect.GraphDriver.Name}, not overlay2`,
    hint: 'Set "storage-driver": "overlay2" in /etc/docker/daemon.json and make the container again.',
  });
}

export function formatRoots(roots: CaptureRoot[]): string {
  return roots.map((root) => `${root.kind} ${encode(root.path)} ${encode(root.name)}\n`).join("");
}

function encode(path: string): string {
  return path.replace(
    /[% \n]/g,
    (c) => `%${c.charCodeAt(0).toString(16).toUpperCase().padStart(2, "0")}`,
  );
}
