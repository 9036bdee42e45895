import type { PairView } from "../../agent/api-types.js";
import { ExitCode } from "../../errors/error.js";
import { limits } from "../../limits.js";
import type { CommandSpec, Context } from "../context.js";
import { rows, stream } from "../output/result.js";
import { parseDuration } from "../settings.js";
import { isProtected, pairView } from "./pair-view.js";
import { each, type Several } from "./several.js";

export const statusCommand: CommandSpec<{ watch?: boolean; interval: string }> = {
  name: "status",
  summary: "Prove the protection: last epoch committed, what is held, pause and delay as measured",
  completes: "pair",
  timeoutMs: 2 * limits.controlCallTimeoutMs,
  examples: ["ftctl status redis", "ftctl status -w", "ftctl status redis -w -o json | jq .state"],
  configure(command) {
    command.argument("[pair...]", "names or id prefixes; default: all");
    command.option("-w, --watch", "again and again until Ctrl-C");
    command.option("--interval <duration>", "with --watch: distance between two looks", "1s");
    command.addHelpText("after", "\nExit code 5 when a pair is not fully protected.");
  },
  async run(context, names, options) {
    const view = pairView(() => context.clock.wallMs());
    if (options.watch) {
      const items = watch(context, names, Math.max(100, parseDuration(options.interval)));
      return stream({ view, items, redraw: true });
    }
    const { rows: pairs, failures } = await look(context, names);
    const exitCode = pairs.every(isProtected) ? ExitCode.ok : ExitCode.degraded;
    const empty = failures.length > 0 ? "" : "Nothing is protected on this host.";
    return rows({ view, rows: pairs, failures, exitCode, empty });
  },
};

async function look(context: Context, names: string[]): Promise<Several<PairView>> {
  const { client, signal } = context;
  if (names.length === 0) return { rows: await client.list(signal), failures: [] };
  return each(context, names, (name) => client.find(name, signal), true);
}

/** Ends with the first error: a pair that is gone, an agent that does not answer. */
async function* watch(
  context: Context,
  names: string[],
  intervalMs: number,
): AsyncGenerator<PairView[]> {
  for (;;) {
    context.signal.throwIfAborted();
    const { rows: pairs, failures } = await look(context, names);
    if (failures[0] !== undefined) throw failures[0];
    yield pairs;
    await context.clock.sleep(intervalMs, context.signal);
  }
}
