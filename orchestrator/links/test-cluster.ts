/** For tests: clusters of hosts with real keys in temporary folders, and a clock that is set by hand. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pino } from "pino";
import { type Clock, systemClock } from "../clock.js";
import { initAuthority, loadAuthority } from "./authority.js";
import { certifyHost, createRequest } from "./certificates.js";
import { type Identity, saveIdentity } from "./identity.js";
import { type Peer, PeerBook } from "./peers.js";

export const quiet = pino({ level: "silent" });

export class Folders {
  readonly #made: string[] = [];

  make(): string {
    const dir = mkdtempSync(join(tmpdir(), "ftctl-links-"));
    this.#made.push(dir);
    return dir;
  }

  remove(): void {
    for (const dir of this.#made.splice(0)) rmSync(dir, { recursive: true, force: true });
  }
}

export interface TestHost {
  stateDir: string;
  identity: Identity;
}

export function peerOf(host: string, ports: Partial<Peer> = {}): Peer {
  return {
    host,
    address: "127.0.0.1",
    controlPort: 7400,
    streamPort: 7401,
    ...ports,
  };
}

export async function makeAuthority(folders: Folders, host: string): Promise<TestHost> {
  const stateDir = folders.make();
  const identity = await initAuthority({ stateDir, host, listen: "127.0.0.1", clock: systemClock });
  return { stateDir, identity };
}

/** A host certified by `authority` directly, without the join protocol. */
export async function makeHost(
  folders: Folders,
  authority: TestHost,
  host: string,
  nowMs = Date.now(),
): Promise<TestHost> {
  const stateDir = folders.make();
  const { key, request } = await createRequest(host);
  const certificate = await certifyHost({
    authority: loadAuthority(authority.stateDir),
    request,
    host,
    address: "127.0.0.1",
    nowMs,
  });
  const { authorityCertificate } = authority.identity;
  const identity = { host, address: "127.0.0.1", key, certificate, authorityCertificate };
  saveIdentity(stateDir, identity);
  return { stateDir, identity };
}

export function bookOf(host: TestHost, peers: Peer[]): PeerBook {
  return new PeerBook({
    stateDir: host.stateDir,
    self: host.identity.host,
    configured: peers,
  });
}

/** A wall clock that stands still until it is moved. */
export function clockAt(wallMs: number): Clock & { advance(ms: number): void } {
  let now = wallMs;
  return {
    nowMs: () => now,
    wallMs: () => now,
    sleep: systemClock.sleep,
    advance(ms) {
      now += ms;
    },
  };
}

/** Polls until `probe` gives something, with a bound. */
export async function until<T>(probe: () => T | undefined | false, withinMs = 5_000): Promise<T> {
  const endMs = performance.now() + withinMs;
  for (;;) {
    const value = probe();
    if (value !== undefined && value !== false) return value as T;
    if (performance.now() > endMs) throw new Error(`not within ${withinMs} ms`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}
