/** Reads back what the redis load wrote: counters, lists and every single value. */
import type { Asker } from "../clients/ask.js";
import { redisKeys } from "../clients/redis.js";
import type { VerifyReport } from "../clients/report.js";
import { encodeCommand, RespDecoder, type RespValue, showValue } from "../clients/resp.js";
import { verifyKeyValue } from "./key-value.js";
import type { VerifyTarget } from "./verify.js";

export function verifyRedis(target: VerifyTarget): Promise<VerifyReport> {
  return verifyKeyValue(target, {
    keysPerRequest: 4_000,
    counter: async (asker, key) => Number((await command(asker, "GET", key)) ?? 0),
    values,
    more: async (asker, readBack, { run }, ledger) => {
      const list = await command(asker, "LRANGE", redisKeys.list(run, ledger.connection), 0, -1);
      readBack.sequence(ledger, Array.isArray(list) ? list.map(Number) : []);
    },
  });
}

async function values(asker: Asker, keys: string[]): Promise<(string | undefined)[]> {
  const found = await command(asker, "MGET", ...keys);
  if (!Array.isArray(found)) throw new Error(`MGET answered ${showValue(found)}`);
  return found.map((value) => {
    if (value === null) return undefined;
    return typeof value === "string" ? value : showValue(value);
  });
}

async function command(asker: Asker, ...parts: (string | number)[]): Promise<RespValue> {
  const decoder = new RespDecoder();
  const [value] = await asker.ask(encodeCommand(...parts), (chunk) => {
    const values = decoder.push(chunk);
    return values.length > 0 ? values : undefined;
  });
  return value ?? null;
}
