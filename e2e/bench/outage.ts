/**
 * Where an outage goes: the steps of takeovers in both modes, from the loss of the host to the first reply.
 *
 *   node outage.js [--workload redis] [--modes checkpoint,hybrid] [--connections 1,50] [--kills N] [--keep]
 */
import { parseArgs } from "node:util";
import type { PairView } from "../../orchestrator/agent/api-types.js";
import { outageMsAround } from "../clients/latency.js";
import { LabHosts } from "../runner/hosts.js";
import { buildImage, Service } from "../runner/service.js";
import { specOf } from "../runner/workloads.js";
import { asOnTheMachine, checkpoint, configurations } from "./configurations.js";
import { measureOutage } from "./measure.js";
import { median, round } from "./rows.js";

const epochMs = 25;

type Takeover = NonNullable<PairView["takeover"]>;

/** One kill: all times in milliseconds from the loss of the host. */
interface Course {
  outageMs: number;
  beginsMs: number;
  endsMs: number;
  takeover: Takeover;
}

async function coursesOf(
  hosts: LabHosts,
  workload: string,
  mode: string,
  connections: number,
  kills: number,
): Promise<Course[]> {
  await asOnTheMachine(hosts);
  const service = new Service(hosts, specOf(workload as "redis"));
  await buildImage(service.spec);
  const configuration =
    mode === "hybrid"
      ? configurations([]).find(({ name }) => name === "hybrid")
      : checkpoint(epochMs);
  await configuration?.start(service);
  const courses: Course[] = [];
  await measureOutage(service, connections, kills, ({ gaps, killedUs, killedAtMs, takeover }) => {
    const endsMs = Date.parse(takeover.at) - killedAtMs;
    const outageMs = outageMsAround(gaps, killedUs);
    courses.push({ outageMs, beginsMs: endsMs - takeover.totalMs, endsMs, takeover });
  });
  return courses;
}

function tell(title: string, courses: Course[]): void {
  const names = [...new Set(courses.flatMap(({ takeover }) => steps(takeover)))];
  const of = (pick: (course: Course) => number | undefined) =>
    round(median(courses.map(pick).filter((value) => value !== undefined)), 1);
  const row = (name: string, fromMs: number, ms: number | string) =>
    process.stdout.write(
      `  ${name.padEnd(24)}${String(fromMs).padStart(8)}${String(ms).padStart(8)}\n`,
    );
  process.stdout.write(
    `${title}, medians of ${courses.length}: begins after the loss, takes (ms)\n`,
  );
  row(
    "takeover",
    of(({ beginsMs }) => beginsMs),
    of(({ takeover }) => takeover.totalMs),
  );
  for (const name of names) {
    const found = ({ takeover }: Course) => takeover.steps?.find((step) => step.name === name);
    row(
      name,
      of((course) => {
        const at = found(course)?.atMs;
        return at === undefined ? undefined : course.beginsMs + at;
      }),
      of((course) => found(course)?.ms),
    );
  }
  row(
    "first reply",
    of(({ outageMs }) => outageMs),
    courses.map(({ outageMs }) => Math.round(outageMs)).join(" "),
  );
}

const steps = ({ steps }: Takeover) => (steps ?? []).map(({ name }) => name);

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      workload: { type: "string", default: "redis" },
      modes: { type: "string", default: "checkpoint,hybrid" },
      connections: { type: "string", default: "1,50" },
      kills: { type: "string", default: "3" },
      keep: { type: "boolean", default: false },
    },
  });
  const { hosts, started } = await LabHosts.up(["alpha", "beta"], (line) =>
    process.stderr.write(`${line}\n`),
  );
  try {
    for (const mode of values.modes.split(",")) {
      for (const connections of values.connections.split(",").map(Number)) {
        const kills = Number(values.kills);
        const courses = await coursesOf(hosts, values.workload, mode, connections, kills);
        tell(`${values.workload}, ${mode}, ${connections} connections`, courses);
      }
    }
    if (!values.keep) await asOnTheMachine(hosts);
  } finally {
    if (started && !values.keep) await hosts.down();
  }
}

main().catch((error: unknown) => {
  process.stderr.write(`outage: ${error instanceof Error ? error.message : String(error)}\n`);
  process.exitCode = 1;
});
