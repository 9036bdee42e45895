/** The other agents as the pairs use them: one control client per peer, kept as long as the peer is known. */

import { PassThrough } from "node:stream";
import type { Logger } from "pino";
import type { Engine } from "../docker/engine.js";
import { sendImage } from "../docker/image.js";
import { ExitCode, FtError } from "../errors/error.js";
import { ControlClient } from "../links/control-client.js";
import type { Identity } from "../links/identity.js";
import type { Peer, PeerBook } from "../links/peers.js";
import type { PeerControl } from "../pair/ports.js";
import type { AgentInfo } from "./api-types.js";
import { type PeerMethods, type PeerUploads, peerMethods, peerUploads } from "./peer-methods.js";

type Client = ControlClient<PeerMethods, PeerUploads>;

export interface PeerClientsOptions {
  identity: Identity;
  book: PeerBook;
  version: string;
  engine: Engine;
  log: Logger;
}

export class PeerClients {
  private readonly clients = new Map<string, Client>();

  constructor(private readonly options: PeerClientsOptions) {
    this.refresh();
    options.book.onChange(() => this.refresh());
  }

  close(): void {
    for (const client of this.clients.values()) client.close();
  }

  describe(): AgentInfo["peers"] {
    return [...this.clients.values()].map(({ peer, connection }) =>
      connection.state === "connected"
        ? { host: peer.host, state: "connected", version: connection.version }
        : { host: peer.host, state: "unreachable" },
    );
  }

  names(): string[] {
    return [...this.clients.keys()];
  }

  client(host: string): Client {
    const client = this.clients.get(host);
    if (client) return client;
    throw new FtError({
      code: "PEER_UNKNOWN",
      subject: `host ${host}`,
      message: "this agent knows no host of that name",
      hint: `Known: ${this.names().join(", ") || "none"}. \`ftctl join\` makes two hosts know each other.`,
      exitCode: ExitCode.notFound,
    });
  }

  control(host: string): PeerControl {
    return peerControl(() => this.client(host), this.options.engine);
  }

  private refresh(): void {
    const { book, identity, version, log } = this.options;
    const peers = new Map(book.list().map((peer): [string, Peer] => [peer.host, peer]));
    for (const [host, client] of this.clients) {
      const now = peers.get(host);
      if (now && now.address === client.peer.address && now.controlPort === client.peer.controlPort)
        continue;
      client.close();
      this.clients.delete(host);
    }
    for (const [host, peer] of peers) {
      if (this.clients.has(host)) continue;
      this.clients.set(
        host,
        new ControlClient({
          identity,
          peer,
          version,
          methods: peerMethods,
          uploads: peerUploads,
          log,
          onHello: (reply) => book.learn(reply.peers),
        }),
      );
    }
  }
}

function peerControl(client: () => Client, engine: Engine): PeerControl {
  return {
    ping: async (timeoutMs) => void (await client().call("ping", {}, { timeoutMs })),
    status: (pair, mine) => client().call("pairStatus", { pair, ...mine }),
    async buildStandby(record, progress) {
      const { present } = await client().call("hasImage", { imageId: record.imageId });
      if (!present) await shipImage(client(), engine, record.imageId, record.image, progress);
      await client().call("buildStandby", { record });
    },
    takeOver: async (pair, generation, epoch, reason) => {
      const {
        done,
        generation: now,
        why,
      } = await client().call("takeOver", {
        pair,
        generation,
        epoch,
        reason: reason as "switchover",
      });
      return { done, generation: now, ...(why === undefined ? {} : { why }) };
    },
    stopped: async (pair, generation) =>
      void (await client().call("pairStopped", { pair, generation })),
    remove: async (pair, generation) =>
      void (await client().call("removePair", { pair, generation })),
  };
}

async function shipImage(
  client: Client,
  engine: Engine,
  imageId: string,
  reference: string,
  progress: (message: string, done?: number, total?: number) => void,
): Promise<void> {
  const total = (await engine.image(imageId))?.bytes;
  const body = new PassThrough();
  const sending = sendImage(engine, imageId, body, (bytes) =>
    progress(`shipping image ${reference}`, bytes, total),
  );
  sending.catch((error: Error) => body.destroy(error));
  await client.upload("image", { imageId, reference }, body);
  await sending;
}
