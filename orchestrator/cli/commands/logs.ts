import { limits } from "../../limits.js";
import type { CommandSpec } from "../context.js";
import { rows, type View } from "../output/result.js";
import { clean } from "../output/table.js";
import { usage } from "../settings.js";
import { each } from "./several.js";

interface Log {
  name: string;
  lines: string[];
}

const view: View<Log> = {
  name: (log) => log.name,
  describe: (log) => log.lines.map((line) => `${clean(line)}\n`).join(""),
  columns: [
    { header: "NAME", cell: (log) => log.name },
    { header: "LINES", cell: (log) => String(log.lines.length) },
  ],
};

export const logsCommand: CommandSpec<{ tail: string }> = {
  name: "logs",
  summary: "What agent, gate and CRIU wrote about pairs (not the application's own output)",
  completes: "pair",
  timeoutMs: 2 * limits.controlCallTimeoutMs,
  examples: ["ftctl logs redis", "ftctl logs redis -n 1000"],
  configure(command) {
    command.argument("<pair...>", "names or id prefixes");
    command.option("-n, --tail <lines>", "how many lines, counted from the end", "200");
  },
  async run(context, names, { tail }) {
    const lines = Number(tail);
    if (!/^\d{1,5}$/.test(tail) || lines < 1 || lines > 10_000) {
      throw usage(`--tail ${tail}`, "expected a number from 1 to 10000");
    }
    const { client, signal } = context;
    const read = async (name: string) => ({ name, lines: await client.logs(name, lines, signal) });
    return rows({ view, ...(await each(context, names, read, true)) });
  },
};
