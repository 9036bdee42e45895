import { randomBytes } from "node:crypto";
import { existsSync, readdirSync, readFileSync, statSync } from "node:fs";
import { connect } from "node:net";
import { join } from "node:path";
import { connect as tlsConnect } from "node:tls";
import { afterAll, afterEach, beforeEach, describe, expect, it } from "vitest";
import { FtError } from "../errors/error.js";
import { limits } from "../limits.js";
import { hasAuthority, initAuthority, issueToken } from "./authority.js";
import { fingerprintOf, identityDir, loadIdentity } from "./identity.js";
import { joinAuthority } from "./join.js";
import { JoinServer } from "./join-server.js";
import { PeerBook } from "./peers.js";
import {
  clockAt,
  Folders,
  makeAuthority,
  makeHost,
  peerOf,
  quiet,
  type TestHost,
} from "./test-cluster.js";

const folders = new Folders();
const cleanups: (() => Promise<void> | void)[] = [];
let alpha: TestHost;
let book: PeerBook;
let port: number;
let clock = clockAt(Date.now());

beforeEach(async () => {
  clock = clockAt(Date.now());
  alpha = await makeAuthority(folders, "alpha");
  book = new PeerBook({ stateDir: alpha.stateDir, self: "alpha" });
  port = await serve(alpha, book);
});
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});
afterAll(() => folders.remove());

async function serve(host: TestHost, peers: PeerBook): Promise<number> {
  const server = await JoinServer.start({
    config: { stateDir: host.stateDir, listen: "127.0.0.1", joinPort: 0 },
    identity: host.identity,
    peers,
    self: peerOf(host.identity.host),
    clock,
    log: quiet,
  });
  cleanups.push(() => server.stop());
  return server.port;
}

const token = (host?: string) => issueToken({ stateDir: alpha.stateDir, clock, host }).token;

function attempt(text: string, host = "beta", stateDir = folders.make()) {
  const address = `127.0.0.1:${port}`;
  const joined = joinAuthority({ address, token: text, host, listen: "127.0.0.1", stateDir });
  return { stateDir, joined };
}

/** Fails with `code`, and nothing has changed on either side. */
async function refused(code: string, text: string, host = "beta"): Promise<FtError> {
  const knownBefore = readPeers();
  const { stateDir, joined } = attempt(text, host);
  const error = await joined.then(
    () => new Error("did not fail"),
    (thrown) => thrown,
  );
  expect(error).toBeInstanceOf(FtError);
  expect(error.code).toBe(code);
  expect(readdirSync(stateDir)).toEqual([]);
  expect(readPeers()).toBe(knownBefore);
  return error as FtError;
}

function readPeers(): string {
  const file = join(alpha.stateDir, "peers.json");
  return existsSync(file) ? readFileSync(file, "utf8") : "";
}

