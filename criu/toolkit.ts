/**
 * The CRIU toolkit: Debian's own CRIU with the loader and libraries it was built against, in a flat folder that runs on
 * any Debian and inside any container: `ld.so`, `criu`, `lib/`, `manifest.json`. Appears whole (renamed into place) or
 * not at all; what is there and intact is left alone, so that no network is needed then.
 */
import { existsSync, readFileSync } from "node:fs";
import { copyFile, mkdir, readdir, readFile, rename, rm, stat, writeFile } from "node:fs/promises";
import { basename, dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { execa } from "execa";
import { z } from "zod";
import { FtError } from "../orchestrator/errors/error.js";
import type { FetchedPackage } from "./packages.js";
import {
  architecture,
  fetchClosure,
  machineSuiteSources,
  sha256Of,
  unpackAll,
} from "./packages.js";

const PROGRAM_TIMEOUT_MS = 20_000;
const MANIFEST = "manifest.json";
/** Needed by libraries preloaded into CRIU though CRIU itself does not ask for them. */
const EXTRA_LIBRARIES = [
  "libdl.so.2",
  "libpthread.so.0",
  "librt.so.1",
  "libm.so.6",
  "libgcc_s.so.1",
];
/** Packages that only maintainer scripts, CRIU's scripts or a whole machine would use. */
const ASSUMED = [
  "debconf",
  "dpkg",
  "iptables",
  "kmod",
  "libc-bin",
  "procps",
  "python3",
  "python3-protobuf",
  "python3-pycriu",
];

const Manifest = z.strictObject({
  version: z.literal(1),
  suite: z.string(),
  architecture: z.string(),
  /** Of Debian's criu package. */
  criuVersion: z.string(),
  packages: z.array(z.strictObject({ name: z.string(), version: z.string(), sha256: z.string() })),
  files: z.array(z.strictObject({ path: z.string(), sha256: z.string() })),
});
export type ToolkitManifest = z.infer<typeof Manifest>;

const Pin = z.strictObject({
  suite: z.string(),
  criuMinimum: z.string(),
  /** Debian version of the criu package that the tests ran with, by architecture. */
  tested: z.record(z.string(), z.string()),
});
export type ToolkitPin = z.infer<typeof Pin>;

export interface InstallResult {
  manifest: ToolkitManifest;
  /** False if it was there already. */
  fetched: boolean;
  warnings: string[];
}

/** `criu/toolkit.json`, found from the source and from dist/ alike. */
export function readPin(): ToolkitPin {
  const here = dirname(fileURLToPath(import.meta.url));
  const places = [join(here, "toolkit.json"), join(here, "../../criu/toolkit.json")];
  const file = places.find((place) => existsSync(place));
  if (file === undefined) throw new Error("criu/toolkit.json is missing from the installation");
  return Pin.parse(JSON.parse(readFileSync(file, "utf8")));
}

/** The toolkit in `dir`, installed if it is missing or damaged. */
export async function installToolkit(
  dir: string,
  progress: (line: string) => void = () => {},
): Promise<InstallResult> {
  const pin = readPin();
  const there = await verifyToolkit(dir).catch(() => undefined);
  if (there !== undefined) {
    return { manifest: there, fetched: false, warnings: warningsFor(there, pin) };
  }
  progress(`fetching CRIU from Debian ${pin.suite}`);
  const target = resolve(dir);
  const work = `${target}.work-${process.pid}`;
  await rm(work, { recursive: true, force: true });
  await mkdir(work, { recursive: true });
  try {
    const manifest = await assemble(work, pin);
    await replace(join(work, "toolkit"), target, join(work, "old"));
    return { manifest, fetched: true, warnings: warningsFor(manifest, pin) };
  } finally {
    await rm(work, { recursive: true, force: true });
  }
}

async function assemble(work: string, pin: ToolkitPin): Promise<ToolkitManifest> {
  const packages = await fetchClosure({
    dir: join(work, "apt"),
    sources: await machineSuiteSources(pin.suite),
    packages: ["criu"],
    assumeInstalled: ASSUMED,
  });
  const root = join(work, "root");
  await unpackAll(packages, root, ["./usr/share/*"]);
  const toolkit = join(work, "toolkit");
  await flatten(root, toolkit);
  await checkRuns(toolkit, pin);
  const manifest = await describeFiles(toolkit, packages, pin);
  await writeFile(join(toolkit, MANIFEST), `${JSON.stringify(manifest, null, 2)}\n`, {
    mode: 0o644,
  });
  return manifest;
}

/** Copies what CRIU needs out of the unpacked tree. */
async function flatten(root: string, toolkit: string): Promise<void> {
  await mkdir(join(toolkit, "lib"), { recursive: true, mode: 0o755 });
  const folders = await libraryFolders(root);
  const loader = await findLoader(folders);
  await copyFile(loader, join(toolkit, "ld.so"));
  await copyFile(join(root, "usr/sbin/criu"), join(toolkit, "criu"));
  const listed = await toolkitProgram(loader, [
    "--library-path",
    folders.join(":"),
    "--list",
    join(toolkit, "criu"),
  ]);
  for (const file of parseNeeded(listed)) {
    if (basename(file).startsWith("ld-linux")) continue;
    await copyFile(file, join(toolkit, "lib", basename(file)));
  }
  for (const name of EXTRA_LIBRARIES) {
    const file = folders.map((folder) => join(folder, name)).find(existsSync);
    if (file !== undefined) await copyFile(file, join(toolkit, "lib", name));
  }
}

async function libraryFolders(root: string): Promise<string[]> {
  const lib = join(root, "usr/lib");
  const triplets = (await readdir(lib)).filter((name) => name.endsWith("-linux-gnu"));
  return [...triplets.map((name) => join(lib, name)), lib, join(root, "usr/lib64")];
}

async function findLoader(folders: string[]): Promise<string> {
  for (const folder of folders) {
    const names = existsSync(folder) ? await readdir(folder) : [];
    const found = names.find((name) => /^ld-linux.*\.so\.\d+$/.test(name));
    if (found !== undefined) return join(folder, found);
  }
  throw unusable("the packages hold no dynamic loader");
}

/** Lines `libc.so.6 => /path/libc.so.6 (0x…)` of the loader's list. */
export function parseNeeded(text: string): string[] {
  if (/=> not found/.test(text)) throw unusable(`a library is missing: ${text.trim()}`);
  return [...text.matchAll(/=> (\/\S+) \(0x/g)].map((match) => match[1]!);
}

async function checkRuns(toolkit: string, pin: ToolkitPin): Promise<void> {
  const text = await runCriu(toolkit, ["--version"]);
  const version = /^Version: (\S+)/m.exec(text)?.[1];
  if (version !== undefined && atLeast(version, pin.criuMinimum)) return;
  throw unusable(`CRIU ${version ?? "of unknown version"} is older than ${pin.criuMinimum}`);
}

export function atLeast(version: string, minimum: string): boolean {
  const [a, b] = [version, minimum].map((text) => text.split(/[.-]/).map(Number));
  for (let i = 0; i < Math.max(a!.length, b!.length); i += 1) {
    const difference = (a![i] || 0) - (b![i] || 0);
    if (difference !== 0) return difference > 0;
  }
  return true;
}

/** Runs the toolkit's CRIU with its own loader and libraries. */
export async function runCriu(toolkit: string, args: string[]): Promise<string> {
  const library = ["--library-path", join(toolkit, "lib"), join(toolkit, "criu")];
  return toolkitProgram(join(toolkit, "ld.so"), [...library, ...args]);
}

async function toolkitProgram(program: string, args: string[]): Promise<string> {
  const result = await execa(program, args, {
    reject: false,
    timeout: PROGRAM_TIMEOUT_MS,
    stdin: "ignore",
  });
  if (result.exitCode === 0) return result.stdout;
  throw unusable(`${result.shortMessage ?? "does not run"} ${result.stderr}`.trim());
}

async function describeFiles(
  toolkit: string,
  packages: FetchedPackage[],
  pin: ToolkitPin,
): Promise<ToolkitManifest> {
  const criu = packages.find((each) => each.name === "criu");
  if (criu === undefined) throw unusable("the suite offered no criu package");
  const paths = [
    "ld.so",
    "criu",
    ...(await readdir(join(toolkit, "lib"))).sort().map((n) => `lib/${n}`),
  ];
  const files = [];
  for (const path of paths) files.push({ path, sha256: await sha256Of(join(toolkit, path)) });
  return {
    version: 1,
    suite: pin.suite,
    architecture: await architecture(),
    criuVersion: criu.version,
    packages: packages.map(({ name, version, sha256 }) => ({ name, version, sha256 })),
    files,
  };
}

async function replace(from: string, to: string, aside: string): Promise<void> {
  await mkdir(dirname(to), { recursive: true });
  if (existsSync(to)) await rename(to, aside);
  await rename(from, to);
}

/** The manifest alone, without reading every file. */
export async function describeToolkit(dir: string): Promise<ToolkitManifest> {
  try {
    return Manifest.parse(JSON.parse(await readFile(join(dir, MANIFEST), "utf8")));
  } catch (cause) {
    throw damaged(dir, "has no readable manifest", cause);
  }
}

/** Proves that every file is the one that was fetched. */
export async function verifyToolkit(dir: string): Promise<ToolkitManifest> {
  const manifest = await describeToolkit(dir);
  for (const { path, sha256 } of manifest.files) {
    const file = join(dir, path);
    if (!existsSync(file)) throw damaged(dir, `lacks ${path}`);
    if ((await sha256Of(file)) !== sha256) throw damaged(dir, `${path} is not the file fetched`);
    if (!path.startsWith("lib/") && ((await stat(file)).mode & 0o111) === 0) {
      throw damaged(dir, `${path} is not executable`);
    }
  }
  return manifest;
}

function warningsFor(manifest: ToolkitManifest, pin: ToolkitPin): string[] {
  const tested = pin.tested[manifest.architecture];
  if (tested === manifest.criuVersion) return [];
  return [
    `CRIU ${manifest.criuVersion} (${manifest.architecture}) is not the version tested (${tested ?? "none"}); the preflight probe decides whether it works here`,
  ];
}

function damaged(dir: string, message: string, cause?: unknown): FtError {
  return new FtError({
    code: "TOOLKIT_DAMAGED",
    subject: `CRIU toolkit ${dir}`,
    message,
    hint: `install it again: node dist/criu/toolkit-main.js ${dir}`,
    cause,
  });
}

function unusable(message: string): FtError {
  return new FtError({
    code: "TOOLKIT_UNUSABLE",
    subject: "CRIU toolkit",
    message,
    hint: "see criu/toolkit.json for the version tested and the suite it came from",
  });
}
