/** Chooses the read-back for a workload. */
import type { ConnectionLedger, VerifyReport, Workload } from "../clients/report.js";
import { verifyBank } from "./bank.js";
import { verifyDisk } from "./disk.js";
import { verifyMemcached } from "./memcached.js";
import { ReadBack } from "./read-back.js";
import { verifyRedis } from "./redis.js";

export interface VerifyTarget {
  host: string;
  port: number;
  run: string;
  valueBytes: number;
  timeoutMs: number;
  ledgers: ConnectionLedger[];
}

export async function verify(workload: Workload, target: VerifyTarget): Promise<VerifyReport> {
  switch (workload) {
    case "redis":
      return verifyRedis(target);
    case "memcached":
      return verifyMemcached(target);
    case "disk":
      return verifyDisk(target);
    case "bank":
      return verifyBank(target);
    default:
      // Each reply of these was compared in full when it came; there is nothing left behind to read.
      return new ReadBack().report();
  }
}
