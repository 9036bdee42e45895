import { limits } from "../../limits.js";
import type { CommandSpec } from "../context.js";
import { rows } from "../output/result.js";
import { pairView } from "./pair-view.js";
import { addPolicyOptions, chosenPolicy, type PolicyOptions } from "./policy-source.js";
import { each } from "./several.js";

export const protectCommand: CommandSpec<PolicyOptions & { standby?: string }> = {
  name: "protect",
  summary: "Pair containers with a warm standby on another host (restarts them)",
  completes: "container",
  timeoutMs: limits.imageTransferTimeoutMs + limits.controlSlowCallTimeoutMs,
  examples: [
    "ftctl protect redis --standby beta",
    "ftctl protect redis -f redis.yaml -y -o json",
    "ftctl protect redis web --policy low-latency",
  ],
  configure(command) {
    command.argument("<container...>", "names or id prefixes");
    command.option("--standby <host>", "host of the standby; default: policy, or the only peer");
    addPolicyOptions(command);
  },
  async run(context, names, options) {
    const policy = await chosenPolicy(context, options);
    const { rows: pairs, failures } = await each(context, names, async (container) => {
      await context.confirm(
        `container ${container}`,
        `Protecting ${container} restarts it: its clients are disconnected once. Go on?`,
      );
      const request = { container, standby: options.standby, ...policy };
      const onProgress = context.progress(container);
      return context.client.protect(request, { signal: context.signal, onProgress });
    });
    return rows({ view: pairView(() => context.clock.wallMs()), rows: pairs, failures });
  },
};
