/** Reads back every record of the append-only writer. */
import { Asker, askLines } from "../clients/ask.js";
import { diskText } from "../clients/lines.js";
import type { VerifyReport } from "../clients/report.js";
import { ReadBack } from "./read-back.js";
import type { VerifyTarget } from "./verify.js";

const readsPerBatch = 500;

export async function verifyDisk(target: VerifyTarget): Promise<VerifyReport> {
  const asker = await Asker.open(target.host, target.port, target.timeoutMs);
  const readBack = new ReadBack();
  try {
    const [sound] = await askLines(asker, ["verify"]);
    const counted = /^ok (\d+)$/.exec(sound ?? "");
    if (!counted) readBack.complain("wrongReplies", `the file is not sound: ${sound}`);
    const [count] = await askLines(asker, ["count"]);
    const records = await readAll(asker, Number(/^ok (\d+)$/.exec(count ?? "")?.[1] ?? 0));
    for (const ledger of target.ledgers) {
      const prefix = diskText(target.run, ledger.connection, 0).replace(/0$/, "");
      const own = records.filter((text) => text.startsWith(prefix));
      readBack.sequence(
        ledger,
        own.map((text) => Number(text.slice(prefix.length))),
      );
    }
  } finally {
    asker.close();
  }
  return readBack.report();
}

async function readAll(asker: Asker, count: number): Promise<string[]> {
  const records: string[] = [];
  for (let from = 1; from <= count; from += readsPerBatch) {
    const to = Math.min(from + readsPerBatch - 1, count);
    const requests = Array.from({ length: to - from + 1 }, (_, i) => `read ${from + i}`);
    const replies = await askLines(asker, requests);
    for (const reply of replies) records.push(/^ok \d+ (.*)$/.exec(reply)?.[1] ?? "");
  }
  return records;
}
