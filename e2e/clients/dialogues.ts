/** Chooses the dialogue for a workload. */
import type { Dialogue } from "./dialogue.js";
import { HttpDialogue, testSite } from "./http.js";
import { MemcachedDialogue } from "./memcached.js";
import { RedisDialogue } from "./redis.js";
import type { Workload } from "./report.js";

export interface DialogueSettings {
  run: string;
  valueBytes: number;
  /** nginx: how many files there are, each of `valueBytes`. */
  files: number;
}

export function dialogueFor(
  workload: Workload,
  settings: DialogueSettings,
): (connection: number) => Dialogue {
  const { run, valueBytes } = settings;
  switch (workload) {
    case "redis":
      return (connection) => new RedisDialogue(run, connection, valueBytes);
    case "memcached":
      return (connection) => new MemcachedDialogue(run, connection, valueBytes);
    case "nginx": {
      const site = testSite(settings.files, valueBytes);
      return (connection) => new HttpDialogue(run, connection, site);
    }
    default:
      throw new Error(`no dialogue for ${workload}`);
  }
}
