/**
 * Fetches Debian packages with everything they need, of any suite, without touching the machine's own packages: apt
 * runs with lists, state and cache of its own. Mirrors are those the machine already uses for Debian itself;
 * signatures are checked with Debian's keyring. Nothing is installed and no maintainer script runs.
 */
import { createHash } from "node:crypto";
import { createReadStream, existsSync } from "node:fs";
import { mkdir, readFile, stat, utimes, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { execa } from "execa";
import { FtError } from "../orchestrator/errors/error.js";

const UPDATE_TIMEOUT_MS = 180_000;
const DOWNLOAD_TIMEOUT_MS = 600_000;
const UNPACK_TIMEOUT_MS = 120_000;
const LISTS_FRESH_MS = 60 * 60_000;
const QUOTED_LINES_MAX = 12;
const KEYRING_NAMES = ["debian-archive-keyring.gpg", "debian-archive-keyring.pgp"];

export interface PackageSource {
  uri: string;
  suite: string;
}

export interface FetchedPackage {
  name: string;
  version: string;
  architecture: string;
  file: string;
  sha256: string;
}

export interface ClosureRequest {
  /** apt's own folder; kept between requests, one for a suite. */
  dir: string;
  sources: PackageSource[];
  packages: string[];
  /** Taken as there already, with all they need: what only maintainer scripts use. */
  assumeInstalled?: string[];
}

interface Target {
  uri: string;
  origin: string;
  label: string;
  component: string;
  suite: string;
}

const TARGET_FORMAT = "$(REPO_URI)\t$(ORIGIN)\t$(LABEL)\t$(COMPONENT)\t$(RELEASE)";

/** Debian's own main component only: a machine may have any number of third-party sources. */
export function parseTargets(text: string): Target[] {
  return text
    .split("\n")
    .map((line) => line.split("\t"))
    .filter((fields) => fields.length === 5)
    .map(([uri = "", origin = "", label = "", component = "", suite = ""]) => ({
      uri,
      origin,
      label,
      component,
      suite,
    }))
    .filter((target) => target.origin === "Debian" && target.component === "main");
}

/** The machine's own suite with its updates and security fixes. */
export function ownSources(targets: Target[]): PackageSource[] {
  return distinct(targets.map(({ uri, suite }) => ({ uri, suite })));
}

/** Another suite on the mirrors of the machine's own. */
export function suiteSources(targets: Target[], suite: string): PackageSource[] {
  const mirrors = targets.filter((target) => target.label === "Debian");
  return distinct(mirrors.map(({ uri }) => ({ uri, suite })));
}

function distinct(sources: PackageSource[]): PackageSource[] {
  return [...new Map(sources.map((each) => [`${each.uri} ${each.suite}`, each])).values()];
}

export async function machineSources(): Promise<PackageSource[]> {
  return foundSources(ownSources(await machineTargets()));
}

export async function machineSuiteSources(suite: string): Promise<PackageSource[]> {
  return foundSources(suiteSources(await machineTargets(), suite));
}

async function machineTargets(): Promise<Target[]> {
  const args = ["indextargets", "--format", TARGET_FORMAT, "Created-By: Packages"];
  return parseTargets(await apt("apt-get", args, 30_000));
}

function foundSources(sources: PackageSource[]): PackageSource[] {
  if (sources.length > 0) return sources;
  throw new FtError({
    code: "NO_DEBIAN_MIRROR",
    subject: "package sources of this machine",
    message: "name no mirror of Debian's main component, or its lists were never fetched",
    hint: "add Debian's mirror to /etc/apt and run apt-get update",
  });
}

function keyring(): string {
  const found = KEYRING_NAMES.map((name) => `/usr/share/keyrings/${name}`).find(existsSync);
  if (found !== undefined) return found;
  throw new FtError({
    code: "NO_DEBIAN_KEYRING",
    subject: "/usr/share/keyrings",
    message: "has no keyring of Debian's archive, so no package can be trusted",
    hint: "install the package debian-archive-keyring",
  });
}

/** Downloads the packages and all they depend on. */
export async function fetchClosure(request: ClosureRequest): Promise<FetchedPackage[]> {
  const options = await prepare(request);
  await refresh(request.dir, options, false);
  try {
    return await download(request, options);
  } catch {
    // The mirror may have moved on since the lists were fetched; a second failure is final.
    await refresh(request.dir, options, true);
    return await download(request, options);
  }
}

async function prepare(request: ClosureRequest): Promise<string[]> {
  const { dir } = request;
  for (const sub of ["lists/partial", "archives/partial", "status"]) {
    await mkdir(join(dir, sub), { recursive: true });
  }
  const list = request.sources.map(
    ({ uri, suite }) => `deb [signed-by=${keyring()}] ${uri} ${suite} main`,
  );
  await writeFile(join(dir, "sources.list"), `${list.join("\n")}\n`);
  const status = fakeStatus(request.assumeInstalled ?? [], await architecture());
  const statusFile = join(dir, "status", hashOf(status).slice(0, 16));
  await writeFile(statusFile, status);
  return aptOptions(dir, statusFile);
}

function aptOptions(dir: string, statusFile: string): string[] {
  const settings = {
    "Dir::Etc::sourcelist": join(dir, "sources.list"),
    "Dir::Etc::sourceparts": "/dev/null",
    "Dir::Etc::preferences": "/dev/null",
    "Dir::Etc::preferencesparts": "/dev/null",
    "Dir::State": dir,
    "Dir::State::lists": join(dir, "lists"),
    "Dir::State::status": statusFile,
    "Dir::State::extended_states": join(dir, "extended_states"),
    "Dir::Cache": dir,
    "Dir::Cache::archives": join(dir, "archives"),
    "Dir::Log": dir,
    "APT::Install-Recommends": "false",
    "APT::Install-Suggests": "false",
    "APT::Default-Release": "",
    "APT::Keep-Downloaded-Packages": "true",
    "Acquire::Languages": "none",
    "Acquire::Retries": "3",
  };
  return Object.entries(settings).flatMap(([name, value]) => ["-o", `${name}=${value}`]);
}

/** A package database in which the named packages, and nothing else, are installed. */
export function fakeStatus(packages: string[], architectureName: string): string {
  return packages
    .map((name) =>
      [
        `Package: ${name}`,
        "Status: install ok installed",
        `Architecture: ${architectureName}`,
        "Multi-Arch: allowed",
        "Version: 9999",
        "Maintainer: none <none@localhost>",
        "Description: taken as installed",
        "",
      ].join("\n"),
    )
    .join("\n");
}

async function refresh(dir: string, options: string[], evenIfFresh: boolean): Promise<void> {
  const stamp = join(dir, "lists-fetched");
  const sources = join(dir, "lists-sources");
  const wanted = await readFile(join(dir, "sources.list"), "utf8");
  const known = existsSync(sources) ? await readFile(sources, "utf8") : "";
  const fetchedAtMs = existsSync(stamp) ? (await stat(stamp)).mtimeMs : 0;
  if (!evenIfFresh && known === wanted && Date.now() - fetchedAtMs < LISTS_FRESH_MS) return;
  // Without this apt calls a missing index a warning and goes on with what it had.
  await apt(
    "apt-get",
    [...options, "-o", "APT::Update::Error-Mode=any", "update"],
    UPDATE_TIMEOUT_MS,
  );
  await writeFile(stamp, "");
  await writeFile(sources, wanted);
  await utimes(stamp, new Date(), new Date());
}

async function download(request: ClosureRequest, options: string[]): Promise<FetchedPackage[]> {
  const install = [...options, "install", "--yes", "--no-install-recommends"];
  const simulated = await apt(
    "apt-get",
    [...install, "--simulate", ...request.packages],
    DOWNLOAD_TIMEOUT_MS,
  );
  const wanted = parseSimulation(simulated);
  await apt("apt-get", [...install, "--download-only", ...request.packages], DOWNLOAD_TIMEOUT_MS);
  return Promise.all(
    wanted.map(async (each) => {
      const file = join(request.dir, "archives", archiveName(each));
      return { ...each, file, sha256: await sha256Of(file) };
    }),
  );
}

type Named = Pick<FetchedPackage, "name" | "version" | "architecture">;

/** `Inst libc6 (2.36-9 Debian:12/stable [amd64])`, also with `[old version]` before the parenthesis. */
export function parseSimulation(text: string): Named[] {
  const lines = text.matchAll(/^Inst (\S+) (?:\[[^\]]*\] )?\((\S+) .*\[(\S+)\]\)/gm);
  return [...lines].map(([, name = "", version = "", architectureName = ""]) => ({
    name: name.replace(/:.*$/, ""),
    version,
    architecture: architectureName,
  }));
}

