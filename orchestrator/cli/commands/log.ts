/** `ftctl log`: the event log of a recorded container (mode hybrid), for a person. It is this host's copy that is read. */
import { spawn } from "node:child_process";
import { createInterface } from "node:readline";
import { ExitCode, FtError } from "../../errors/error.js";
import { limits } from "../../limits.js";
import type { CommandSpec, Context } from "../context.js";
import { stream, type View } from "../output/result.js";
import { clean } from "../output/table.js";

const LINES_A_GROUP = 500;

interface Line {
  line: string;
}

const view: View<Line> = {
  name: ({ line }) => line,
  lines: true,
  describe: ({ line }) => `${clean(line)}\n`,
  columns: [{ header: "LINE", cell: ({ line }) => line }],
};

interface EventLog {
  file: string;
  program: string;
}

async function eventLogOf(context: Context, name: string): Promise<EventLog> {
  const { eventLog } = await context.client.inspect(name, context.signal);
  if (eventLog !== undefined) return eventLog as EventLog;
  throw new FtError({
    code: "NOT_RECORDED",
    subject: name,
    message: "it has no event log: it is not protected in mode hybrid",
    exitCode: ExitCode.refused,
  });
}

async function* linesOf(context: Context, verb: string, name: string): AsyncGenerator<Line[]> {
  const { file, program } = await eventLogOf(context, name);
  const child = spawn(program, [verb, file], {
    stdio: ["ignore", "pipe", "inherit"],
    signal: context.signal,
  });
  const ended = new Promise<number | null>((resolve, reject) => {
    child.once("error", reject);
    child.once("close", resolve);
  });
  ended.catch(() => {});
  let group: Line[] = [];
  for await (const line of createInterface({ input: child.stdout })) {
    group.push({ line });
    if (group.length < LINES_A_GROUP) continue;
    yield group;
    group = [];
  }
  yield group;
  const status = await ended;
  if (status === 0) return;
  throw new FtError({
    code: "LOG_FAILED",
    subject: name,
    message: `the event log at ${file} is torn, damaged or gone (ftlog ended with ${status})`,
  });
}

function reading(verb: "dump" | "stats", summary: string): CommandSpec {
  return {
    name: verb,
    summary,
    completes: "pair",
    timeoutMs: verb === "dump" ? 60_000 : 2 * limits.controlCallTimeoutMs,
    examples: [`ftctl log ${verb} redis`],
    configure(command) {
      command.argument("<pair>", "name or id prefix");
    },
    async run(context, [name = ""]) {
      return stream({ view, items: linesOf(context, verb, name), redraw: false });
    },
  };
}

export const logCommand: CommandSpec = {
  name: "log",
  summary: "The event log of a container in mode hybrid",
  subcommands: [
    reading("dump", "Every event since the last checkpoint: time, thread, event, arguments"),
    reading("stats", "What fills the log: lanes, kinds of events, room"),
  ],
};
