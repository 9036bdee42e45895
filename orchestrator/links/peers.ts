/**
 * The hosts this one knows: those written in the configuration, and those learnt by joining. A peer's
 * certificate must name a host listed here, besides being signed by our authority.
 *
 * Invariants: names are unique; our own name is never in the list; the file is replaced atomically, so a
 * reader sees the old list or the new one.
 */
import { EventEmitter } from "node:events";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { z } from "zod";
import { FtError, invariant } from "../errors/error.js";
import { hostNameSchema } from "./host-name.js";
import { replaceFile } from "./replace-file.js";

const port = z.int().min(1).max(65_535);

export const DEFAULT_PORTS = { control: 7400, stream: 7401, join: 7402, heartbeat: 7410 } as const;

export const peerSchema = z.strictObject({
  host: hostNameSchema,
  /** On the replication network. */
  address: z.union([z.ipv4(), z.ipv6()]),
  controlPort: port,
  streamPort: port,
});
export type Peer = z.infer<typeof peerSchema>;

const PEERS_MAX = 64;
const fileSchema = z.strictObject({
  format: z.literal("ftctl-peers"),
  version: z.literal(1),
  peers: z.array(peerSchema).max(PEERS_MAX),
});

export class PeerBook {
  readonly #self: string;
  readonly #file: string;
  readonly #changes = new EventEmitter();
  #configured: Peer[];
  #learnt: Peer[];

  /** `configured` wins over what was learnt under the same name. */
  constructor(options: { stateDir: string; self: string; configured?: Peer[] | undefined }) {
    this.#self = options.self;
    this.#file = join(options.stateDir, "peers.json");
    this.#configured = (options.configured ?? []).filter((peer) => peer.host !== options.self);
    this.#learnt = readPeers(this.#file).filter((peer) => peer.host !== options.self);
  }

  list(): Peer[] {
    const learnt = this.#learnt.filter(
      (peer) => !this.#configured.some((c) => c.host === peer.host),
    );
    return [...this.#configured, ...learnt];
  }

  find(host: string): Peer | undefined {
    return this.list().find((peer) => peer.host === host);
  }

  /** Adds a peer or replaces the one of that name; on disk when this returns. */
  add(peer: Peer): void {
    invariant(peer.host !== this.#self, "a host is not its own peer");
    const others = this.#learnt.filter((known) => known.host !== peer.host);
    if (others.length >= PEERS_MAX) {
      throw new FtError({
        code: "TOO_MANY_PEERS",
        subject: `host ${peer.host}`,
        message: `this host already knows ${PEERS_MAX} peers`,
      });
    }
    this.#learnt = [...others, peer];
    writePeers(this.#file, this.#learnt);
    this.#changes.emit("change");
  }

  /** Takes over hosts heard of from a peer that we did not know; never changes one that we do. */
  learn(peers: Peer[]): void {
    for (const peer of peers) {
      if (peer.host !== this.#self && this.find(peer.host) === undefined) this.add(peer);
    }
  }

  /** Calls `listener` after each change; returns what stops that. */
  onChange(listener: () => void): () => void {
    this.#changes.on("change", listener);
    return () => void this.#changes.off("change", listener);
  }
}

export function writePeers(file: string, peers: Peer[]): void {
  const content = { format: "ftctl-peers", version: 1, peers };
  replaceFile(file, `${JSON.stringify(content, null, 2)}\n`, 0o644);
}

function readPeers(file: string): Peer[] {
  if (!existsSync(file)) return [];
  try {
    return fileSchema.parse(JSON.parse(readFileSync(file, "utf8"))).peers;
  } catch (cause) {
    throw new FtError({
      code: "STATE_CORRUPT",
      subject: file,
      message: `the list of peers cannot be read: ${(cause as Error).message}`,
      hint: "Restore the file, or remove it and join again.",
      cause,
    });
  }
}

/** `192.0.2.1`, `192.0.2.1:7402`, `fd00::1`, `[fd00::1]:7402`, or a name; the default port is that of joining. */
export function splitAddress(text: string): { host: string; port: number } {
  const match = /^(?:\[([^\]]+)\]|([^:]+)):(\d{1,5})$/.exec(text);
  if (match === null) return { host: text.replace(/^\[(.*)\]$/, "$1"), port: DEFAULT_PORTS.join };
  return { host: match[1] ?? match[2] ?? "", port: Number(match[3]) };
}
