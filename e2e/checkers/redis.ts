/** Reads back what the redis load wrote: counters, lists and every single value. */
import { Asker } from "../clients/ask.js";
import { payloadFor } from "../clients/payload.js";
import { redisKeys } from "../clients/redis.js";
import type { ConnectionLedger, VerifyReport } from "../clients/report.js";
import { encodeCommand, RespDecoder, type RespValue, showValue } from "../clients/resp.js";
import { ReadBack } from "./read-back.js";
import type { VerifyTarget } from "./verify.js";

const keysPerRequest = 4_000;

export async function verifyRedis(target: VerifyTarget): Promise<VerifyReport> {
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
  const { run } = target;
  const { connection } = ledger;
  const counter = await command(asker, "GET", redisKeys.counter(run, connection));
  readBack.counter(ledger, Number(counter ?? 0));
  const list = await command(asker, "LRANGE", redisKeys.list(run, connection), 0, -1);
  readBack.sequence(ledger, Array.isArray(list) ? list.map(Number) : []);
  for (let from = 1; from <= ledger.sent; from += keysPerRequest) {
    const to = Math.min(from + keysPerRequest - 1, ledger.sent);
    const numbers = Array.from({ length: to - from + 1 }, (_, i) => from + i);
    const values = await command(
      asker,
      "MGET",
      ...numbers.map((n) => redisKeys.value(run, connection, n)),
    );
    if (!Array.isArray(values)) throw new Error(`MGET answered ${showValue(values)}`);
    numbers.forEach((n, i) => {
      judgeValue(readBack, target, ledger, n, values[i] ?? null);
    });
  }
}

function judgeValue(
  readBack: ReadBack,
  target: VerifyTarget,
  ledger: ConnectionLedger,
  n: number,
  value: RespValue,
): void {
  readBack.checked(1);
  const what = `connection ${ledger.connection}: value ${n}`;
  if (value === null) {
    if (n <= ledger.acknowledged) readBack.complain("lostWrites", `${what} is gone`);
  } else if (value !== payloadFor(target.run, ledger.connection, n, target.valueBytes)) {
    readBack.complain("wrongReplies", `${what} is ${showValue(value)}`);
  }
}

async function command(asker: Asker, ...parts: (string | number)[]): Promise<RespValue> {
  const decoder = new RespDecoder();
  const [value] = await asker.ask(encodeCommand(...parts), (chunk) => {
    const values = decoder.push(chunk);
    return values.length > 0 ? values : undefined;
  });
  return value ?? null;
}
