/**
 * In the virtual machine of `main.ts`, on a kernel that has soft-dirty bits and no PAGEMAP_SCAN: churn (native/pages/test/churn.c), which checks
 * every page of its own, is dumped by the real ftdump, committed to the real ftstore and restored, through several lives.
 *
 *   node guest.js LIVES SEED [any-frame|cost|recorded]      prints a line a life, and as its last one `verdict ok` or `verdict failed: why`
 *
 * `any-frame` is the test of this test: in one more life the bits alone are believed, and the program has to find a page that is not as it was.
 * `recorded` is another test: of a program that is recorded as in mode hybrid, and replayed.
 * `cost` only counts what a dump asks the kernel for, of a program that does nothing, with little memory and with more.
 */
import { mkdir, mkdtemp, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { execa } from "execa";
import { limits } from "../../orchestrator/limits.js";
import { openComposer } from "../composer.js";
import { openSandbox, type Sandbox } from "../sandbox.js";
import { nativeDir, pair, restoreInto, startDumper } from "../testing/engine.js";

/** Rounds between two looks at all memory, and the rest after each: the machine is slow, and a dump runs beside the program. */
const LOOK = 6;
const PAUSE_MS = 30;
/** The second fails, the third is whole, and what is restored comes of the others, too. */
const EPOCHS = 6;
/** In so many lives a page table is moved, or a huge page dropped, at a time that matters. */
const LIVES_ANY_FRAME = 4;
const BETWEEN_MS = 300;
const FREEZE_MS_MAX = 60_000;
const RESTORE_MS_MAX = 120_000;
const WAIT_MS_MAX = 60_000;
/** Without KVM all is some fifty times slower. */
Object.assign(limits, {
  dumpTimeoutMs: limits.firstDumpTimeoutMs,
  storeCommandTimeoutMs: limits.firstDumpTimeoutMs,
});

async function main(lives: number, seed: number, anyFrame: boolean): Promise<void> {
  const { stdout } = await execa(join(nativeDir, "bin/ftprobe"), ["tracking", "auto"]);
  console.log(`kernel ${(await readFile("/proc/sys/kernel/osrelease", "utf8")).trim()}: ${stdout}`);
  if (!stdout.startsWith("ok tracking=soft-dirty")) throw new Error(`ftprobe says ${stdout}`);
  const folder = await mkdtemp("/tmp/k-");
  await writeFile(join(folder, "roots"), "");
  await rest(folder);
  const enter = () =>
    openSandbox({
      nativeDir,
      waitMsMax: WAIT_MS_MAX,
      program: join(nativeDir, "test/churn"),
      probeArguments: [`${seed}/${LOOK}/${PAUSE_MS}`],
    });
  let current = await enter();
  await current.start();
  await counts(current, 20);
  const restored = async (images: string, generation: number): Promise<void> => {
    await current.close();
    current = await enter();
    await restoreInto(current, images, folder, {
      log: join(folder, `restore-${generation}.log`),
      subject: "churn",
      timeoutMs: RESTORE_MS_MAX,
    });
    await counts(current, 0); // it goes on with its own numbers
    await counts(current, current.counted() + 2 * LOOK);
  };
  /** Ends with the life in which the program finds a page that is not as it was. */
  const withAnyFrame = async (first: number): Promise<void> => {
    for (let generation = first; generation < first + LIVES_ANY_FRAME; generation += 1) {
      const bits = { FTDUMP_ANY_FRAME: "1" };
      const { images } = await live(current, folder, generation, EPOCHS, bits);
      const found = await restored(images, generation).catch((error: Error) => error);
      if (found instanceof WrongPage) {
        console.log(`life ${generation}, in which the bits alone were believed: ${found.message}`);
        return;
      }
      if (found !== undefined) throw found;
    }
    throw new Error("the bits alone were believed, and it was not noticed");
  };
  for (let generation = 1; generation <= lives; generation += 1) {
    const verify = generation % 2 === 0;
    const fault = ["dump.frozen", "dump.thawed", "dump.pack"][generation % 3];
    const { images, left } = await live(current, folder, generation, EPOCHS, {
      FTCTL_FAULT: `${fault}:error:1`,
      ...(verify ? { FTDUMP_VERIFY_PAGES: "1" } : {}),
    });
    // It writes to much of its memory between two dumps, as all is slow here.
    if (!verify && left === 0) throw new Error("no page was ever left out");
    await restored(images, generation);
    console.log(`life ${generation}: restored, and every page is as it was`);
  }
  if (anyFrame) await withAnyFrame(lives + 1);
  await current.close();
}

type Tracking = "auto" | "full";

class WrongPage extends Error {}

/** As often as it takes, as long as it goes on. What it prints is a number, or what is wrong. */
async function counts(of: Sandbox, beyond: number): Promise<void> {
  for (let before = -1; !(of.counted() > beyond); ) {
    if (Number.isNaN(of.counted())) throw new WrongPage(`the program says ${of.said()}`);
    if (of.counted() === before) throw new Error(`the program stands still at ${before}`);
    before = of.counted();
    await of.countsBeyond(beyond).catch(() => {});
  }
}

/** Of a program that does nothing next to nothing is dumped again. */
async function rest(folder: string): Promise<void> {
  await still(folder, 0, async () => {});
}

async function still(folder: string, mib: number, before: () => Promise<void>): Promise<void> {
  const program = await openSandbox({
    nativeDir,
    waitMsMax: WAIT_MS_MAX,
    probeArguments: ["still", String(mib)],
  });
  await program.start();
  await program.countsBeyond(0);
  const checkpoints = await dumper(program, folder, {});
  const path = join(folder, "blob");
  for (let epoch = 1; epoch <= 3; epoch += 1) {
    await before();
    const dumped = await checkpoints.dump({ epoch, base: epoch - 1, generation: 1, path });
    console.log(
      `still, epoch ${epoch}: ${dumped.pagesDumped} of ${dumped.pages} pages dumped, paused ${dumped.pauseMs.toFixed(0)} ms`,
    );
    if (epoch > 1 && dumped.pagesDumped > dumped.pages / 4) throw new Error("too much was dumped");
  }
  await checkpoints.stop();
  await program.close();
}

/**
 * As in mode hybrid: a program with threads and locks is recorded, killed, restored and replayed to its log's end. Where it is in the log is in its
 * memory, and what it has locked: of another moment, they would not agree.
 */
async function recorded(tracking: Tracking, environment: NodeJS.ProcessEnv): Promise<void> {
  const folder = await mkdtemp("/tmp/r-");
  await writeFile(join(folder, "roots"), "");
  const ftlog = join(nativeDir, "bin/ftlog");
  const log = join(folder, "log");
  const words = `exec env FTREC_STALL_MS=20000 FTREC_LOG=${log} LD_PRELOAD=${join(nativeDir, "lib/libftrec.so")} ${join(nativeDir, "test/recorder-program-mutex")} 600000 ${join(folder, "result")}`;
  const enter = () =>
    openSandbox({ nativeDir, waitMsMax: WAIT_MS_MAX, command: ["/bin/sh", "-c", words] });
  await execa(ftlog, ["create", log, "64", "64"]);
  const first = await enter();
  await first.start();
  await new Promise((done) => setTimeout(done, BETWEEN_MS));
  const { images, left } = await live(first, folder, "recorded", EPOCHS, environment, tracking);
  if (tracking === "auto" && environment.FTDUMP_VERIFY_PAGES === undefined && left === 0)
    throw new Error("no page was ever left out");
  await new Promise((done) => setTimeout(done, BETWEEN_MS));
  await first.close();
  await execa(ftlog, ["mode", log, "replay", "live"]);
  const next = await enter();
  await restoreInto(next, images, folder, {
    log: join(folder, "restore-recorded.log"),
    subject: "recorded",
    timeoutMs: RESTORE_MS_MAX,
  });
  const value = async (name: string): Promise<string | undefined> =>
    new RegExp(`^${name}=(.*)$`, "m").exec((await execa(ftlog, ["report", log])).stdout)?.[1];
  const deadline = performance.now() + WAIT_MS_MAX;
  while ((await value("outcome")) === "none" && performance.now() < deadline) {
    await new Promise((done) => setTimeout(done, 100));
  }
  if ((await value("outcome")) !== "replayed") {
    console.log((await execa(ftlog, ["report", log])).stdout);
    throw new Error("the recorded program was not replayed to its log's end");
  }
  console.log(`recorded: replayed, ${await value("events")} events`);
  await next.close();
}

/** System calls by name, of everything that runs, from one dump to the end of the next; and the bytes that were read of a place in a file. */
async function cost(): Promise<void> {
  const folder = await mkdtemp("/tmp/c-");
  await writeFile(join(folder, "roots"), "");
  const events = "/sys/kernel/tracing/events";
  const triggers = {
    [`${events}/raw_syscalls/sys_enter/trigger`]: "hist:keys=common_pid.execname,id.syscall",
    [`${events}/syscalls/sys_exit_pread64/trigger`]: "hist:keys=common_pid.execname:vals=ret",
  };
  const reset = async (): Promise<void> => {
    for (const [path, trigger] of Object.entries(triggers)) {
      await writeFile(path, `!${trigger}`).catch(() => {});
      await writeFile(path, trigger);
    }
  };
  for (const mib of [1, 65, 129]) {
    await still(folder, mib, reset);
    for (const path of Object.keys(triggers)) {
      const lines = (await readFile(path.replace("trigger", "hist"), "utf8")).split("\n");
      const told = lines.filter((line) => line.includes("criu") || line.includes("ld"));
      console.log(told.map((line) => `cost ${mib} ${line}`).join("\n"));
    }
  }
}

function dumper(
  of: Sandbox,
  folder: string,
  environment: NodeJS.ProcessEnv,
  tracking = "auto" as Tracking,
) {
  return startDumper(of, folder, {
    freezeMsMax: FREEZE_MS_MAX,
    tracking,
    subject: "churn",
    environment: { ...process.env, ...environment },
  });
}

/** So many epochs of one life, of which one dump may be told to fail: the images of the last, and how many pages were left out of dumps since it. */
async function live(
  of: Sandbox,
  folder: string,
  name: number | "recorded",
  epochs: number,
  environment: NodeJS.ProcessEnv,
  tracking: Tracking = "auto",
): Promise<{ images: string; left: number }> {
  const checkpoints = await dumper(of, folder, environment, tracking);
  const generation = typeof name === "number" ? name : 1;
  const into = join(folder, `life-${name}`);
  await mkdir(into);
  const roots = join(folder, "roots");
  const composer = await openComposer({ nativeDir, pair, folder: into, roots, subject: "churn" });
  const path = join(into, "blob");
  let base = 0;
  let left = 0;
  for (let epoch = 1; epoch <= epochs; epoch += 1) {
    await new Promise((done) => setTimeout(done, BETWEEN_MS));
    const result = await checkpoints
      .dump({ epoch, base, generation, path })
      .catch((error: Error) => error);
    if (result instanceof Error) {
      if (!result.message.includes("injected")) throw result;
      console.log(`life ${name}, epoch ${epoch}: ${environment.FTCTL_FAULT}, as it was told to`);
      left = 0;
      continue; // the same base again
    }
    if (tracking === "auto" && result.tracking !== "soft-dirty")
      throw new Error(`tracking is ${result.tracking}`);
    left += result.pages - result.pagesDumped;
    console.log(
      `life ${name}, epoch ${epoch}: at ${of.said()}, ${result.pagesDumped} of ${result.pages} pages dumped, ${result.pagesChanged} shipped, paused ${Math.round(result.pauseMs)} ms`,
    );
    await composer.commit(epoch, path);
    base = epoch;
  }
  await checkpoints.stop();
  const images = await composer.images();
  await composer.close();
  return { images, left };
}

const [lives = "2", seed = "1", more] = process.argv.slice(2);
/** With all memory, with soft-dirty bits, and so that all is read and compared. */
async function recordedAll(): Promise<void> {
  let failed = 0;
  for (const [tracking, environment] of [
    ["auto", { FTDUMP_VERIFY_PAGES: "1" }],
    ["full", {}],
    ["auto", {}],
    ["full", {}],
    ["auto", {}],
  ] as const) {
    const failure = await recorded(tracking, environment).catch((error: Error) => error);
    if (failure !== undefined) failed += 1;
    console.log(`recorded, tracking ${tracking}: ${failure?.message ?? "replayed"}`);
  }
  if (failed > 0) throw new Error(`${failed} were not replayed`);
}

const failure = await (more === "cost"
  ? cost()
  : more === "recorded"
    ? recordedAll()
    : main(Number(lives), Number(seed), more === "any-frame")
).catch((error: Error) => error);
console.log(failure === undefined ? "verdict ok" : `verdict failed: ${failure.message}`);
process.exit();
