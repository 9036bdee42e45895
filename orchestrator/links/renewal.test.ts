import { X509Certificate } from "node:crypto";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { loadIdentity, secureContextOf } from "./identity.js";
import { isRenewalDue, msLeft, renewalHandlers, renewIfDue } from "./renewal.js";
import {
  bookOf,
  clockAt,
  Folders,
  makeAuthority,
  makeHost,
  peerOf,
  type TestHost,
} from "./test-cluster.js";

const DAY_MS = 24 * 3_600_000;
const folders = new Folders();
let alpha: TestHost;
let beta: TestHost;

beforeAll(async () => {
  alpha = await makeAuthority(folders, "alpha");
  beta = await makeHost(folders, alpha, "beta");
});
afterAll(() => folders.remove());

/** Asks alpha as `caller` would over the control link. */
function askAs(caller: string, clock = clockAt(Date.now())) {
  const peers = bookOf(alpha, [peerOf("beta")]);
  const { renewCertificate } = renewalHandlers({ stateDir: alpha.stateDir, peers, clock });
  return (request: { certificateRequest: string }) =>
    renewCertificate(request, { peer: caller, signal: new AbortController().signal });
}

describe("a host's certificate", () => {
  it("is left alone while more than a third of its life is left", async () => {
    const clock = clockAt(Date.now());
    expect(isRenewalDue(beta.identity, clock)).toBe(false);
    expect(await renewIfDue({ stateDir: beta.stateDir, clock, ask: askAs("beta") })).toBe(false);
    expect(loadIdentity(beta.stateDir)).toEqual(beta.identity);
  });

  it.each(["alpha", "beta"])("is renewed on %s when less is left", async (host) => {
    const { stateDir, identity } = host === "alpha" ? alpha : beta;
    const clock = clockAt(Date.now() + 500 * DAY_MS);
    expect(await renewIfDue({ stateDir, clock, ask: askAs(host, clock) })).toBe(true);
    const renewed = loadIdentity(stateDir);
    expect(renewed.key).not.toBe(identity.key);
    expect(msLeft(renewed, clock)).toBeGreaterThan(729 * DAY_MS);
    expect(new X509Certificate(renewed.certificate).checkHost(host)).toBe(host);
    secureContextOf(renewed);
  });

  it("is for the name that the caller has proven, not for one it asks for", async () => {
    await expect(askAs("gamma")({ certificateRequest: "" })).rejects.toMatchObject({
      code: "PEER_UNKNOWN",
    });
    await expect(askAs("beta")({ certificateRequest: "nonsense" })).rejects.toMatchObject({
      code: "BAD_REQUEST",
    });
  });

  it("of another host is not stored", async () => {
    const gamma = await makeHost(folders, alpha, "gamma");
    const clock = clockAt(Date.now() + 500 * DAY_MS);
    const renewal = renewIfDue({ stateDir: gamma.stateDir, clock, ask: askAs("beta", clock) });
    await expect(renewal).rejects.toMatchObject({ code: "AUTHORITY_MISMATCH" });
    expect(loadIdentity(gamma.stateDir)).toEqual(gamma.identity);
  });
});
