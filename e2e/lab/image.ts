/**
 * Docker images made from Debian packages: no registry is needed. No maintainer script runs, so what scripts would have
 * made (users, the loader's cache, folders with their owners) is made here. The same request gives the same image
 * id on every host, and is built once.
 */
import { createHash } from "node:crypto";
import { createReadStream, existsSync, readFileSync } from "node:fs";
import {
  chmod,
  chown,
  copyFile,
  mkdir,
  rename,
  rm,
  stat,
  symlink,
  writeFile,
} from "node:fs/promises";
import { dirname, join } from "node:path";
import {
  architecture,
  fetchClosure,
  machineSources,
  sha256Of,
  unpackAll,
} from "../../criu/packages.js";
import { FtError } from "../../orchestrator/errors/error.js";
import { dockerOf } from "./dockerd.js";
import type { Lab } from "./lab.js";
import { usage } from "./layout.js";
import { findInit } from "./processes.js";
import { run } from "./run.js";

/** Raised whenever the same request would give another image. */
const FORMAT = 1;
const LOAD_TIMEOUT_MS = 120_000;

export interface Copy {
  source: string;
  target: string;
  mode?: number;
}

export interface ImageRequest {
  name: string;
  packages: string[];
  copies: Copy[];
  command: string[];
  env: string[];
  user?: string | undefined;
  /** Folders to be made, with the user that owns them. */
  folders?: { path: string; owner: string; mode?: number }[];
  /** Small text files. */
  files?: { path: string; text: string }[];
}

export interface ImageArchive {
  tag: string;
  id: string;
  file: string;
}

/** Users that maintainer scripts of the packages in use would have made. */
const USERS: Record<string, { uid: number; gid: number; home: string }> = {
  root: { uid: 0, gid: 0, home: "/root" },
  daemon: { uid: 1, gid: 1, home: "/usr/sbin" },
  "www-data": { uid: 33, gid: 33, home: "/var/www" },
  redis: { uid: 101, gid: 101, home: "/var/lib/redis" },
  memcache: { uid: 102, gid: 102, home: "/nonexistent" },
  nobody: { uid: 65534, gid: 65534, home: "/nonexistent" },
};

/** Packages whose only use is in maintainer scripts or on a whole machine. */
const ASSUMED = [
  "adduser",
  "base-files",
  "base-passwd",
  "bash",
  "coreutils",
  "cron",
  "dash",
  "debconf",
  "debianutils",
  "dpkg",
  "init-system-helpers",
  "iproute2",
  "libc-bin",
  "login",
  "logrotate",
  "lsb-base",
  "mount",
  "passwd",
  "perl",
  "perl-base",
  "procps",
  "sed",
  "sensible-utils",
  "systemd",
  "sysvinit-utils",
  "tar",
  "ucf",
  "util-linux",
];
const ALWAYS = ["busybox-static"];
const EXCLUDED = [
  "./usr/share/doc/*",
  "./usr/share/man/*",
  "./usr/share/locale/*",
  "./usr/share/lintian/*",
  "./usr/share/info/*",
];

export function parseCopy(text: string): Copy {
  const at = text.lastIndexOf(":");
  const [source, target] = [text.slice(0, at), text.slice(at + 1)];
  if (at < 1 || !target.startsWith("/")) throw usage(`--copy ${text}`, "is not SOURCE:/TARGET");
  return { source, target };
}

/** Everything that decides what is in the image, in one hash. */
export function imageKey(request: ImageRequest, machine: string): string {
  const copies = request.copies.map((copy) => ({
    ...copy,
    source: createHash("sha256").update(readFileSync(copy.source)).digest("hex"),
  }));
  const text = JSON.stringify({ FORMAT, machine, ...request, copies });
  return createHash("sha256").update(text).digest("hex").slice(0, 16);
}

