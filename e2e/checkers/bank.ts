/** Reads the bank's books: the sum it must have, and the last order of each client. */
import { Asker, askLines } from "../clients/ask.js";
import { bankClient, bankSum } from "../clients/bank.js";
import type { VerifyReport } from "../clients/report.js";
import { ReadBack } from "./read-back.js";
import type { VerifyTarget } from "./verify.js";

export async function verifyBank(target: VerifyTarget): Promise<VerifyReport> {
  const asker = await Asker.open(target.host, target.port, target.timeoutMs);
  const readBack = new ReadBack();
  try {
    const [books = ""] = await askLines(asker, ["books"]);
    readBack.checked(1);
    if (Number(/^ok (-?\d+) \d+$/.exec(books)?.[1]) !== bankSum) {
      readBack.complain("wrongReplies", `the books are wrong: ${books}`);
    }
    for (const ledger of target.ledgers) {
      const asked = `applied ${bankClient(target.run, ledger.connection)}`;
      const [reply = ""] = await askLines(asker, [asked]);
      const last = /^ok (\d+)$/.exec(reply)?.[1];
      if (last === undefined) readBack.complain("wrongReplies", `${asked}: ${reply}`);
      else readBack.counter(ledger, Number(last));
    }
  } finally {
    asker.close();
  }
  return readBack.report();
}
