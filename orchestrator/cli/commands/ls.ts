import { limits } from "../../limits.js";
import type { CommandSpec } from "../context.js";
import { rows } from "../output/result.js";
import { pairView } from "./pair-view.js";

export const lsCommand: CommandSpec = {
  name: "ls",
  summary: "List the protected containers of this host",
  timeoutMs: 2 * limits.controlCallTimeoutMs,
  examples: ["ftctl ls", "ftctl ls -o wide", "ftctl ls -o name"],
  async run(context) {
    const pairs = await context.client.list(context.signal);
    const { describe: _, ...view } = pairView(() => context.clock.wallMs());
    const sorted = [...pairs].sort((a, b) => (a.name < b.name ? -1 : 1));
    return rows({ view, rows: sorted, empty: "Nothing is protected on this host." });
  },
};
