/** `ftctl init`: makes the authority of a cluster and its first host; issues join tokens; certifies hosts. */
import { existsSync, mkdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import type { Clock } from "../clock.js";
import { FtError } from "../errors/error.js";
import {
  certifyHost,
  createAuthorityCertificate,
  createRequest,
  type KeyAndCertificate,
} from "./certificates.js";
import { hostNameSchema } from "./host-name.js";
import {
  fingerprintOf,
  type Identity,
  identityDir,
  loadIdentity,
  refuseIfInitialised,
  saveIdentity,
} from "./identity.js";
import { replaceFile } from "./replace-file.js";
import { createToken } from "./tokens.js";

export async function initAuthority(options: {
  stateDir: string;
  host: string;
  /** Address on the replication network. */
  listen: string;
  clock: Clock;
}): Promise<Identity> {
  const { stateDir, host, listen, clock } = options;
  refuseIfInitialised(stateDir);
  checkHostName(host);
  const nowMs = clock.wallMs();
  const authority = await createAuthorityCertificate(host, nowMs);
  const { key, request } = await createRequest(host);
  const certificate = await certifyHost({ authority, request, host, address: listen, nowMs });
  const identity: Identity = {
    host,
    address: listen,
    key,
    certificate,
    authorityCertificate: authority.certificate,
  };
  mkdirSync(identityDir(stateDir), { recursive: true, mode: 0o700 });
  replaceFile(authorityKeyFile(stateDir), authority.key, 0o600);
  saveIdentity(stateDir, identity);
  return identity;
}

/** Whether this host can admit others. */
export function hasAuthority(stateDir: string): boolean {
  return existsSync(authorityKeyFile(stateDir));
}

export function issueToken(options: {
  stateDir: string;
  clock: Clock;
  lifetimeMs?: number | undefined;
  /** Only this host may use it, and it may replace a host of that name. */
  host?: string | undefined;
}): { token: string; expiresAtMs: number } {
  if (options.host !== undefined) checkHostName(options.host);
  const { certificate } = loadAuthority(options.stateDir);
  return createToken({ ...options, fingerprint: fingerprintOf(certificate) });
}

export function loadAuthority(stateDir: string): KeyAndCertificate {
  const identity = loadIdentity(stateDir);
  if (!hasAuthority(stateDir)) {
    throw new FtError({
      code: "NOT_AUTHORITY",
      subject: `host ${identity.host}`,
      message: "this host does not have the authority's key",
      hint: "Run this on the host where `ftctl init` was run.",
      exitCode: 6,
    });
  }
  return {
    key: readFileSync(authorityKeyFile(stateDir), "utf8"),
    certificate: identity.authorityCertificate,
  };
}

export function checkHostName(host: string): void {
  const parsed = hostNameSchema.safeParse(host);
  if (parsed.success) return;
  throw new FtError({
    code: "USAGE",
    subject: `host name '${host}'`,
    message: parsed.error.issues[0]?.message ?? "is not a host name",
    exitCode: 2,
  });
}

function authorityKeyFile(stateDir: string): string {
  return join(identityDir(stateDir), "authority.key");
}
