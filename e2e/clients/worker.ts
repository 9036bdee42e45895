/**
 * The load client's process, run inside the client's network namespace:
 *
 *   node worker.js '<ClientOptions as JSON>'
 *
 * Commands on stdin, a line each: `stop`, `verify`, `quit`. Answers on stdout, a ClientLine as JSON each.
 * It stops by itself at its bounds and when stdin closes.
 */
import { createInterface } from "node:readline";
import { verify } from "../checkers/verify.js";
import { conversationFor } from "./dialogues.js";
import { monotonicUs } from "./latency.js";
import { Load, type RunningLoad } from "./load.js";
import { type ClientOptions, clientOptions } from "./options.js";
import type { ClientLine } from "./report.js";
import { ShortConnections } from "./short-connections.js";

const progressEveryMs = 100;
/** After the load has ended, wait so long for `verify` or `quit`. */
const idleMsMax = 300_000;

function say(line: ClientLine): void {
  process.stdout.write(`${JSON.stringify(line)}\n`);
}

async function readBack(options: ClientOptions, load: RunningLoad): Promise<void> {
  const { workload, host, port, run, valueBytes } = options;
  const target = { host, port, run, valueBytes, timeoutMs: 30_000, ledgers: load.ledgers() };
  say({ kind: "verified", verify: await verify(workload, target) });
}

async function work(options: ClientOptions): Promise<void> {
  const conversation = conversationFor(options.workload, options);
  const load: RunningLoad = options.shortConnections
    ? new ShortConnections(options, conversation)
    : new Load(options, conversation);
  let finished: Promise<unknown> = Promise.resolve();
  const commands = createInterface({ input: process.stdin });
  commands.on("line", (line) => {
    if (line === "stop") load.finish();
    else if (line === "verify") finished.then(() => readBack(options, load)).catch(fail);
    else if (line === "quit") process.exit(0);
  });
  commands.on("close", () => process.exit(0));
  await load.open();
  say({ kind: "ready", connections: load.openConnections });
  const ticker = setInterval(() => {
    const { acknowledged, openConnections: open, lastReplyUs } = load;
    const waiting = load.waiting();
    say({ kind: "progress", nowUs: monotonicUs(), acknowledged, open, lastReplyUs, waiting });
  }, progressEveryMs);
  const running = load.run();
  finished = running;
  const report = await running;
  clearInterval(ticker);
  say({ kind: "report", report });
  setTimeout(() => process.exit(0), idleMsMax);
}

function fail(error: unknown): void {
  const message = error instanceof Error ? (error.stack ?? error.message) : String(error);
  process.stdout.write(`${JSON.stringify({ kind: "failed", message })}\n`, () => process.exit(1));
}

work(clientOptions(JSON.parse(process.argv[2] ?? "{}"))).catch(fail);
