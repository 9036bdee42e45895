/** Reads back what the memcached load wrote: counters and every single value. */
import { Asker } from "../clients/ask.js";
import { payloadFor } from "../clients/payload.js";
import { redisKeys } from "../clients/redis.js";
import type { ConnectionLedger, VerifyReport } from "../clients/report.js";
import { ReadBack } from "./read-back.js";
import type { VerifyTarget } from "./verify.js";

const keysPerRequest = 100;

export async function verifyMemcached(target: VerifyTarget): Promise<VerifyReport> {
  const readBack = new ReadBack();
  // Side by side, since under protection each answer waits for a checkpoint.
  await Promise.all(
    target.ledgers.map(async (ledger) => {
      const asker = await Asker.open(target.host, target.port, target.timeoutMs);
      try {
        await verifyConnection(asker, readBack, target, ledger);
      } finally {
        asker.close();
      }
    }),
  );
  return readBack.report();
}

async function verifyConnection(
  asker: Asker,
  readBack: ReadBack,
  target: VerifyTarget,
  ledger: ConnectionLedger,
): Promise<void> {
  if (ledger.sent === 0) return;
  const { run, valueBytes } = target;
  const { connection, sent, acknowledged } = ledger;
  const counterKey = redisKeys.counter(run, connection);
  const counter = (await get(asker, [counterKey])).get(counterKey);
  readBack.counter(ledger, Number(counter ?? 0));
  for (let from = 1; from <= sent; from += keysPerRequest) {
    const to = Math.min(from + keysPerRequest - 1, sent);
    const numbers = Array.from({ length: to - from + 1 }, (_, i) => from + i);
    const values = await get(
      asker,
      numbers.map((n) => redisKeys.value(run, connection, n)),
    );
    for (const n of numbers) {
      readBack.checked(1);
      const value = values.get(redisKeys.value(run, connection, n));
      const what = `connection ${connection}: value ${n}`;
      if (value === undefined) {
        if (n <= acknowledged) readBack.complain("lostWrites", `${what} is gone`);
      } else if (value !== payloadFor(run, connection, n, valueBytes)) {
        readBack.complain("wrongReplies", `${what} is ${JSON.stringify(value)}`);
      }
    }
  }
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
