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

export interface JoinListenerOptions {
  stateDir: string;
  identity: Identity;
  peers: PeerBook;
  /** How others reach this host. */
  self: Peer;
  address: string;
  port: number;
  version: string;
  clock: Clock;
  log: Logger;
  onJoined?: (peer: Peer) => void;
}

const MINUTE_MS = 60_000;
const ADDRESSES_MAX = 1_024;

export async function listenForJoins(options: JoinListenerOptions): Promise<TlsListener> {
  const attempts = new AttemptLimiter(options.clock);
  const server = createServer({
    ...tlsOptionsOf(options.identity),
    handshakeTimeout: limits.streamHandshakeTimeoutMs,
  });
  server.on("secureConnection", (socket) => {
    const address = socket.remoteAddress ?? "unknown";
    socket.on("error", (error) => options.log.debug({ err: error, address }, "join failed"));
    void serve(socket, address, attempts, options);
  });
  return listen(server, options);
}

async function serve(
  socket: TLSSocket,
  address: string,
  attempts: AttemptLimiter,
  options: JoinListenerOptions,
): Promise<void> {
  const { log } = options;
  let reply: JoinReply;
  try {
    attempts.refuseIfTooMany(address);
    const request = await readMessage(socket, joinRequestSchema);
    reply = { ok: await admit(request, options) };
    log.info({ host: request.peer.host, address }, "a host has joined");
  } catch (thrown) {
    attempts.failed(address);
    const error = asFtError(thrown, "join");
    log.warn({ address, err: error }, "join refused");
    reply = { error: error.toJSON() };
  }
  writeMessage(socket, reply);
  socket.end();
  const timer = setTimeout(() => socket.destroy(), limits.joinTimeoutMs);
  socket.once("close", () => clearTimeout(timer));
  socket.resume();
}

async function admit(
  request: JoinRequest,
  options: JoinListenerOptions,
): Promise<Extract<JoinReply, { ok: unknown }>["ok"]> {
  const { stateDir, identity, peers, self, clock } = options;
  const { peer } = request;
  if (request.protocol !== JOIN_PROTOCOL) throw otherVersion(request, options.version);
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
  { identity, peers }: JoinListenerOptions,
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

function otherVersion(request: JoinRequest, ours: string): FtError {
  return new FtError({
    code: "VERSION_MISMATCH",
    subject: `host ${request.peer.host}`,
    message: `it runs version ${request.version} (join protocol ${request.protocol}), the authority version ${ours} (${JOIN_PROTOCOL})`,
    hint: "Install the same version of ftctl on both hosts.",
    exitCode: 7,
  });
}

/** Failed attempts of the last minute, by address; the table is bounded, the oldest entry goes first. */
export class AttemptLimiter {
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

  refuseIfTooMany(address: string): void {
    if (this.#recent(address).length < limits.joinAttemptsPerMinuteMax) return;
    throw new FtError({
      code: "TOO_MANY_ATTEMPTS",
      subject: `address ${address}`,
      message: `${limits.joinAttemptsPerMinuteMax} attempts to join failed within a minute`,
      hint: "Wait a minute, then try again with a new token.",
      exitCode: 6,
    });
  }

  #recent(address: string): number[] {
    const sinceMs = this.#clock.nowMs() - MINUTE_MS;
    return (this.#failures.get(address) ?? []).filter((atMs) => atMs > sinceMs);
  }
}
