/** /proc/PID/mountinfo, as text in and as data out. */

export interface Mount {
  id: number;
  parent: number;
  device: string;
  /** The folder of the file system that is mounted. */
  root: string;
  target: string;
  options: string[];
  type: string;
  source: string;
  superOptions: string[];
}

export function parseMountinfo(text: string): Mount[] {
  const mounts: Mount[] = [];
  for (const line of text.split("\n")) {
    const [left, right] = line.split(" - ");
    if (left === undefined || right === undefined) continue;
    const [id, parent, device, root, target, options] = left.split(" ");
    const [type, source, superOptions] = right.split(" ");
    mounts.push({
      id: Number(id),
      parent: Number(parent),
      device: device ?? "",
      root: unescapeOctal(root ?? ""),
      target: unescapeOctal(target ?? ""),
      options: (options ?? "").split(","),
      type: type ?? "",
      source: unescapeOctal(source ?? ""),
      superOptions: (superOptions ?? "").split(","),
    });
  }
  return mounts;
}

/** Written by the kernel as octal: space, tab, newline and backslash. */
function unescapeOctal(text: string): string {
  return text.replace(/\\([0-7]{3})/g, (_all, digits) =>
    String.fromCharCode(Number.parseInt(digits, 8)),
  );
}

export function isWritable(mount: Mount): boolean {
  return mount.options.includes("rw") && !mount.superOptions.includes("ro");
}

/** Whether `path` is `folder` or below it. */
export function isBelow(path: string, folder: string): boolean {
  return path === folder || path.startsWith(folder === "/" ? "/" : `${folder}/`);
}
