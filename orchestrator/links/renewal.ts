/**
 * Renewing a host's certificate, when less than a third of its two years is left: the authority's host does
 * it by itself, the others ask it over the control link. A new key is made each time. Connections made from
 * then on need the agent to load the identity again; it does so when it starts, and eight months are left.
 */
import { X509Certificate } from "node:crypto";
import { z } from "zod";
import type { Clock } from "../clock.js";
import { FtError } from "../errors/error.js";
import { limits } from "../limits.js";
import { hasAuthority, loadAuthority } from "./authority.js";
import { certifyHost, createRequest, HOST_LIFE_MS } from "./certificates.js";
import { type Identity, loadIdentity, saveIdentity } from "./identity.js";
import { defineMethods, type Handlers } from "./methods.js";
import type { PeerBook } from "./peers.js";

export const renewalMethods = defineMethods({
  renewCertificate: {
    request: z.strictObject({ certificateRequest: z.string().max(8_192) }),
    reply: z.strictObject({ certificate: z.string().max(8_192) }),
    timeoutMs: limits.controlCallTimeoutMs,
  },
});

/** Certifies the caller under the name that its present certificate proves, and no other. */
export function renewalHandlers(options: {
  stateDir: string;
  peers: PeerBook;
  clock: Clock;
}): Handlers<typeof renewalMethods> {
  const { stateDir, peers, clock } = options;
  return {
    async renewCertificate({ certificateRequest }, { peer: host }) {
      const peer = peers.find(host);
      if (peer === undefined) throw unknownHost(host);
      const certificate = await certifyHost({
        authority: loadAuthority(stateDir),
        request: certificateRequest,
        host,
        address: peer.address,
        nowMs: clock.wallMs(),
      });
      return { certificate };
    },
  };
}

export function isRenewalDue(identity: Identity, clock: Clock): boolean {
  return msLeft(identity, clock) < HOST_LIFE_MS / 3;
}

/** Milliseconds until the certificate ends; negative afterwards. For metrics and `ftctl check`. */
export function msLeft(identity: Identity, clock: Clock): number {
  return Date.parse(new X509Certificate(identity.certificate).validTo) - clock.wallMs();
}

/**
 * Renews if due, on disk; true if it has. `ask` calls `renewCertificate` on the host that has the authority,
 * and is not used on that host itself.
 */
export async function renewIfDue(options: {
  stateDir: string;
  clock: Clock;
  ask: (request: { certificateRequest: string }) => Promise<{ certificate: string }>;
}): Promise<boolean> {
  const { stateDir, clock, ask } = options;
  const identity = loadIdentity(stateDir);
  if (!isRenewalDue(identity, clock)) return false;
  const { host, address } = identity;
  const { key, request } = await createRequest(host);
  const certificate = hasAuthority(stateDir)
    ? await certifyHost({
        authority: loadAuthority(stateDir),
        request,
        host,
        address,
        nowMs: clock.wallMs(),
      })
    : (await ask({ certificateRequest: request })).certificate;
  const renewed = { ...identity, key, certificate };
  checkRenewed(renewed);
  saveIdentity(stateDir, renewed);
  return true;
}

function checkRenewed(identity: Identity): void {
  const certificate = new X509Certificate(identity.certificate);
  const authority = new X509Certificate(identity.authorityCertificate);
  const fits =
    certificate.verify(authority.publicKey) && certificate.checkHost(identity.host) !== undefined;
  if (fits) return;
  throw new FtError({
    code: "AUTHORITY_MISMATCH",
    subject: `host ${identity.host}`,
    message: "the renewed certificate is not of our authority, or not for this host",
    exitCode: 6,
  });
}

function unknownHost(host: string): FtError {
  return new FtError({
    code: "PEER_UNKNOWN",
    subject: `host ${host}`,
    message: "this host does not know it",
    exitCode: 3,
  });
}
