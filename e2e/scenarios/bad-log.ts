/** Mode hybrid, and the standby's copy of the event log is no good when it is needed. */
import { join } from "node:path";
import { limits } from "../../orchestrator/limits.js";
import { checkoutRoot } from "../lab/layout.js";
import type { Host } from "../runner/hosts.js";
import { poll } from "../runner/poll.js";
import { type Context, expectThat, type Scenario } from "../runner/scenario.js";
import type { Service } from "../runner/service.js";
import { untilCovered } from "./hybrid.js";

/** docs/log-format.md: header, report, lanes, directories. */
const PAGE = 4096;
const LANES = 128;
const SEGMENTS = 512;
const DIRECTORY_PAGE = 2 + (LANES * 128) / PAGE;
const DIRECTORY_PAGES = (LANES * SEGMENTS * 8) / PAGE;

interface Spoilt {
  name: string;
  code: "LOG_DAMAGED" | "LOG_VERSION" | "RECORDER_DIFFERS" | "REPLAY_FAILED";
  onDivergence: "stop" | "checkpoint" | "retry";
  /** Replays that are begun, if any is. */
  attempts?: number;
  /** A shell command on the file `$log`. */
  command: string;
}

const zeros = (page: number, pages: number) =>
  `dd if=/dev/zero of="$log" bs=${PAGE} seek=${page} count=${pages} conv=notrunc`;
const byte = (at: number, octal: string) =>
  `printf '\\${octal}' | dd of="$log" bs=1 seek=${at} conv=notrunc`;

/** Of a test of the recorder: outputs that never were, under right checksums. Every replay differs from that. */
const otherOutputs = `${join(checkoutRoot(), "build/test/recorder-spoil")} "$log" output`;
const diverged = { code: "REPLAY_FAILED", command: otherOutputs } as const;

const CASES: Spoilt[] = [
  {
    ...{ ...diverged, name: "diverged-stop", onDivergence: "stop" },
    attempts: limits.replayAttemptsMax,
  },
  {
    ...{ ...diverged, name: "diverged-checkpoint", onDivergence: "checkpoint" },
    attempts: limits.replayAttemptsMax,
  },
  {
    ...{ ...diverged, name: "diverged-retry", onDivergence: "retry" },
    attempts: limits.replayAttemptsOnRetryMax,
  },
  {
    // A bit that no CHECK guards: of the last byte of what the application's main thread did.
    ...{ name: "damaged-end", code: "LOG_DAMAGED", onDivergence: "stop" },
    command: `${join(checkoutRoot(), "build/test/recorder-spoil")} "$log" end`,
  },
  {
    ...{ name: "damaged", code: "LOG_DAMAGED", onDivergence: "stop" },
    command: zeros(DIRECTORY_PAGE, DIRECTORY_PAGES),
  },
  {
    ...{ name: "damaged-checkpoint", code: "LOG_DAMAGED", onDivergence: "checkpoint" },
    command: zeros(DIRECTORY_PAGE, DIRECTORY_PAGES),
  },
  {
    ...{ name: "other-version", code: "LOG_VERSION", onDivergence: "stop" },
    command: byte(8, "001"),
  },
  {
    ...{ name: "other-build", code: "RECORDER_DIFFERS", onDivergence: "checkpoint" },
    command: byte(176, "125"),
  },
];

