/** Reads back what the memcached load wrote: counters and every single value. */
import type { Asker } from "../clients/ask.js";
import type { VerifyReport } from "../clients/report.js";
import { verifyKeyValue } from "./key-value.js";
import type { VerifyTarget } from "./verify.js";

export function verifyMemcached(target: VerifyTarget): Promise<VerifyReport> {
  return verifyKeyValue(target, {
    keysPerRequest: 100,
    counter: async (asker, key) => Number((await get(asker, [key])).get(key) ?? 0),
    values: async (asker, keys) => {
      const values = await get(asker, keys);
      return keys.map((key) => values.get(key));
    },
  });
}

/** `get` of several keys; those that are missing are missing in the answer. */
function get(asker: Asker, keys: string[]): Promise<Map<string, string>> {
  let text = "";
  return asker.ask(`get ${keys.join(" ")}\r\n`, (chunk) => {
    text += chunk.toString("latin1");
    return text.endsWith("END\r\n") ? parseValues(text) : undefined;
  });
}

function parseValues(text: string): Map<string, string> {
  const values = new Map<string, string>();
  let at = 0;
  for (;;) {
    const header = /^VALUE (\S+) \d+ (\d+)\r\n/.exec(text.slice(at, at + 400));
    if (!header) return values;
    const start = at + header[0].length;
    const length = Number(header[2]);
    values.set(header[1]!, text.slice(start, start + length));
    at = start + length + 2;
  }
}
