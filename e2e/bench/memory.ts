/**
 * The pause against the size of memory, all of it dumped and only what was written, by turns in one run: a redis in throw-away
 * namespaces, without Docker, gate and standby.
 *
 *   node dist/e2e/bench/memory.js [MiB,MiB…] [epochs]
 */
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { join, resolve } from "node:path";
import { execa } from "execa";
import { Checkpointer, type DumpResult } from "../../criu/checkpointer.js";
import { openSandbox, type Sandbox } from "../../criu/sandbox.js";

const PORT = 7777;
const EVERY_MS = 100;
const WRITES = 20;
const TURNS = 2;
const VALUE_BYTES = 1_000_000;

const nativeDir = resolve("build");
const toolkit = process.env.FTCTL_TOOLKIT ?? resolve("build/toolkit");

const ask = (of: Sandbox, ...words: string[]) =>
  execa("nsenter", ["-t", `${of.initPid}`, "-n", "redis-cli", "-p", `${PORT}`, ...words]);

const sleep = (ms: number) => new Promise((done) => setTimeout(done, ms));

async function epochs(
  of: Sandbox,
  folder: string,
  tracking: "auto" | "full",
  count: number,
): Promise<DumpResult[]> {
  const work = await mkdtemp(join(folder, "work-"));
  const roots = join(folder, "roots");
  await writeFile(roots, "");
  const checkpoints = await Checkpointer.start({
    program: join(nativeDir, "bin/ftdump"),
    pair: "000000000000",
    initPid: of.initPid,
    toolkit,
    hook: join(nativeDir, "lib/libfthook.so"),
    work,
    gate: "none",
    roots,
    kdat: join(folder, "kdat"),
    freezeMsMax: 30_000,
    tracking,
    subject: "redis",
  });
  const results: DumpResult[] = [];
  for (let epoch = 1; epoch <= count + 1; epoch += 1) {
    const path = join(folder, "blob");
    results.push(await checkpoints.dump({ epoch, base: epoch - 1, generation: 1, path }));
    for (let write = 0; write < WRITES; write += 1) {
      await ask(of, "SETRANGE", `key:${write}`, `${(epoch * 4_099) % 500_000}`, `${epoch}`);
    }
    await sleep(EVERY_MS);
  }
  await checkpoints.stop();
  return results.slice(1); // the first is whole in either way
}

const median = (numbers: number[]) =>
  numbers.sort((a, b) => a - b)[Math.floor(numbers.length / 2)] ?? Number.NaN;

async function measure(mib: number, count: number): Promise<void> {
  const folder = await mkdtemp("/dev/shm/ft-memory-");
  const sandbox = await openSandbox({
    nativeDir,
    program: "redis-server",
    probeArguments: ["--port", `${PORT}`, "--save", "", "--enable-debug-command", "yes"],
  });
  try {
    await sandbox.start();
    await sleep(500);
    await ask(sandbox, "DEBUG", "POPULATE", `${Math.max(1, mib - 3)}`, "key", `${VALUE_BYTES}`);
    const rows: Record<"auto" | "full", DumpResult[]> = { auto: [], full: [] };
    for (let turn = 0; turn < TURNS; turn += 1) {
      rows.full.push(...(await epochs(sandbox, folder, "full", count)));
      rows.auto.push(...(await epochs(sandbox, folder, "auto", count)));
    }
    for (const [name, row] of Object.entries(rows)) {
      const of = (field: (of: DumpResult) => number) => median(row.map(field));
      const [pause, pages, read, changed, bytes] = [
        of((r) => r.pauseMs).toFixed(1),
        of((r) => r.pages),
        of((r) => r.pagesDumped),
        of((r) => r.pagesChanged),
        of((r) => r.bytes),
      ];
      const fastest = Math.min(...row.map((r) => r.pauseMs)).toFixed(1);
      console.log(
        `${mib} MiB ${name}: pause p50 ${pause} ms (fastest ${fastest}), ${read} of ${pages} pages read, ` +
          `${changed} shipped, ${bytes} bytes; ${row.length} epochs`,
      );
    }
  } finally {
    await sandbox.close();
    await rm(folder, { recursive: true, force: true });
  }
}

const sizes = (process.argv[2] ?? "4,100,1024").split(",").map(Number);
for (const mib of sizes) await measure(mib, Number(process.argv[3] ?? 15));
