import { limits } from "../../limits.js";
import type { CommandSpec } from "../context.js";
import { rows, type View } from "../output/result.js";
import { each } from "./several.js";

const view: View<{ name: string }> = {
  name: (row) => row.name,
  lines: true,
  describe: (row) => `${row.name} is a plain container again\n`,
  columns: [{ header: "NAME", cell: (row) => row.name }],
};

export const unprotectCommand: CommandSpec<{ force?: boolean }> = {
  name: "unprotect",
  summary: "Turn protected containers back into plain ones (restarts them)",
  completes: "pair",
  timeoutMs: 2 * limits.controlSlowCallTimeoutMs,
  examples: [
    "ftctl unprotect redis",
    "ftctl unprotect redis --force -y   # the standby's host is gone",
  ],
  configure(command) {
    command.argument("<pair...>", "names or id prefixes");
    command.option("--force", "also when the peer cannot be reached; its copy stays behind");
  },
  async run(context, names, options) {
    const result = await each(context, names, async (pair) => {
      await context.confirm(
        `pair ${pair}`,
        `Unprotecting ${pair} restarts it as a plain container and removes its standby. Go on?`,
      );
      const request = { pair, force: options.force === true };
      const onProgress = context.progress(pair);
      return context.client.unprotect(request, { signal: context.signal, onProgress });
    });
    return rows({ view, ...result });
  },
};
