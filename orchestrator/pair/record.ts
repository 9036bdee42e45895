/**
 * What a host remembers of a pair across restarts and power loss: `<stateDir>/pairs/<id>.json`.
 *
 * Invariants:
 *  R1  The generation in the record is raised and on disk before the first frame of that generation leaves.
 *  R2  A record is whole or absent: written to a temporary file, synced, renamed; checksummed.
 */

import { createHash } from "node:crypto";
import { existsSync } from "node:fs";
import { mkdir, open, readdir, readFile, rename, unlink } from "node:fs/promises";
import { dirname, join } from "node:path";
import { z } from "zod";
import { FtError } from "../errors/error.js";

const MAGIC = "ftctl-pair";
const VERSION = 1;

export const pairRecordSchema = z.strictObject({
  id: z.string().regex(/^[0-9a-f]{12}$/),
  name: z.string().min(1).max(128),
  role: z.enum(["primary", "standby"]),
  generation: z.int().min(1),
  peer: z.string().min(1),
  /** Highest epoch number this pair ever used, as of the last write; epochs after it are in the gate. */
  lastEpoch: z.int().min(0),
  policyName: z.string(),
  /** The resolved policy, as it was when the pair was made or last changed by `apply`. */
  policy: z.record(z.string(), z.unknown()),
  image: z.string(),
  imageId: z.string(),
  /** Docker create options of the protected container, the same on both hosts. */
  containerSpec: z.record(z.string(), z.unknown()),
  /** Docker create options of the plain container that `unprotect` makes again. */
  plainSpec: z.record(z.string(), z.unknown()),
  containerId: z.string(),
  /** The original, stopped and renamed, on the host where `protect` ran; empty elsewhere. */
  originalId: z.string(),
  network: z.strictObject({
    address: z.string(),
    gateway: z.string().optional(),
    uplink: z.string(),
    mac: z.string(),
    mtu: z.int(),
  }),
  /** 16 bytes in hex; authenticates the heartbeats of this pair's two gates. */
  beatKey: z.string().regex(/^[0-9a-f]{32}$/),
  /** UDP port of the heartbeats, the same on both hosts. */
  beatPort: z.int(),
  /** The role is being left or taken; decides how a restarted agent goes on. */
  phase: z.enum(["steady", "takingOver", "standingDown", "stopped"]),
  createdAt: z.string(),
});
export type PairRecord = z.infer<typeof pairRecordSchema>;

export class PairRecords {
  constructor(private readonly dir: string) {}

  async load(): Promise<{ records: PairRecord[]; broken: FtError[] }> {
    await mkdir(this.dir, { recursive: true, mode: 0o700 });
    const records: PairRecord[] = [];
    const broken: FtError[] = [];
    for (const file of (await readdir(this.dir)).filter((name) => name.endsWith(".json"))) {
      const path = join(this.dir, file);
      try {
        records.push(decodeRecord(await readFile(path, "utf8"), path));
      } catch (error) {
        broken.push(error as FtError);
      }
    }
    return { records, broken };
  }

  /** Whether there is one, whole or broken. */
  has(id: string): boolean {
    return existsSync(this.pathOf(id));
  }

  async save(record: PairRecord): Promise<void> {
    const path = this.pathOf(record.id);
    await mkdir(dirname(path), { recursive: true, mode: 0o700 });
    const temporary = `${path}.new`;
    const file = await open(temporary, "w", 0o600);
    try {
      await file.writeFile(encodeRecord(record));
      await file.datasync();
    } finally {
      await file.close();
    }
    await rename(temporary, path);
    const dir = await open(dirname(path), "r");
    await dir.sync().finally(() => dir.close());
  }

  async remove(id: string): Promise<void> {
    await unlink(this.pathOf(id)).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== "ENOENT") throw error;
    });
  }

  private pathOf(id: string): string {
    return join(this.dir, `${id}.json`);
  }
}

export function encodeRecord(record: PairRecord): string {
  const body = JSON.stringify(pairRecordSchema.parse(record));
  const sha256 = createHash("sha256").update(body).digest("hex");
  return JSON.stringify({ magic: MAGIC, version: VERSION, sha256, body });
}

const envelopeSchema = z.strictObject({
  magic: z.literal(MAGIC),
  version: z.int(),
  sha256: z.string(),
  body: z.string(),
});

/** Throws `RECORD_BROKEN` for anything that is not a whole record of a version we know. */
export function decodeRecord(text: string, subject: string): PairRecord {
  try {
    const envelope = envelopeSchema.parse(JSON.parse(text));
    if (envelope.version !== VERSION) throw new Error(`version ${envelope.version} is not known`);
    const sha256 = createHash("sha256").update(envelope.body).digest("hex");
    if (sha256 !== envelope.sha256) throw new Error("the checksum does not match");
    return pairRecordSchema.parse(JSON.parse(envelope.body));
  } catch (cause) {
    throw new FtError({
      code: "RECORD_BROKEN",
      subject,
      message: `the pair's record cannot be read: ${(cause as Error).message.split("\n")[0]}`,
      hint: "The pair is left alone. Restore the file, or remove it and protect the container again.",
      cause,
    });
  }
}
