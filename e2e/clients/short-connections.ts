/**
 * A load of short connections: one request each, then a new one. Counts what happens to connections that are
 * being opened while the service moves; those may be slow, and are reported apart from established ones.
 *
 * Invariant: at most `connections` are open at once; it ends at its bounds or when told to.
 */
import { ClientConnection } from "./connection.js";
import type { Conversation } from "./dialogues.js";
import { addFindings, noFindings } from "./findings.js";
import { LatencyRecorder, monotonicUs } from "./latency.js";
import { type LoadOptions, longest, type RunningLoad } from "./load.js";
import type { ClientReport, ConnectionLedger, Waiting } from "./report.js";

export class ShortConnections implements RunningLoad {
  readonly #options: LoadOptions;
  readonly #conversation: Conversation;
  readonly #latency = new LatencyRecorder();
  readonly #findings = noFindings();
  readonly #complaints: string[] = [];
  readonly #endings = { finished: 0, reset: 0, stalled: 0, refused: 0, garbage: 0 };
  readonly #open = new Set<ClientConnection>();
  #finishing = false;

  constructor(options: LoadOptions, conversation: Conversation) {
    this.#options = { ...options, requestsMax: 1, pipeline: 1 };
    this.#conversation = conversation;
  }

  async open(): Promise<void> {}

  async run(): Promise<ClientReport> {
    const startedUs = monotonicUs();
    const bound = setTimeout(() => this.finish(), this.#options.durationMsMax);
    const slots = Array.from({ length: this.#options.connections }, (_, slot) => this.#slot(slot));
    await Promise.all(slots);
    clearTimeout(bound);
    this.#findings.wrongReplies += this.#endings.garbage;
    const { workload, run, connections } = this.#options;
    return {
      ...{ workload, run, connections, startedUs },
      endedUs: monotonicUs(),
      acknowledged: this.acknowledged,
      resets: this.#endings.reset,
      stalled: this.#endings.stalled,
      refused: this.#endings.refused,
      findings: this.#findings,
      complaints: this.#complaints,
      latencyUs: this.#latency.summary(),
      gaps: this.#latency.gaps().slice(0, 200),
      timeline: this.#latency.timeline(),
      ledgers: [],
    };
  }

  finish(): void {
    this.#finishing = true;
  }

  get acknowledged(): number {
    return this.#endings.finished;
  }
  get openConnections(): number {
    return this.#options.connections;
  }
  get lastReplyUs(): number {
    return this.#latency.timeline().at(-1)?.atUs ?? 0;
  }
  waiting(): Waiting | undefined {
    return longest(this.#open);
  }
  ledgers(): ConnectionLedger[] {
    return [];
  }

  async #slot(slot: number): Promise<void> {
    while (!this.#finishing) {
      const dialogue = this.#conversation.dialogueOf(slot);
      const connection = new ClientConnection(this.#options, dialogue, this.#latency);
      this.#open.add(connection);
      await connection.open();
      connection.start();
      const ending = await connection.ended;
      this.#open.delete(connection);
      this.#endings[ending.kind] += 1;
      addFindings(this.#findings, dialogue.findings);
      if (this.#complaints.length < 20) this.#complaints.push(...dialogue.complaints);
      // Refused at once is refused again at once: no busy loop.
      if (ending.kind !== "finished") await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }
}
