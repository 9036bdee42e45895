import { limits } from "../../limits.js";
import type { CommandSpec } from "../context.js";
import { rows } from "../output/result.js";
import { pairView } from "./pair-view.js";
import { each } from "./several.js";

export const switchoverCommand: CommandSpec = {
  name: "switchover",
  summary: "Swap primary and standby as planned; no connection is lost",
  completes: "pair",
  timeoutMs: limits.controlSlowCallTimeoutMs,
  examples: ["ftctl switchover redis"],
  configure(command) {
    command.argument("<pair...>", "names or id prefixes");
  },
  async run(context, names) {
    const { rows: pairs, failures } = await each(context, names, (pair) =>
      context.client.switchover(
        { pair },
        { signal: context.signal, onProgress: context.progress(pair) },
      ),
    );
    return rows({ view: pairView(() => context.clock.wallMs()), rows: pairs, failures });
  },
};
