/**
 * A listening port for peers: TLS 1.3, a certificate of our authority that names a known host, or the
 * connection is closed before the caller hears of it. Shared by the control and the stream port.
 */
import { createServer, type Server, type TLSSocket, connect as tlsConnect } from "node:tls";
import type { Logger } from "pino";
import { FtError } from "../errors/error.js";
import { limits } from "../limits.js";
import { type Identity, tlsOptionsOf } from "./identity.js";
import type { Peer, PeerBook } from "./peers.js";

export interface TlsListener {
  port: number;
  /** Stops listening and closes every connection. */
  close(): Promise<void>;
}

export async function listenForPeers(options: {
  identity: Identity;
  peers: PeerBook;
  address: string;
  port: number;
  alpn?: string | undefined;
  log: Logger;
  handshakeTimeoutMs?: number;
  onPeer: (socket: TLSSocket, peer: Peer) => void;
}): Promise<TlsListener> {
  const { identity, peers, log, onPeer } = options;
  const server = createServer({
    ...tlsOptionsOf(identity),
    requestCert: true,
    rejectUnauthorized: true,
    handshakeTimeout: options.handshakeTimeoutMs ?? limits.streamHandshakeTimeoutMs,
    noDelay: true,
    ...(options.alpn === undefined ? {} : { ALPNProtocols: [options.alpn] }),
  });
  server.on("secureConnection", (socket) => {
    // A socket that fails later is its owner's business; here only an unhandled event is prevented.
    socket.on("error", (error) => log.debug({ err: error }, "connection from a peer failed"));
    const host = socket.getPeerCertificate().subject?.CN;
    const peer = typeof host === "string" ? peers.find(host) : undefined;
    if (peer === undefined) {
      log.warn({ host, address: socket.remoteAddress }, "refused a host that is not a known peer");
      socket.destroy();
      return;
    }
    onPeer(socket, peer);
  });
  return listen(server, options);
}

/** Common to all TLS ports: the bound on connections, logging of failed handshakes, an orderly close. */
export async function listen(
  server: Server,
  options: { address: string; port: number; log: Logger },
): Promise<TlsListener> {
  const { address, port, log } = options;
  const open = new Set<{ destroy(): void }>();
  server.maxConnections = limits.linkConnectionsMax;
  server.on("connection", (socket) => {
    open.add(socket);
    socket.once("close", () => open.delete(socket));
  });
  server.on("tlsClientError", (error, socket) => {
    log.warn({ address: socket.remoteAddress, reason: error.message }, "TLS handshake failed");
    socket.destroy();
  });
  await new Promise<void>((resolve, reject) => {
    server.once("error", (cause) => reject(cannotListen(address, port, cause)));
    server.listen(port, address, resolve);
  });
  server.on("error", (error) => log.error({ err: error }, "listening socket failed"));
  const bound = server.address();
  return {
    port: typeof bound === "object" && bound !== null ? bound.port : port,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        for (const socket of open) socket.destroy();
      }),
  };
}

/** Connects to a peer and checks that its certificate is of our authority and names `peer.host`. */
export function connectToPeer(options: {
  identity: Identity;
  peer: Pick<Peer, "host" | "address">;
  port: number;
  timeoutMs: number;
}): Promise<TLSSocket> {
  const { identity, peer, port, timeoutMs } = options;
  return new Promise((resolve, reject) => {
    const socket = tlsConnect({
      ...tlsOptionsOf(identity),
      host: peer.address,
      port,
      servername: peer.host,
      checkServerIdentity: (_name, certificate) => foreignName(peer.host, certificate.subject?.CN),
    });
    const fail = (cause: Error) => {
      clearTimeout(timer);
      socket.destroy();
      reject(peerUnreachable(peer, port, cause));
    };
    const timer = setTimeout(() => fail(new Error(`no answer in ${timeoutMs} ms`)), timeoutMs);
    socket.once("error", fail);
    socket.once("secureConnect", () => {
      clearTimeout(timer);
      socket.off("error", fail);
      socket.setNoDelay(true);
      resolve(socket);
    });
  });
}

export function foreignName(expected: string, found: unknown): Error | undefined {
  if (found === expected) return undefined;
  return new FtError({
    code: "PEER_FOREIGN",
    subject: `host ${expected}`,
    message: `the host that answered is ${String(found)}, not ${expected}`,
    hint: "Check the address of the peer in the configuration.",
    exitCode: 7,
  });
}

const CERTIFICATE_ERROR = /certificate|self.signed|verify|issuer|CERT_/i;

/** PEER_UNREACHABLE, or PEER_FOREIGN where it answered but is not of our authority. */
export function peerUnreachable(
  peer: Pick<Peer, "host" | "address">,
  port: number,
  cause: Error,
): FtError {
  if (cause instanceof FtError) return cause;
  const code = (cause as NodeJS.ErrnoException).code ?? "";
  const foreign = CERTIFICATE_ERROR.test(cause.message) || CERTIFICATE_ERROR.test(code);
  return new FtError({
    code: foreign ? "PEER_FOREIGN" : "PEER_UNREACHABLE",
    subject: `host ${peer.host}`,
    message: foreign
      ? `${peer.address}:${port} does not show a certificate of our authority: ${cause.message}`
      : `${peer.address}:${port} cannot be reached: ${cause.message}`,
    hint: foreign
      ? "Both hosts must have joined the same authority; see `ftctl init` and `ftctl join`."
      : "Check that its agent runs and that the replication link is up.",
    exitCode: 7,
    cause,
  });
}

function cannotListen(address: string, port: number, cause: Error): FtError {
  return new FtError({
    code: "CANNOT_LISTEN",
    subject: `${address}:${port}`,
    message: `cannot listen there: ${cause.message}`,
    hint: "Check `listen` and the ports in the agent's configuration, and that no other agent runs.",
    cause,
  });
}
