/** Epochs that arrive on the stream port, on their way to the pair's store. */
import { mkdirSync } from "node:fs";
import { asFtError } from "../errors/error.js";
import type { EpochReply } from "../links/frame.js";
import type { ReceivedEpoch } from "../links/stream-receiver.js";
import { commitEpoch } from "../pair/standby.js";
import type { Pairs } from "./pairs.js";
import { pairPaths } from "./paths.js";

export function receiveEpoch(runDir: string, pairs: Pairs) {
  return {
    spoolOf(id: string, peer: string): string | undefined {
      const pair = pairs.get(id);
      if (pair?.record.role !== "standby" || pair.record.peer !== peer) return undefined;
      const { spool } = pairPaths(runDir, id);
      mkdirSync(spool, { recursive: true, mode: 0o700 });
      return spool;
    },
    async onEpoch({ pair: id, epoch, generation, path }: ReceivedEpoch): Promise<EpochReply> {
      const pair = pairs.get(id);
      if (!pair) return refused("NOT_FOUND", "the pair was removed");
      try {
        const { commitMs } = await commitEpoch(pair, epoch, generation, path);
        return { outcome: "committed", commitMs };
      } catch (error) {
        const { code, message } = asFtError(error, `epoch ${epoch}`);
        pair.event("epoch-refused", "warning", `epoch ${epoch}: ${message}`, { epoch, code });
        return refused(code, message);
      }
    },
  };
}

function refused(code: string, detail: string): EpochReply {
  return { outcome: "refused", code, errno: 0, detail };
}
