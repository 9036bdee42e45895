/** Mode hybrid, and the standby's copy of the event log is no good when it is needed. */
import { type Context, expectThat, type Scenario } from "../runner/scenario.js";

/** docs/log-format.md: header, report, lanes, directories. */
const PAGE = 4096;
const LANES = 128;
const SEGMENTS = 512;
const DIRECTORY_PAGE = 2 + (LANES * 128) / PAGE;
const DIRECTORY_PAGES = (LANES * SEGMENTS * 8) / PAGE;

interface Spoilt {
  name: string;
  code: "LOG_DAMAGED" | "LOG_VERSION" | "RECORDER_DIFFERS";
  onDivergence: "stop" | "checkpoint";
  /** A shell command on the file `$log`. */
  command: string;
}

const zeros = (page: number, pages: number) =>
  `dd if=/dev/zero of="$log" bs=${PAGE} seek=${page} count=${pages} conv=notrunc`;
const byte = (at: number, octal: string) =>
  `printf '\\${octal}' | dd of="$log" bs=1 seek=${at} conv=notrunc`;

const CASES: Spoilt[] = [
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
async function run(context: Context, { code, onDivergence, command }: Spoilt): Promise<void> {
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
  for (let i = 0; i < 20; i += 1) {
    await service.docker(primary, ["exec", service.name, "redis-cli", "incr", "counter"]);
  }
  await context.hosts.kill(primary);
  await state("awaitingOperator");
  const script = `set -e; log="$(ls /run/ftctl/pairs/*/log/events)"; ${command} 2>/dev/null`;
  const spoilt = await context.hosts.exec(standby, ["sh", "-c", script]);
  expectThat(spoilt.exitCode === 0, `the log could not be spoilt: ${spoilt.stderr}`);
  const beganMs = Date.now();
  const asked = await context.ftctl.run(
    standby,
    ["failover", service.name, "--force", "-y"],
    60_000,
  );
  if (code === "LOG_DAMAGED" && onDivergence === "checkpoint") {
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
