/**
 * The join port of the host that has the authority: admits a host that shows a valid one-time token.
 *
 * Order of an admission: check token and name; certify; spend the token (only one can); remember the peer
 * (on disk); answer. A failure before the token is spent changes nothing.
 */
import { createServer, type TLSSocket } from "node:tls";
import type { Logger } from "pino";
import type { Clock } from "../clock.js";
import { asFtError, FtError } from "../errors/error.js";
import { limits } from "../limits.js";
import { ownVersion } from "../version.js";
import { loadAuthority } from "./authority.js";
import { certifyHost } from "./certificates.js";
import { type Identity, tlsOptionsOf } from "./identity.js";
import {
  JOIN_PROTOCOL,
  type JoinReply,
  type JoinRequest,
  joinRequestSchema,
  readMessage,
  writeMessage,
} from "./join-wire.js";
import type { Peer, PeerBook } from "./peers.js";
import { listen, type TlsListener } from "./tls-listener.js";
import { verifyToken } from "./tokens.js";

export interface JoinServerOptions {
  config: { stateDir: string; listen?: string | undefined; joinPort: number };
  identity: Identity;
  peers: PeerBook;
  /** How others reach this host. */
  self: Peer;
  clock: Clock;
  log: Logger;
  onJoined?: (peer: Peer) => void;
}

const MINUTE_MS = 60_000;
const ADDRESSES_MAX = 1_024;

export class JoinServer {
  static async start(options: JoinServerOptions): Promise<JoinServer> {
    const server = new JoinServer(options);
    const { config, identity, log } = options;
    const tls = createServer({
      ...tlsOptionsOf(identity),
      handshakeTimeout: limits.streamHandshakeTimeoutMs,
    });
    tls.on("secureConnection", (socket) => {
      socket.on("error", (error) => log.debug({ err: error }, "connection of an applicant failed"));
      void server.#serve(socket);
    });
    const address = config.listen ?? identity.address;
    server.#listener = await listen(tls, { address, port: config.joinPort, log });
    return server;
  }

  readonly #options: JoinServerOptions;
  readonly #attempts: AttemptLimiter;
  #listener: TlsListener | undefined;

  private constructor(options: JoinServerOptions) {
    this.#options = options;
    this.#attempts = new AttemptLimiter(options.clock);
  }

  get port(): number {
    return this.#listener?.port ?? this.#options.config.joinPort;
  }

  async stop(): Promise<void> {
    await this.#listener?.close();
  }

  async #serve(socket: TLSSocket): Promise<void> {
    const address = socket.remoteAddress ?? "unknown";
    writeMessage(socket, await this.#answer(socket, address));
    socket.end();
    const timer = setTimeout(() => socket.destroy(), limits.joinTimeoutMs);
    socket.once("close", () => clearTimeout(timer));
    socket.resume();
  }

  async #answer(socket: TLSSocket, address: string): Promise<JoinReply> {
    const { log } = this.#options;
    if (this.#attempts.tooMany(address)) return { error: tooManyAttempts(address).toJSON() };
    try {
      const request = await readMessage(socket, joinRequestSchema);
      const ok = await admit(request, this.#options);
      log.info({ host: request.peer.host, address }, "a host has joined");
      return { ok };
    } catch (thrown) {
      this.#attempts.failed(address);
      const error = asFtError(thrown, "join");
      log.warn({ address, err: error }, "join refused");
      return { error: error.toJSON() };
    }
  }
}

async function admit(
  request: JoinRequest,
  options: JoinServerOptions,
): Promise<Extract<JoinReply, { ok: unknown }>["ok"]> {
  const { config, identity, peers, self, clock } = options;
  const { stateDir } = config;
  const { peer } = request;
  if (request.protocol !== JOIN_PROTOCOL) throw otherVersion(request);
  const token = verifyToken(stateDir, { id: request.tokenId, secret: request.secret }, clock);
  refuseTakenName(peer.host, token.host, options);
  const certificate = await certifyHost({
    authority: loadAuthority(stateDir),
    request: request.certificateRequest,
    host: peer.host,
    address: peer.address,
    nowMs: clock.wallMs(),
  });
  const known = peers.list().filter((other) => other.host !== peer.host);
  token.spend();
  peers.add(peer);
  options.onJoined?.(peer);
  return {
    certificate,
    authorityCertificate: identity.authorityCertificate,
    peers: [self, ...known].slice(0, 64),
  };
}

function refuseTakenName(
  host: string,
  boundTo: string | undefined,
  { identity, peers }: JoinServerOptions,
): void {
  if (boundTo !== undefined && boundTo !== host) {
    throw new FtError({
      code: "JOIN_TOKEN_INVALID",
      subject: "join token",
      message: `the token is for host ${boundTo}, not for ${host}`,
      exitCode: 6,
    });
  }
  const replaceable = boundTo === host && host !== identity.host;
  if (replaceable) return;
  if (host !== identity.host && peers.find(host) === undefined) return;
  throw new FtError({
    code: "HOST_NAME_TAKEN",
    subject: `host ${host}`,
    message: "a host of this name is already in the cluster",
    hint: `Choose another name, or make a token that is bound to ${host} to let it replace the old one.`,
    exitCode: 6,
  });
}

function otherVersion(request: JoinRequest): FtError {
  return new FtError({
    code: "VERSION_MISMATCH",
    subject: `host ${request.peer.host}`,
    message: `it runs version ${request.version} (join protocol ${request.protocol}), the authority version ${ownVersion()} (${JOIN_PROTOCOL})`,
    hint: "Install the same version of ftctl on both hosts.",
    exitCode: 7,
  });
}

/** Failed attempts of the last minute, by address; the table is bounded, the oldest entry goes first. */
class AttemptLimiter {
  readonly #clock: Clock;
  readonly #failures = new Map<string, number[]>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  failed(address: string): void {
    const recent = this.#recent(address);
    recent.push(this.#clock.nowMs());
    this.#failures.delete(address);
    this.#failures.set(address, recent.slice(-limits.joinAttemptsPerMinuteMax));
    if (this.#failures.size > ADDRESSES_MAX) {
      const [oldest] = this.#failures.keys();
      this.#failures.delete(oldest!);
    }
  }

  tooMany(address: string): boolean {
    return this.#recent(address).length >= limits.joinAttemptsPerMinuteMax;
  }

  #recent(address: string): number[] {
    const sinceMs = this.#clock.nowMs() - MINUTE_MS;
    return (this.#failures.get(address) ?? []).filter((atMs) => atMs > sinceMs);
  }
}

function tooManyAttempts(address: string): FtError {
  return new FtError({
    code: "TOO_MANY_ATTEMPTS",
    subject: `address ${address}`,
    message: `${limits.joinAttemptsPerMinuteMax} attempts to join failed within a minute`,
    hint: "Wait a minute, then try again with a new token.",
    exitCode: 6,
  });
}
