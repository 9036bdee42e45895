/**
 * Whether memory is tracked rightly by soft-dirty bits, on a kernel that has nothing better: Debian's cloud kernel of the suite that apt is set up
 * for, under QEMU without KVM, both fetched by apt and unpacked below build/old-kernel, not installed. What runs there is guest.ts.
 *
 *   make test-soft-dirty
 *   node dist/criu/old-kernel/main.js [LIVES [SEED [any-frame|recorded|cost]]]      exit code 77: cannot be tried here
 *
 * All is some fifty times slower there. Its clock counts instructions, and does not wait where nothing is to be done, so that no time-out in it is a
 * matter of how busy this host is. One processor: with two, QEMU 7.2 did not come past the BIOS so. Memory is cleared word by word and not by
 * `rep stosb`, which QEMU does byte by byte, and the kernel takes no precautions against others on the same machine.
 */
import { spawn } from "node:child_process";
import { createWriteStream } from "node:fs";
import { mkdir, readdir, readFile, rm, stat } from "node:fs/promises";
import { basename, join, resolve } from "node:path";
import { execa } from "execa";
import { type ArchiveEntry, writeArchive } from "./archive.js";

const SKIPPED = 77;
const FETCH_MS_MAX = 120_000;
const BOOT_MS_MAX = Number(process.env.FTCTL_OLD_KERNEL_MS ?? 560_000);
/** Huge pages are off by themselves in less. */
const MEMORY_MIB = 1_536;
const CPU = "max,-erms,-fsrm,-la57";
const FASTER =
  "mitigations=off init_on_alloc=0 nokaslr random.trust_cpu=on rcupdate.rcu_cpu_stall_suppress=1";
const folder = resolve("build/old-kernel");
const unpacked = join(folder, "unpacked");
const libraries = ["usr/lib/x86_64-linux-gnu", "lib/x86_64-linux-gnu"].map((path) =>
  join(unpacked, path),
);
/** What CRIU asks the kernel for. */
const MODULES = [
  "nf_tables",
  "veth",
  "tun",
  "unix_diag",
  "inet_diag",
  "tcp_diag",
  "udp_diag",
  "raw_diag",
  "netlink_diag",
  "af_packet_diag",
];
const PROGRAMS = ["node", "sh", "unshare", "ip", "cat", "mount", "insmod", "grep", "sleep", "env"];
const PACKAGES = ["execa"];
const PRODUCT = ["dist/criu", "dist/orchestrator", "dist/policies", "package.json"];
const BUILT = [
  "bin",
  "lib/libfthook.so",
  "lib/libftrec.so",
  "toolkit",
  "test/churn",
  "test/recorder-program-mutex",
];

class Skipped extends Error {}

/** QEMU, the kernel, and the libraries that are not here: apt knows which. */
async function fetchPackages(): Promise<void> {
  const archives = join(folder, "packages");
  await mkdir(join(archives, "partial"), { recursive: true });
  const wanted = ["qemu-system-x86", "linux-image-cloud-amd64"];
  const options = [
    "-y",
    "--download-only",
    "--no-install-recommends",
    "-o",
    `Dir::Cache::archives=${archives}`,
    "-o",
    "Debug::NoLocking=true",
  ];
  await execa("apt-get", [...options, "install", ...wanted], { timeout: FETCH_MS_MAX }).catch(
    (error: { shortMessage?: string }) => {
      throw new Skipped(`QEMU and a kernel cannot be fetched: ${error.shortMessage}`);
    },
  );
  await mkdir(unpacked, { recursive: true });
  for (const name of await readdir(archives)) {
    if (name.endsWith(".deb")) await execa("dpkg-deb", ["-x", join(archives, name), unpacked]);
  }
}

/** The newest that was unpacked. */
async function kernelRelease(): Promise<string> {
  const found = await readdir(join(unpacked, "lib/modules")).catch(() => []);
  const release = found.sort(new Intl.Collator("en", { numeric: true }).compare).at(-1);
  if (release === undefined) throw new Skipped("the packages hold no kernel");
  return release;
}

/** Modules in the order in which they can be loaded. */
async function modulesOf(release: string): Promise<string[]> {
  const base = join(unpacked, "lib/modules", release);
  const all = (await readdir(base, { recursive: true })).filter((path) => path.endsWith(".ko"));
  const called = new Map(
    all.map((path) => [basename(path, ".ko").replaceAll("-", "_"), join(base, path)]),
  );
  const order = new Set<string>();
  const add = async (name: string): Promise<void> => {
    const path = called.get(name.replaceAll("-", "_"));
    if (path === undefined || order.has(path)) return;
    const text = (await readFile(path)).toString("latin1");
    const needs = /\0depends=([^\0]*)\0/.exec(text)?.[1] ?? "";
    for (const need of needs.split(",").filter(Boolean)) await add(need);
    order.add(path);
  };
  for (const name of MODULES) await add(name);
  return [...order];
}

/** A file or folder of this host, at `to`; symbolic links are followed. */
async function* copied(from: string, to: string): AsyncGenerator<ArchiveEntry> {
  const found = await stat(from);
  if (!found.isDirectory()) {
    yield { path: to, mode: found.mode, content: await readFile(from) };
    return;
  }
  for (const name of await readdir(from)) {
    if (!name.endsWith(".map") && !name.includes(".test.")) {
      yield* copied(join(from, name), join(to, name));
    }
  }
}

/** insmod is a name of kmod, which comes with the kernel where it is not here. */
async function pathOf(name: string): Promise<string> {
  if (name === "node") return process.execPath;
  return name === "insmod" ? which("kmod") : which(name);
}

async function which(name: string): Promise<string> {
  const { stdout } = await execa("which", [name], {
    env: { PATH: `${process.env.PATH}:/usr/sbin:/sbin:${join(unpacked, "bin")}` },
  });
  return stdout;
}

