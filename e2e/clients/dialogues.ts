/** Chooses the dialogues for a workload, and what its connections must agree on with each other. */
import { BankBooks, BankDialogue } from "./bank.js";
import type { Dialogue } from "./dialogue.js";
import { type Findings, noFindings } from "./findings.js";
import { HttpDialogue, workloadSite } from "./http.js";
import { checkTreeSums, DiskDialogue, EchoDialogue, SharedOrder, TreeDialogue } from "./lines.js";
import { MemcachedDialogue } from "./memcached.js";
import { CounterRaceDialogue, FlagRaceDialogue, LockedCounterDialogue } from "./race.js";
import { RedisDialogue } from "./redis.js";
import { type Workload, workloads } from "./report.js";

export interface DialogueSettings {
  run: string;
  valueBytes: number;
  /** nginx, lighttpd: one request in so many asks for the large file; 0: none. */
  largeEvery: number;
}

export interface Conversation {
  dialogueOf(connection: number): Dialogue;
  /** When all connections have ended: what only all of them together show. */
  conclude(unanswered: number): { findings: Findings; complaints: string[] };
}

export function conversationFor(workload: Workload, settings: DialogueSettings): Conversation {
  const { run, valueBytes } = settings;
  switch (workload) {
    case "redis":
      return alone((connection) => new RedisDialogue(run, connection, valueBytes));
    case "memcached":
      return alone((connection) => new MemcachedDialogue(run, connection, valueBytes));
    case "nginx":
    case "lighttpd": {
      const site = workloadSite(settings.largeEvery);
      return alone((connection) => new HttpDialogue(run, connection, site));
    }
    case "echo":
      return alone((connection) => new EchoDialogue(run, connection, valueBytes));
    case "disk":
      return ordered((connection, order) => new DiskDialogue(run, connection, order));
    case "tree":
      return ordered(
        (connection, order) => new TreeDialogue(run, connection, order),
        checkTreeSums,
      );
    case "bank":
      return bank(run);
    case "race-none":
      return ordered((connection, order) => new LockedCounterDialogue(run, connection, order));
    case "race-counter":
      return alone((connection) => new CounterRaceDialogue(run, connection));
    case "race-flag":
      return alone((connection) => new FlagRaceDialogue(run, connection));
    default:
      throw new Error(`workload ${String(workload)} is not one of ${workloads.join(", ")}`);
  }
}

function alone(dialogueOf: (connection: number) => Dialogue): Conversation {
  return { dialogueOf, conclude: () => ({ findings: noFindings(), complaints: [] }) };
}

function bank(run: string): Conversation {
  const books = new BankBooks();
  return {
    dialogueOf: (connection) => new BankDialogue(run, connection, books),
    conclude: (unanswered) => books.conclude(unanswered),
  };
}

function ordered(
  dialogueOf: (connection: number, order: SharedOrder) => Dialogue,
  check: (order: SharedOrder) => void = () => {},
): Conversation {
  const order = new SharedOrder();
  return {
    dialogueOf: (connection) => dialogueOf(connection, order),
    conclude: (unanswered) => {
      order.conclude(unanswered);
      check(order);
      return { findings: order.findings, complaints: order.complaints };
    },
  };
}