describe("init", () => {
  it("keeps its keys to itself", () => {
    for (const name of ["host.pem", "authority.key"]) {
      expect(statSync(join(identityDir(alpha.stateDir), name)).mode & 0o777).toBe(0o600);
    }
    expect(loadIdentity(alpha.stateDir)).toEqual(alpha.identity);
    expect(hasAuthority(alpha.stateDir)).toBe(true);
  });

  it("does not overwrite an identity", async () => {
    const { stateDir } = alpha;
    const again = initAuthority({ stateDir, host: "other", listen: "127.0.0.1", clock });
    await expect(again).rejects.toMatchObject({ code: "ALREADY_INITIALISED", exitCode: 6 });
    expect(loadIdentity(stateDir)).toEqual(alpha.identity);
  });

  it("refuses a host name that would not fit into a certificate", async () => {
    const stateDir = folders.make();
    const bad = initAuthority({ stateDir, host: "a,CN=b", listen: "127.0.0.1", clock });
    await expect(bad).rejects.toMatchObject({ code: "USAGE", exitCode: 2 });
    expect(readdirSync(stateDir)).toEqual([]);
  });

  it("on a host without the authority's key no token can be made", async () => {
    const beta = await makeHost(folders, alpha, "beta");
    expect(() => issueToken({ stateDir: beta.stateDir, clock })).toThrow(/authority's key/);
  });
});

describe("join", () => {
  it("makes both sides know each other, on disk", async () => {
    const { stateDir, joined } = attempt(token());
    const identity = await joined;
    expect(loadIdentity(stateDir)).toEqual(identity);
    expect(identity.authorityCertificate).toBe(alpha.identity.authorityCertificate);
    expect(new PeerBook({ stateDir, self: "beta" }).list()).toEqual([peerOf("alpha")]);
    expect(new PeerBook({ stateDir: alpha.stateDir, self: "alpha" }).list()).toEqual([
      peerOf("beta"),
    ]);
    expect(hasAuthority(stateDir)).toBe(false);
  });

  it("tells a third host of the second", async () => {
    await attempt(token()).joined;
    const { stateDir, joined } = attempt(token(), "gamma");
    await joined;
    const known = new PeerBook({ stateDir, self: "gamma" }).list();
    expect(known.map((peer) => peer.host)).toEqual(["alpha", "beta"]);
  });

  it("takes a token once", async () => {
    const text = token();
    await attempt(text).joined;
    const error = await refused("JOIN_TOKEN_INVALID", text, "gamma");
    expect(error.exitCode).toBe(6);
  });

  it("takes a token once, also when two hosts use it at the same moment", async () => {
    const text = token();
    const both = ["beta", "gamma"].map((host) => attempt(text, host).joined);
    const results = await Promise.allSettled(both);
    expect(results.map((r) => r.status).sort()).toEqual(["fulfilled", "rejected"]);
    expect(book.list().length).toBe(1);
  });

  it("refuses a wrong secret, and the right one still works", async () => {
    const text = token();
    const [prefix, id, , fingerprint] = text.split(".");
    const wrong = [prefix, id, randomBytes(32).toString("base64url"), fingerprint].join(".");
    await refused("JOIN_TOKEN_INVALID", wrong);
    await attempt(text).joined;
  });

  it("refuses an expired token", async () => {
    const text = token();
    clock.advance(limits.joinTokenLifetimeMs + 1);
    const error = await refused("JOIN_TOKEN_INVALID", text);
    expect(error.message).toContain("expired");
  });

  it("refuses what is not a token before it connects", async () => {
    await refused("JOIN_TOKEN_INVALID", "ftj1.oops");
  });

  it("does not send the secret to another authority", async () => {
    const foreign = await makeAuthority(folders, "alpha");
    const fingerprint = fingerprintOf(foreign.identity.authorityCertificate);
    const text = token().replace(/[^.]*$/, fingerprint);
    const error = await refused("AUTHORITY_MISMATCH", text);
    expect(error.exitCode).toBe(6);
    // The token was not spent, so it had not been sent.
    expect(readdirSync(join(identityDir(alpha.stateDir), "tokens")).length).toBe(1);
  });

  it("refuses a name that is taken, but a token bound to that name replaces the host", async () => {
    await attempt(token()).joined;
    await refused("HOST_NAME_TAKEN", token());
    await refused("HOST_NAME_TAKEN", token(), "alpha");
    await refused("HOST_NAME_TAKEN", token("alpha"), "alpha");
    await refused("JOIN_TOKEN_INVALID", token("gamma"), "beta");
    await attempt(token("beta")).joined;
    expect(book.list().map((peer) => peer.host)).toEqual(["beta"]);
  });

  it("refuses on a host that has an identity", async () => {
    const { stateDir, joined } = attempt(token());
    await joined;
    const again = attempt(token(), "beta", stateDir).joined;
    await expect(again).rejects.toMatchObject({ code: "ALREADY_INITIALISED", exitCode: 6 });
  });

  it("says PEER_UNREACHABLE when nobody listens", async () => {
    const text = token();
    for (const cleanup of cleanups.splice(0)) await cleanup();
    const error = await refused("PEER_UNREACHABLE", text);
    expect(error.exitCode).toBe(7);
  });

  it("limits attempts, for a minute", async () => {
    const wrong = token().replace(/\.[\w-]{43}\./, `.${"A".repeat(43)}.`);
    for (let n = 0; n < limits.joinAttemptsPerMinuteMax; n += 1) {
      await refused("JOIN_TOKEN_INVALID", wrong);
    }
    await refused("TOO_MANY_ATTEMPTS", token());
    clock.advance(60_001);
    await attempt(token()).joined;
  });
});

describe("hostile bytes on the join port", () => {
  it("leave it serving others", async () => {
    const payloads = [
      randomBytes(1),
      randomBytes(3_000),
      Buffer.from("{}\n"),
      Buffer.from('{"magic":"FTJOIN01","__proto__":{"protocol":1}}\n'),
      Buffer.alloc(limits.joinMessageBytesMax + 10, 0x20),
    ];
    for (const payload of payloads) {
      await thrown(connect(port, "127.0.0.1"), "connect", payload);
      const secure = tlsConnect({ port, host: "127.0.0.1", rejectUnauthorized: false });
      await thrown(secure, "secureConnect", payload);
    }
    clock.advance(60_001);
    await attempt(token()).joined;
  });
});

async function thrown(
  socket: ReturnType<typeof connect>,
  ready: string,
  payload: Buffer,
): Promise<void> {
  socket.resume();
  socket.on("error", () => {});
  socket.once(ready, () => socket.end(payload));
  await new Promise((resolve) => socket.once("close", resolve));
}