export function archiveName(named: Named): string {
  return `${named.name}_${named.version.replaceAll(":", "%3a")}_${named.architecture}.deb`;
}

/** Unpacks into one tree, in which `/bin`, `/lib`… are links into `/usr` as on any current Debian. */
export async function unpackAll(
  packages: FetchedPackage[],
  root: string,
  exclude: string[],
): Promise<void> {
  await mkdir(root, { recursive: true });
  const script = [
    'cd "$1"; shift',
    "for d in bin sbin lib lib64; do mkdir -p usr/$d; [ -e $d ] || ln -s usr/$d $d; done",
    'for deb; do dpkg-deb --fsys-tarfile "$deb" | tar -x --keep-directory-symlink -p --wildcards $EXCLUDE; done',
  ].join("\n");
  const files = packages.map((each) => each.file);
  const patterns = exclude.map((pattern) => `--exclude=${pattern}`).join(" ");
  await apt(
    "bash",
    ["-fec", `set -o pipefail\n${script}`, "bash", root, ...files],
    UNPACK_TIMEOUT_MS,
    {
      EXCLUDE: patterns,
    },
  );
}

export async function architecture(): Promise<string> {
  return (await apt("dpkg", ["--print-architecture"], 10_000)).trim();
}

export function sha256Of(file: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const hash = createHash("sha256");
    createReadStream(file)
      .on("error", reject)
      .on("data", (chunk) => hash.update(chunk))
      .on("end", () => resolve(hash.digest("hex")));
  });
}

function hashOf(text: string): string {
  return createHash("sha256").update(text).digest("hex");
}

async function apt(
  program: string,
  args: string[],
  timeoutMs: number,
  env: Record<string, string> = {},
): Promise<string> {
  const result = await execa(program, args, {
    reject: false,
    timeout: timeoutMs,
    stdin: "ignore",
    env: { LC_ALL: "C", DEBIAN_FRONTEND: "noninteractive", ...env },
  });
  if (result.exitCode === 0) return result.stdout;
  const lines = `${result.stdout}\n${result.stderr}`
    .split("\n")
    .filter((line) => /^[EW]:|rror/.test(line));
  const tail = result.stderr.split("\n").slice(-QUOTED_LINES_MAX);
  throw new FtError({
    code: result.timedOut ? "PACKAGES_TIME_OUT" : "PACKAGES_FAILED",
    subject: program,
    message: `could not fetch or unpack packages (exit code ${result.exitCode})`,
    quoted: (lines.length > 0 ? lines : tail).slice(0, QUOTED_LINES_MAX),
    hint: "check that the machine reaches its Debian mirror",
  });
}
