/** The read-back of services that keep a counter of each connection and one value of each request. */
import { Asker } from "../clients/ask.js";
import { payloadFor } from "../clients/payload.js";
import { redisKeys } from "../clients/redis.js";
import type { ConnectionLedger, VerifyReport } from "../clients/report.js";
import { ReadBack } from "./read-back.js";
import type { VerifyTarget } from "./verify.js";

/** How one kind of service is asked. */
export interface KeyValueReads {
  keysPerRequest: number;
  counter(asker: Asker, key: string): Promise<number>;
  /** One a key, in their order; undefined: it has none. */
  values(asker: Asker, keys: string[]): Promise<(string | undefined)[]>;
  /** What else it keeps of a connection. */
  more?(
    asker: Asker,
    readBack: ReadBack,
    target: VerifyTarget,
    ledger: ConnectionLedger,
  ): Promise<void>;
}

export async function verifyKeyValue(
  target: VerifyTarget,
  reads: KeyValueReads,
): Promise<VerifyReport> {
  const readBack = new ReadBack();
  // Side by side, since under protection each answer waits for a checkpoint.
  await Promise.all(
    target.ledgers.map(async (ledger) => {
      const asker = await Asker.open(target.host, target.port, target.timeoutMs);
      try {
        await verifyConnection(asker, reads, readBack, target, ledger);
      } finally {
        asker.close();
      }
    }),
  );
  return readBack.report();
}

async function verifyConnection(
  asker: Asker,
  reads: KeyValueReads,
  readBack: ReadBack,
  target: VerifyTarget,
  ledger: ConnectionLedger,
): Promise<void> {
  if (ledger.sent === 0) return;
  const { run, valueBytes } = target;
  const { connection, sent } = ledger;
  readBack.counter(ledger, await reads.counter(asker, redisKeys.counter(run, connection)));
  await reads.more?.(asker, readBack, target, ledger);
  for (let from = 1; from <= sent; from += reads.keysPerRequest) {
    const to = Math.min(from + reads.keysPerRequest - 1, sent);
    const numbers = Array.from({ length: to - from + 1 }, (_, i) => from + i);
    const keys = numbers.map((n) => redisKeys.value(run, connection, n));
    const values = await reads.values(asker, keys);
    for (const [i, n] of numbers.entries()) {
      readBack.value(ledger, n, values[i], payloadFor(run, connection, n, valueBytes));
    }
  }
}
