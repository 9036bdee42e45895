/**
 * This host's identity: its key, its certificate and the authority's certificate, under <stateDir>/identity.
 * The authority's host also has the authority's key (`authority.ts`).
 *
 * Invariants: identity.json is written last and removed never, so an identity is whole or absent. Key and
 * certificate of the host are one file, replaced atomically, so they always fit each other.
 */
import { createHash, X509Certificate } from "node:crypto";
import { existsSync, mkdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { createSecureContext, type SecureContext, type SecureContextOptions } from "node:tls";
import { z } from "zod";
import { FtError } from "../errors/error.js";
import { hostNameSchema } from "./host-name.js";
import { replaceFile } from "./replace-file.js";

export interface Identity {
  host: string;
  /** On the replication network. */
  address: string;
  key: string;
  certificate: string;
  authorityCertificate: string;
}

const descriptionSchema = z.strictObject({
  format: z.literal("ftctl-identity"),
  version: z.literal(1),
  host: hostNameSchema,
  address: z.union([z.ipv4(), z.ipv6()]),
});

export function identityDir(stateDir: string): string {
  return join(stateDir, "identity");
}

export function hasIdentity(stateDir: string): boolean {
  return existsSync(join(identityDir(stateDir), "identity.json"));
}

export function loadIdentity(stateDir: string): Identity {
  const dir = identityDir(stateDir);
  if (!hasIdentity(stateDir)) {
    throw new FtError({
      code: "NOT_INITIALISED",
      subject: stateDir,
      message: "this host belongs to no cluster yet",
      hint: "Run `ftctl init` on the first host, `ftctl join` with its token on the others.",
    });
  }
  try {
    const read = (name: string) => readFileSync(join(dir, name), "utf8");
    const description = descriptionSchema.parse(JSON.parse(read("identity.json")));
    const { key, certificate } = splitPem(read("host.pem"));
    const identity: Identity = {
      host: description.host,
      address: description.address,
      key,
      certificate,
      authorityCertificate: read("authority.crt"),
    };
    secureContextOf(identity);
    return identity;
  } catch (cause) {
    throw new FtError({
      code: "STATE_CORRUPT",
      subject: dir,
      message: `the identity of this host cannot be read: ${(cause as Error).message}`,
      hint: "Restore the folder from a backup, or remove it and join again.",
      cause,
    });
  }
}

/** Refused with ALREADY_INITIALISED before anything is asked of another host. */
export function refuseIfInitialised(stateDir: string): void {
  if (!hasIdentity(stateDir)) return;
  throw new FtError({
    code: "ALREADY_INITIALISED",
    subject: stateDir,
    message: `this host is already ${loadIdentity(stateDir).host} of a cluster; its keys are not overwritten`,
    hint: `To start anew, unprotect everything, stop the agent and remove ${identityDir(stateDir)}.`,
    exitCode: 6,
  });
}

export function saveIdentity(stateDir: string, identity: Identity): void {
  const dir = identityDir(stateDir);
  mkdirSync(dir, { recursive: true, mode: 0o700 });
  replaceFile(join(dir, "authority.crt"), identity.authorityCertificate, 0o644);
  replaceFile(join(dir, "host.pem"), identity.key + identity.certificate, 0o600);
  const description = {
    format: "ftctl-identity",
    version: 1,
    host: identity.host,
    address: identity.address,
  };
  replaceFile(join(dir, "identity.json"), `${JSON.stringify(description, null, 2)}\n`, 0o644);
}

function splitPem(text: string): { key: string; certificate: string } {
  const start = text.indexOf("-----BEGIN CERTIFICATE-----");
  if (start <= 0) throw new Error("host.pem does not hold a key and a certificate");
  return { key: text.slice(0, start), certificate: text.slice(start) };
}

/** Options of every TLS end between agents: 1.3 only, our authority only, our certificate. */
export function tlsOptionsOf(identity: Identity): SecureContextOptions {
  return {
    minVersion: "TLSv1.3",
    ca: identity.authorityCertificate,
    // The chain carries the authority's certificate too: a joining host checks its fingerprint.
    cert: identity.certificate + identity.authorityCertificate,
    key: identity.key,
    // AES-128 first: the fastest where the processor has AES instructions.
    ciphers: "TLS_AES_128_GCM_SHA256:TLS_CHACHA20_POLY1305_SHA256:TLS_AES_256_GCM_SHA384",
  };
}

export function secureContextOf(identity: Identity): SecureContext {
  return createSecureContext(tlsOptionsOf(identity));
}

/** SHA-256 over the certificate, in base64url: what a token carries of the authority. */
export function fingerprintOf(certificate: string | Buffer): string {
  const der = new X509Certificate(certificate).raw;
  return createHash("sha256").update(der).digest("base64url");
}