/** With its libraries, where it looks for them. */
async function* program(name: string): AsyncGenerator<ArchiveEntry> {
  const path = await pathOf(name);
  yield* copied(path, `bin/${name}`);
  yield* librariesOf(path);
}

async function* librariesOf(path: string): AsyncGenerator<ArchiveEntry> {
  const { stdout } = await execa("ldd", [path], { reject: false });
  for (const [, library] of stdout.matchAll(/(\/\S+) \(0x/g)) {
    if (library !== undefined) yield* copied(library, library.slice(1));
  }
}

const init = (modules: number, words: string) => `#!/bin/sh
export PATH=/bin HOME=/tmp
mount -t proc p /proc; mount -t sysfs s /sys; mount -t tracefs t /sys/kernel/tracing; mount -t devtmpfs d /dev; mount -t tmpfs r /run; mount -t tmpfs t /tmp
mount -t cgroup2 c /sys/fs/cgroup
i=0; while [ $i -lt ${modules} ]; do insmod /modules/$i.ko; i=$((i+1)); done
ip link set lo up
cd /ftctl && node dist/criu/old-kernel/guest.js ${words}
for log in /tmp/k-*/work-*/logs/fail-*.log /tmp/k-*/restore-*.log; do [ -f $log ] && grep -a Error $log /dev/null; done
echo o > /proc/sysrq-trigger; sleep 60
`;

async function* contents(modules: string[], words: string): AsyncGenerator<ArchiveEntry> {
  for (const name of ["proc", "sys", "dev", "run", "tmp", "root"]) {
    yield { path: name, mode: 0o40755 };
  }
  yield { path: "dev/console", mode: 0o20600, device: [5, 1] };
  yield { path: "dev/null", mode: 0o20666, device: [1, 3] };
  yield { path: "init", mode: 0o100755, content: Buffer.from(init(modules.length, words)) };
  for (const name of PROGRAMS) yield* program(name);
  for (const path of PRODUCT) yield* copied(path, join("ftctl", path));
  for (const path of BUILT) yield* copied(join("build", path), join("ftctl/build", path));
  for (const name of ["ftdump", "ftstore", "ftrestore"]) yield* librariesOf(`build/bin/${name}`);
  for (const name of await packages()) yield* copied(name, join("ftctl", name));
  for (const [index, path] of modules.entries()) yield* copied(path, `modules/${index}.ko`);
}

/** Those of node_modules that guest.ts needs. */
async function packages(): Promise<string[]> {
  const lock = JSON.parse(await readFile("package-lock.json", "utf8")) as {
    packages: Record<string, { dependencies?: Record<string, string> }>;
  };
  const found = new Set<string>();
  const add = (name: string): void => {
    const path = `node_modules/${name}`;
    if (found.has(path)) return;
    found.add(path);
    for (const need of Object.keys(lock.packages[path]?.dependencies ?? {})) add(need);
  };
  for (const name of PACKAGES) add(name);
  return [...found];
}

/** Its console's lines; the machine is ended when it has said its verdict, or after so long. */
async function boot(release: string, archive: string): Promise<string> {
  const share = join(unpacked, "usr/share");
  const machine = [
    ...["-L", join(share, "qemu"), "-L", join(share, "seabios")],
    ...["-machine", "pc", "-accel", "tcg", "-cpu", CPU, "-smp", "1", "-m", String(MEMORY_MIB)],
    ...["-icount", "shift=1,sleep=off", "-rtc", "clock=vm"],
    ...["-nic", "none", "-nographic", "-no-reboot"],
    ...["-kernel", join(unpacked, "boot", `vmlinuz-${release}`), "-initrd", archive],
    ...["-append", `console=ttyS0 quiet panic=-1 transparent_hugepage=always ${FASTER}`],
  ];
  const child = spawn(join(unpacked, "usr/bin/qemu-system-x86_64"), machine, {
    stdio: ["ignore", "pipe", "inherit"],
    env: { ...process.env, LD_LIBRARY_PATH: libraries.join(":") },
  });
  const timer = setTimeout(() => child.kill("SIGKILL"), BOOT_MS_MAX);
  let text = "";
  child.stdout.on("data", (chunk: Buffer) => {
    process.stdout.write(chunk);
    text += chunk;
  });
  try {
    await new Promise<void>((done, failed) => {
      child.once("close", () => done());
      child.once("error", failed);
    });
  } finally {
    clearTimeout(timer);
  }
  return /^verdict (.*?)\r?$/m.exec(text)?.[1] ?? `none within ${BOOT_MS_MAX / 1_000} s`;
}

async function main(): Promise<number> {
  const drawn = String(Math.floor(Math.random() * 1e9));
  const [lives = "2", seed = drawn, more = "any-frame"] = process.argv.slice(2);
  if (process.arch !== "x64") throw new Skipped("only on x86-64");
  await fetchPackages();
  const release = await kernelRelease();
  const archive = join(folder, "machine.cpio");
  try {
    await writeArchive(
      createWriteStream(archive),
      contents(await modulesOf(release), `${lives} ${seed} ${more}`),
    );
    console.log(`seed ${seed}, Linux ${release}`);
    const verdict = await boot(release, archive);
    console.log(`soft-dirty: ${verdict}`);
    return verdict === "ok" ? 0 : 1;
  } finally {
    await rm(archive, { force: true });
    if (process.env.FTCTL_OLD_KERNEL_KEEP === undefined) await rm(unpacked, { recursive: true });
  }
}

process.exitCode = await main().catch((error: Error) => {
  if (!(error instanceof Skipped)) throw error;
  console.log(`skipped: ${error.message}`);
  return SKIPPED;
});
