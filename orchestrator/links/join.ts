/** `ftctl join`: makes this host a member of the cluster whose authority issued the token. */
import { X509Certificate } from "node:crypto";
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { connect, type TLSSocket } from "node:tls";
import { FtError } from "../errors/error.js";
import { limits } from "../limits.js";
import { ownVersion } from "../version.js";
import { checkHostName } from "./authority.js";
import { createRequest } from "./certificates.js";
import { fingerprintOf, type Identity, refuseIfInitialised, saveIdentity } from "./identity.js";
import { JOIN_PROTOCOL, joinReplySchema, readMessage, writeMessage } from "./join-wire.js";
import { DEFAULT_PORTS, type Peer, peerSchema, splitAddress, writePeers } from "./peers.js";
import { parseToken, type TokenParts } from "./tokens.js";

export interface JoinOptions {
  /** Of the host that has the authority, on the replication network; `address:port` if not the default. */
  address: string;
  token: string;
  /** This host: its name, and its address on the replication network. */
  host: string;
  listen: string;
  stateDir: string;
  controlPort?: number;
  streamPort?: number;
}

/** Nothing is written unless the authority has admitted us; then peers.json and the identity are. */
export async function joinAuthority(options: JoinOptions): Promise<Identity> {
  const { stateDir } = options;
  refuseIfInitialised(stateDir);
  const self = checkedSelf(options);
  const token = parseToken(options.token);
  const { key, request } = await createRequest(self.host);
  const socket = await connectTo(options);
  try {
    checkAuthority(socket, token, options);
    writeMessage(socket, {
      magic: "FTJOIN01",
      protocol: JOIN_PROTOCOL,
      version: ownVersion(),
      tokenId: token.id,
      secret: token.secret,
      peer: self,
      certificateRequest: request,
    });
    const reply = await readMessage(socket, joinReplySchema);
    if ("error" in reply) throw FtError.fromJSON(reply.error);
    const { certificate, authorityCertificate, peers } = reply.ok;
    const { host, address } = self;
    const identity: Identity = { host, address, key, certificate, authorityCertificate };
    checkIssued(identity, token, options);
    mkdirSync(stateDir, { recursive: true, mode: 0o755 });
    writePeers(join(stateDir, "peers.json"), peers);
    saveIdentity(stateDir, identity);
    return identity;
  } finally {
    socket.destroy();
  }
}

function checkedSelf(options: JoinOptions): Peer {
  checkHostName(options.host);
  const parsed = peerSchema.safeParse({
    host: options.host,
    address: options.listen,
    controlPort: options.controlPort ?? DEFAULT_PORTS.control,
    streamPort: options.streamPort ?? DEFAULT_PORTS.stream,
  });
  if (parsed.success) return parsed.data;
  throw new FtError({
    code: "USAGE",
    subject: `address '${options.listen}'`,
    message: "must be an IP address of this host on the replication network",
    exitCode: 2,
  });
}

function connectTo(options: JoinOptions): Promise<TLSSocket> {
  const { host: address, port } = splitAddress(options.address);
  return new Promise((resolve, reject) => {
    // Who answers is checked by fingerprint (checkAuthority): no certificate of the cluster is here yet.
    const socket = connect({
      host: address,
      port,
      minVersion: "TLSv1.3",
      rejectUnauthorized: false,
    });
    const fail = (cause: Error) => {
      clearTimeout(timer);
      socket.destroy();
      reject(unreachable(address, port, cause));
    };
    const late = () => fail(new Error(`no answer in ${limits.joinTimeoutMs} ms`));
    const timer = setTimeout(late, limits.joinTimeoutMs);
    socket.once("error", fail);
    socket.once("secureConnect", () => {
      clearTimeout(timer);
      socket.off("error", fail);
      // From here on a failure shows where the answer is read.
      socket.on("error", () => {});
      resolve(socket);
    });
  });
}

/** The chain shown must end in the authority of the token, and the handshake has proven the leaf's key. */
function checkAuthority(socket: TLSSocket, token: TokenParts, options: JoinOptions): void {
  const shown = socket.getPeerCertificate(true);
  if (shown.raw === undefined || shown.issuerCertificate?.raw === undefined) {
    throw mismatch(options, "it shows no authority");
  }
  const leaf = new X509Certificate(shown.raw);
  const authority = new X509Certificate(shown.issuerCertificate.raw);
  if (fingerprintOf(authority.raw) !== token.fingerprint) {
    throw mismatch(options, "it belongs to another authority than the token");
  }
  if (!leaf.checkIssued(authority) || !leaf.verify(authority.publicKey)) {
    throw mismatch(options, "its certificate is not of the authority that it shows");
  }
}

/** What came back must fit together before it is stored. */
function checkIssued(identity: Identity, token: TokenParts, options: JoinOptions): void {
  const certificate = new X509Certificate(identity.certificate);
  const authority = new X509Certificate(identity.authorityCertificate);
  const fits =
    fingerprintOf(identity.authorityCertificate) === token.fingerprint &&
    certificate.verify(authority.publicKey) &&
    certificate.checkHost(identity.host) !== undefined;
  if (!fits) throw mismatch(options, "the certificate that it issued is not for us");
}

function mismatch({ address }: JoinOptions, why: string): FtError {
  return new FtError({
    code: "AUTHORITY_MISMATCH",
    subject: address,
    message: `the host that answered is not the one that issued the token: ${why}`,
    hint: "Check the address; the token's secret was not sent.",
    exitCode: 6,
  });
}

function unreachable(address: string, port: number, cause: Error): FtError {
  return new FtError({
    code: "PEER_UNREACHABLE",
    subject: `${address}:${port}`,
    message: `the authority cannot be reached: ${cause.message}`,
    hint: "Check the address, that its agent runs, and that the replication link is up.",
    exitCode: 7,
    cause,
  });
}
