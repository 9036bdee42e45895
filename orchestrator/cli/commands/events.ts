import type { FtEvent } from "../../agent/api-types.js";
import { limits } from "../../limits.js";
import type { CommandSpec, Context } from "../context.js";
import { stream, type Tone, type View } from "../output/result.js";
import { usage } from "../settings.js";

const TONES: Record<FtEvent["level"], Tone> = { info: "plain", warning: "busy", error: "bad" };

const view: View<FtEvent> = {
  name: (event) => event.type,
  columns: [
    { header: "AT", cell: (event) => event.at, tone: () => "dim" },
    { header: "SEQ", cell: (event) => String(event.seq), wide: true },
    { header: "LEVEL", cell: (event) => event.level.padEnd(7), tone: (e) => TONES[e.level] },
    { header: "HOST", cell: (event) => event.host },
    { header: "NAME", cell: (event) => event.name ?? event.pair ?? "-" },
    { header: "TYPE", cell: (event) => event.type },
    { header: "MESSAGE", cell: (event) => event.message },
    { header: "FIELDS", cell: fields, wide: true },
  ],
};

function fields(event: FtEvent): string {
  return Object.entries(event.fields ?? {})
    .map(([key, value]) => `${key}=${value}`)
    .join(" ");
}

export const eventsCommand: CommandSpec<{ follow?: boolean; after?: string }> = {
  name: "events",
  summary: "What happened on this host, oldest first",
  completes: "pair",
  examples: [
    "ftctl events",
    "ftctl events -f redis",
    "ftctl events -f -o json | jq -c 'select(.level != \"info\")'",
  ],
  configure(command) {
    command.argument("[pair...]", "only these, by name or id prefix");
    command.option("-f, --follow", "go on with what happens, until Ctrl-C");
    command.option("--after <seq>", "only events after this number");
  },
  async run(context, names, options) {
    return stream({ view, items: items(context, names, options), redraw: false });
  },
};

/** Names are matched here, not by the agent: the events of a pair outlive the pair. */
async function* items(
  context: Context,
  names: string[],
  options: { follow?: boolean; after?: string },
): AsyncGenerator<FtEvent[]> {
  const signal = options.follow
    ? context.signal
    : AbortSignal.any([context.signal, AbortSignal.timeout(2 * limits.controlCallTimeoutMs)]);
  const after = sequence(options.after);
  const events = context.client.events({ follow: options.follow === true, after, signal });
  for await (const event of events) {
    if (names.length === 0 || names.some((name) => concerns(event, name))) yield [event];
  }
}

function concerns(event: FtEvent, name: string): boolean {
  return event.name === name || (event.pair?.startsWith(name) ?? false);
}

function sequence(text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  if (/^\d{1,15}$/.test(text)) return Number(text);
  throw usage(
    `--after ${text}`,
    "expected the number of an event, as `ftctl events -o wide` shows",
  );
}
