import { limits } from "../../limits.js";
import type { CommandSpec } from "../context.js";
import { rows, type View } from "../output/result.js";
import { each } from "./several.js";

type Inspected = Record<string, unknown>;

const view: View<Inspected> = {
  name: (row) => String(row.name ?? row.id ?? ""),
  describe: (row) => JSON.stringify(row, null, 2),
  columns: [
    { header: "NAME", cell: (row) => String(row.name ?? "-") },
    { header: "ID", cell: (row) => String(row.id ?? "-") },
  ],
};

export const inspectCommand: CommandSpec = {
  name: "inspect",
  summary: "Everything known of pairs: policy, both hosts' views, paths, processes (JSON)",
  completes: "pair",
  timeoutMs: 2 * limits.controlCallTimeoutMs,
  examples: ["ftctl inspect redis", "ftctl inspect redis -o yaml"],
  configure(command) {
    command.argument("<pair...>", "names or id prefixes");
  },
  async run(context, names) {
    const { client, signal, settings } = context;
    const result = await each(context, names, (name) => client.inspect(name, signal), true);
    // As with docker: JSON unless something else is asked for.
    settings.output ??= "json";
    return rows({ view, ...result });
  },
};