export async function buildImage(
  caches: { imagesDir: string; packagesDir: string },
  request: ImageRequest,
): Promise<ImageArchive> {
  checkRequest(request);
  const machine = `${osRelease()} ${await architecture()}`;
  const tag = request.name.includes(":") ? request.name : `${request.name}:latest`;
  const base = join(
    caches.imagesDir,
    `${request.name.replace(/[^a-z0-9]/g, "-")}-${imageKey(request, machine)}`,
  );
  const file = `${base}.tar`;
  if (!existsSync(file) || !existsSync(`${base}.id`)) {
    const work = `${base}.work-${process.pid}`;
    await rm(work, { recursive: true, force: true });
    await mkdir(work, { recursive: true });
    try {
      const id = await buildArchive(caches.packagesDir, request, tag, work);
      await writeFile(`${base}.id`, id);
      await rename(join(work, "image.tar"), file);
    } finally {
      await rm(work, { recursive: true, force: true });
    }
  }
  return { tag, id: readFileSync(`${base}.id`, "utf8"), file };
}

function checkRequest(request: ImageRequest): void {
  if (!/^[a-z0-9][a-z0-9._/-]{0,60}(:[A-Za-z0-9._-]{1,40})?$/.test(request.name)) {
    throw usage(`image ${request.name}`, "is not a name for an image");
  }
  if (request.user !== undefined && USERS[request.user] === undefined) {
    throw usage(`user ${request.user}`, `is none of ${Object.keys(USERS).join(", ")}`);
  }
  for (const copy of request.copies) {
    if (!existsSync(copy.source)) throw usage(copy.source, "is not there to be copied");
  }
}

function osRelease(): string {
  return /^VERSION_CODENAME=(.*)$/m.exec(readFileSync("/etc/os-release", "utf8"))?.[1] ?? "unknown";
}

async function buildArchive(
  packagesDir: string,
  request: ImageRequest,
  tag: string,
  work: string,
): Promise<string> {
  const packages = await fetchClosure({
    dir: join(packagesDir, osRelease()),
    sources: await machineSources(),
    packages: [...ALWAYS, ...request.packages],
    assumeInstalled: ASSUMED.filter((name) => !request.packages.includes(name)),
  });
  const root = join(work, "root");
  await unpackAll(packages, root, EXCLUDED);
  await furnish(root, request);
  return pack(work, request, tag);
}

async function furnish(root: string, request: ImageRequest): Promise<void> {
  for (const path of [
    "dev",
    "proc",
    "sys",
    "run",
    "root",
    "etc",
    "var/lib",
    "var/log",
    "var/run",
  ]) {
    await mkdir(join(root, path), { recursive: true });
  }
  for (const path of ["tmp", "var/tmp"]) {
    await mkdir(join(root, path), { recursive: true });
    await chmod(join(root, path), 0o1777);
  }
  await writeUsers(root);
  await linkBusybox(root);
  for (const copy of request.copies) await copyIn(root, copy);
  for (const { path, text } of request.files ?? []) {
    await mkdir(dirname(join(root, path)), { recursive: true });
    await writeFile(join(root, path), text);
  }
  for (const { path, owner, mode } of request.folders ?? []) {
    const user = USERS[owner];
    if (user === undefined) throw usage(`user ${owner}`, "is unknown");
    await mkdir(join(root, path), { recursive: true });
    await chmod(join(root, path), mode ?? 0o755);
    await chown(join(root, path), user.uid, user.gid);
  }
  await run("ldconfig", ["-r", root, "-X"]);
  await rm(join(root, "var/cache/ldconfig"), { recursive: true, force: true });
}

async function writeUsers(root: string): Promise<void> {
  const users = Object.entries(USERS);
  const passwd = users.map(([name, u]) => `${name}:x:${u.uid}:${u.gid}:${name}:${u.home}:/bin/sh`);
  const group = users.map(([name, u]) => `${name === "nobody" ? "nogroup" : name}:x:${u.gid}:`);
  await writeFile(join(root, "etc/passwd"), `${passwd.join("\n")}\n`);
  await writeFile(join(root, "etc/group"), `${group.join("\n")}\n`);
  await writeFile(
    join(root, "etc/nsswitch.conf"),
    "passwd: files\ngroup: files\nhosts: files dns\n",
  );
}

