import { ExitCode, FtError } from "../../errors/error.js";
import { limits } from "../../limits.js";
import type { CommandSpec } from "../context.js";
import { rows } from "../output/result.js";
import { pairView } from "./pair-view.js";
import { each } from "./several.js";

export const failoverCommand: CommandSpec<{ force?: boolean }> = {
  name: "failover",
  summary: "Take over on this host, because you know that the primary is gone",
  completes: "pair",
  timeoutMs: limits.controlSlowCallTimeoutMs,
  examples: ["ftctl failover redis --force"],
  configure(command) {
    command.argument("<pair...>", "names or id prefixes");
    command.option("--force", "you have made sure that the primary's host is off or cut off");
  },
  async run(context, names, options) {
    if (options.force !== true) throw forceNeeded(names);
    const { rows: pairs, failures } = await each(context, names, async (pair) => {
      await context.confirm(
        `pair ${pair}`,
        `If the primary of ${pair} still runs, both hosts will serve the same address. Is it certainly off?`,
      );
      return context.client.failover(
        { pair, force: true },
        { signal: context.signal, onProgress: context.progress(pair) },
      );
    });
    return rows({ view: pairView(() => context.clock.wallMs()), rows: pairs, failures });
  },
};

function forceNeeded(names: string[]): FtError {
  return new FtError({
    code: "FORCE_NEEDED",
    subject: names.map((name) => `pair ${name}`).join(", "),
    message: "this host cannot tell a dead primary from a cut link, so only you can decide this",
    hint: "Make sure that the primary's host is off, then add --force. To move a healthy service: ftctl switchover.",
    exitCode: ExitCode.refused,
  });
}