/** A person decides, so that there is time to spoil the file between the loss of the host and the takeover. */
async function run(context: Context, spoilt: Spoilt): Promise<void> {
  const { code, onDivergence, command } = spoilt;
  const policy = { mode: "hybrid", failover: "manual", onStandbyLoss: "block", onDivergence };
  const { service, primary, standby } = await context.pool.get("redis", policy);
  const state = (wanted: string) =>
    context.ftctl.until(standby, service.name, wanted, ({ state }) => state === wanted, 30_000);
  await context.ftctl.until(
    primary,
    service.name,
    "output that waits for the log",
    (view) => view.log?.covers === true,
    30_000,
  );
  // To the end: a checkpoint that comes after the last answer leaves nothing to replay.
  const asking = ["redis-cli", "-r", "100000", "-i", "0.002", "incr", "counter"];
  void service.docker(primary, ["exec", service.name, ...asking]).catch(() => {});
  await poll("answers", 20_000, async () => {
    const got = await service.docker(primary, [
      "exec",
      service.name,
      "redis-cli",
      "get",
      "counter",
    ]);
    return Number(got.stdout) > 50 ? true : undefined;
  });
  // Events of an earlier pair of that name are still told.
  const told = (await context.ftctl.events(standby, service.name)).length;
  await context.hosts.kill(primary);
  await state("awaitingOperator");
  const script = `set -e; log="$(ls /run/ftctl/pairs/*/log/events)"; ${command} 2>/dev/null`;
  const done = await context.hosts.exec(standby, ["sh", "-c", script]);
  expectThat(done.exitCode === 0, `the log could not be spoilt: ${done.stderr}`);
  const beganMs = Date.now();
  const asked = await context.ftctl.run(
    standby,
    ["failover", service.name, "--force", "-y"],
    60_000,
  );
  const mayGoBack = code === "LOG_DAMAGED" || code === "REPLAY_FAILED";
  const wentBack = onDivergence === "checkpoint" && mayGoBack;
  if (wentBack) {
    await service.untilTakenOver(standby, 30_000);
    await service.untilListening();
    const events = await context.ftctl.events(standby, service.name);
    expectThat(
      events.some(({ type }) => type === "resumed-from-checkpoint"),
      "no event says that the checkpoint was gone back to",
    );
  } else {
    const view = await state("failed");
    context.note(`${view.reason} after ${Date.now() - beganMs} ms; exit code ${asked.exitCode}`);
    expectThat(asked.exitCode !== 0, "failover says that it succeeded");
    expectThat(asked.stderr.includes(code), `failover does not say ${code}: ${asked.stderr}`);
  }
  const events = (await context.ftctl.events(standby, service.name)).slice(told);
  countAttempts(
    events.filter(({ type }) => type === "replay-failed"),
    spoilt,
  );
  if (wentBack) await recordedAnew(context, service, primary, standby);
}

/** It was restored without its log, and yet the next loss of a host is one that is replayed. */
async function recordedAnew(
  context: Context,
  service: Service,
  lost: Host,
  voice: Host,
): Promise<void> {
  await context.hosts.boot(lost);
  await untilCovered(context, service, voice);
  const count = async (host: Host, ...words: string[]) => {
    const args = ["exec", service.name, "redis-cli", ...words, "counter"];
    const { stdout } = await service.docker(host, args);
    return Number(stdout);
  };
  let told = 0;
  for (let i = 0; i < 20; i += 1) told = await count(voice, "incr");
  await context.hosts.kill(voice);
  const state = "awaitingOperator";
  await context.ftctl.until(lost, service.name, state, (view) => view.state === state, 30_000);
  await context.ftctl.must(lost, ["failover", service.name, "--force", "-y"], 60_000);
  const { takeover } = await service.untilTakenOver(lost, 30_000);
  expectThat(takeover?.replay, "the second takeover replayed nothing");
  context.note(`recorded anew: ${takeover.replay.events} events were replayed`);
  await service.untilListening();
  const known = await count(lost, "get");
  expectThat(known === told, `the counter is ${known}, its client was told ${told}`);
}

/** Each one that differed was told by an event that says what differed. */
function countAttempts(failed: { message: string }[], { attempts }: Spoilt): void {
  if (attempts === undefined) return;
  expectThat(failed.length === attempts, `${failed.length} replays have failed, not ${attempts}`);
  const said = failed.every(({ message }) => message.includes("diverged: what="));
  expectThat(said, `an event does not say what differed: ${failed[0]?.message}`);
}

export const badLogScenarios: Scenario[] = CASES.map((spoilt) => ({
  name: `hybrid/bad-log/${spoilt.name}`,
  quick: false,
  boundMs: 150_000,
  run: async (context) => {
    await run(context, spoilt);
    await context.pool.clear();
  },
}));
