/** A closed-loop load: N connections, each with its own dialogue, bounded in requests and time. */
import { ClientConnection, type ConnectionOptions, type Ending } from "./connection.js";
import type { Dialogue } from "./dialogue.js";
import type { Conversation } from "./dialogues.js";
import { addFindings, noFindings } from "./findings.js";
import { LatencyRecorder, monotonicUs } from "./latency.js";
import type { ClientReport, ConnectionLedger, Waiting, Workload } from "./report.js";

export interface LoadOptions extends ConnectionOptions {
  workload: Workload;
  run: string;
  connections: number;
  durationMsMax: number;
}

/** What the worker needs of a load. */
export interface RunningLoad {
  open(): Promise<void>;
  run(): Promise<ClientReport>;
  finish(): void;
  readonly acknowledged: number;
  readonly openConnections: number;
  readonly lastReplyUs: number;
  /** Who has waited longest for an answer. */
  waiting(): Waiting | undefined;
  ledgers(): ConnectionLedger[];
}

export function longest(connections: Iterable<ClientConnection>): Waiting | undefined {
  let found: Waiting | undefined;
  for (const { waiting } of connections)
    if (waiting && (!found || waiting.sinceUs < found.sinceUs)) found = waiting;
  return found;
}

export class Load implements RunningLoad {
  readonly #options: LoadOptions;
  readonly #conversation: Conversation;
  readonly #latency = new LatencyRecorder();
  readonly #dialogues: Dialogue[];
  readonly #connections: ClientConnection[];
  readonly #endings = new Map<number, Ending>();
  #startedUs = 0;

  constructor(options: LoadOptions, conversation: Conversation) {
    this.#options = options;
    this.#conversation = conversation;
    const numbers = Array.from({ length: options.connections }, (_, i) => i);
    this.#dialogues = numbers.map((number) => conversation.dialogueOf(number));
    this.#connections = this.#dialogues.map(
      (dialogue) => new ClientConnection(options, dialogue, this.#latency),
    );
  }

  /** Resolves when every connection is up or has failed. */
  async open(): Promise<void> {
    await Promise.all(this.#connections.map((connection) => connection.open()));
    this.#connections.forEach((connection, i) => {
      connection.ended.then((ending) => this.#endings.set(i, ending));
    });
    await Promise.resolve();
  }

  /** Asks until `finish()`, the time bound, the request bound or the end of every connection. */
  async run(): Promise<ClientReport> {
    this.#startedUs = monotonicUs();
    const bound = setTimeout(() => this.finish(), this.#options.durationMsMax);
    for (const connection of this.#connections) connection.start();
    await Promise.all(this.#connections.map((connection) => connection.ended));
    clearTimeout(bound);
    return this.#report();
  }

  finish(): void {
    for (const connection of this.#connections) connection.finish();
  }

  get acknowledged(): number {
    return this.#dialogues.reduce((sum, dialogue) => sum + dialogue.acknowledged, 0);
  }
  get openConnections(): number {
    return this.#options.connections - this.#endings.size;
  }
  get lastReplyUs(): number {
    return this.#latency.timeline().at(-1)?.atUs ?? 0;
  }

  waiting(): Waiting | undefined {
    return longest(this.#connections);
  }

  ledgers(): ConnectionLedger[] {
    return this.#dialogues.map((dialogue, i) => {
      const ending = this.#endings.get(i);
      return {
        connection: dialogue.connection,
        sent: dialogue.sent,
        acknowledged: dialogue.acknowledged,
        ending: ending && "detail" in ending ? `${ending.kind}: ${ending.detail}` : "finished",
      };
    });
  }

  #report(): ClientReport {
    const endings = [...this.#endings.values()];
    const count = (...kinds: Ending["kind"][]) =>
      endings.filter((ending) => kinds.includes(ending.kind)).length;
    const findings = this.#dialogues.reduce(
      (sum, dialogue) => addFindings(sum, dialogue.findings),
      noFindings(),
    );
    findings.wrongReplies += count("garbage");
    const unanswered = this.#dialogues.reduce((sum, dialogue) => sum + dialogue.outstanding, 0);
    const together = this.#conversation.conclude(unanswered);
    addFindings(findings, together.findings);
    const own = this.#dialogues.flatMap((dialogue) => dialogue.complaints);
    return {
      workload: this.#options.workload,
      run: this.#options.run,
      connections: this.#options.connections,
      startedUs: this.#startedUs,
      endedUs: monotonicUs(),
      acknowledged: this.acknowledged,
      resets: count("reset"),
      stalled: count("stalled"),
      refused: count("refused"),
      findings,
      complaints: [...together.complaints, ...own].slice(0, 20),
      latencyUs: this.#latency.summary(),
      gaps: this.#latency.gaps().slice(0, 200),
      timeline: this.#latency.timeline(),
      ledgers: this.ledgers(),
    };
  }
}
