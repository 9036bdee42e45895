/** Where a pair's things lie on a host: all on the run dir's tmpfs, gone with the host. */
import { join } from "node:path";

export interface PairPaths {
  dir: string;
  gateSocket: string;
  gateLog: string;
  beatKey: string;
  /** ftdump's images and logs. */
  dump: string;
  /** Blobs between dump and ship. */
  out: string;
  /** Blobs between receipt and commit. */
  spool: string;
  /** ftstore's state. */
  store: string;
  /** Images of the last takeover. */
  images: string;
  /** Mounted into a recorded container (mode hybrid); in it the event log. */
  logFolder: string;
  log: string;
  /** Of a standby: the frames around the log. */
  frames: string;
  roots: string;
  restoreLog: string;
  /** What the last restore's feeder has to say (native/feed). */
  feed: string;
}

export function pairPaths(runDir: string, pair: string): PairPaths {
  const dir = join(runDir, "pairs", pair);
  return {
    dir,
    gateSocket: join(dir, "gate.sock"),
    gateLog: join(dir, "gate.log"),
    beatKey: join(dir, "beat.key"),
    dump: join(dir, "dump"),
    out: join(dir, "out"),
    spool: join(dir, "spool"),
    store: join(dir, "store"),
    images: join(dir, "images"),
    logFolder: join(dir, "log"),
    log: join(dir, "log", "events"),
    frames: join(dir, "frames"),
    roots: join(dir, "roots"),
    restoreLog: join(dir, "restore.log"),
    feed: join(dir, "feed"),
  };
}