/** A shell and the usual small tools for `docker exec`, where the packages bring none. */
async function linkBusybox(root: string): Promise<void> {
  const applets = (await run(join(root, "bin/busybox"), ["--list"])).split("\n").filter(Boolean);
  for (const applet of applets) {
    const places = [`bin/${applet}`, `sbin/${applet}`].map((path) => join(root, path));
    if (!places.some(existsSync)) await symlink("busybox", join(root, "bin", applet));
  }
}

async function copyIn(root: string, copy: Copy): Promise<void> {
  const target = join(root, copy.target);
  await mkdir(dirname(target), { recursive: true });
  await copyFile(copy.source, target);
  await chmod(target, copy.mode ?? (await stat(copy.source)).mode & 0o777);
}

/** The format of `docker save`; nothing in it depends on when or where it was made. */
async function pack(work: string, request: ImageRequest, tag: string): Promise<string> {
  const reproducible = ["--sort=name", "--mtime=@0", "--numeric-owner", "--format=gnu"];
  await run("tar", [...reproducible, "-cf", "layer.tar", "-C", "root", "."], {
    cwd: work,
    timeoutMs: LOAD_TIMEOUT_MS,
  });
  const config = JSON.stringify(
    imageConfig(request, await dockerArchitecture(), await sha256Of(join(work, "layer.tar"))),
  );
  const digest = createHash("sha256").update(config).digest("hex");
  await writeFile(join(work, `${digest}.json`), config);
  const manifest = [{ Config: `${digest}.json`, RepoTags: [tag], Layers: ["layer.tar"] }];
  await writeFile(join(work, "manifest.json"), JSON.stringify(manifest));
  const members = ["manifest.json", `${digest}.json`, "layer.tar"];
  await run("tar", [...reproducible, "--owner=0", "--group=0", "-cf", "image.tar", ...members], {
    cwd: work,
    timeoutMs: LOAD_TIMEOUT_MS,
  });
  return `sha256:${digest}`;
}

export function imageConfig(
  request: ImageRequest,
  architectureName: string,
  layerSha256: string,
): Record<string, unknown> {
  const path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
  const created = "1970-01-01T00:00:00Z";
  return {
    architecture: architectureName,
    os: "linux",
    created,
    config: {
      Env: [path, ...request.env],
      ...(request.command.length === 0 ? {} : { Cmd: request.command }),
      ...(request.user === undefined ? {} : { User: request.user }),
    },
    rootfs: { type: "layers", diff_ids: [`sha256:${layerSha256}`] },
    history: [{ created, created_by: `packages ${request.packages.join(" ")}` }],
  };
}

async function dockerArchitecture(): Promise<string> {
  const name = await architecture();
  return name === "armhf" ? "arm" : name;
}

/** Loads the image on every running host that does not have it. */
export async function importImage(lab: Lab, archive: ImageArchive): Promise<void> {
  const hosts = lab.runningHosts();
  if (hosts.length === 0) throw usage("image", "no host runs", "ftlab up");
  await Promise.all(hosts.map((host) => loadOn(findInit(host.netns), host.name, archive)));
}

async function loadOn(
  init: number | undefined,
  host: string,
  archive: ImageArchive,
): Promise<void> {
  if (init === undefined) return;
  const docker = await dockerOf(init);
  const there = await docker
    .getImage(archive.tag)
    .inspect()
    .catch(() => undefined);
  if (there?.Id === archive.id) return;
  const answer = await docker.loadImage(createReadStream(archive.file), { quiet: true });
  const lines: string[] = [];
  answer.setEncoding("utf8");
  for await (const chunk of answer) lines.push(String(chunk));
  const loaded = await docker
    .getImage(archive.tag)
    .inspect()
    .catch(() => undefined);
  if (loaded?.Id === archive.id) return;
  throw new FtError({
    code: "LAB_IMAGE_NOT_LOADED",
    subject: `image ${archive.tag} on ${host}`,
    message: `Docker has ${loaded?.Id ?? "nothing"} instead of ${archive.id}`,
    quoted: lines.slice(0, 5),
  });
}
