/** `init`, `join` and `agent` reach into other parts, loaded when needed: `ftctl ls` stays fast. */
import { systemClock } from "../clock.js";
import type { Settings } from "./settings.js";

export interface Invitation {
  host: string;
  token: string;
  fingerprint: string;
  expiresAt: string;
}

export interface Joined {
  host: string;
  address: string;
  fingerprint: string;
}

export interface Cluster {
  init(options: { stateDir: string; host: string; listen: string }): Promise<Invitation>;
  /** Another token for one more host. */
  invite(options: { stateDir: string; forHost: string | undefined }): Promise<Invitation>;
  join(
    settings: Settings,
    options: { address: string; token: string; host: string; listen: string },
  ): Promise<Joined>;
  runAgent(settings: Settings): Promise<void>;
}

export const realCluster: Cluster = {
  async init(options) {
    const { initAuthority } = await import("../links/authority.js");
    await initAuthority({ ...options, clock: systemClock });
    return invitation(options.stateDir, undefined);
  },
  invite: ({ stateDir, forHost }) => invitation(stateDir, forHost),
  async join(settings, options) {
    const { joinAuthority } = await import("../links/join.js");
    const { loadAgentConfig } = await import("../links/config.js");
    const { fingerprintOf } = await import("../links/identity.js");
    // The others have to know at which ports this host's agent will listen.
    const { controlPort, streamPort } = loadAgentConfig(settings, process.env);
    const { stateDir } = settings;
    const identity = await joinAuthority({ ...options, stateDir, controlPort, streamPort });
    const { host, address, authorityCertificate } = identity;
    return { host, address, fingerprint: fingerprintOf(authorityCertificate) };
  },
  async runAgent(settings) {
    const { runAgent } = await import("../agent/main.js");
    await runAgent(settings);
  },
};

async function invitation(stateDir: string, forHost: string | undefined): Promise<Invitation> {
  const { issueToken } = await import("../links/authority.js");
  const { fingerprintOf, loadIdentity } = await import("../links/identity.js");
  const { token, expiresAtMs } = issueToken({ stateDir, clock: systemClock, host: forHost });
  const identity = loadIdentity(stateDir);
  return {
    host: identity.host,
    token,
    fingerprint: fingerprintOf(identity.authorityCertificate),
    expiresAt: new Date(expiresAtMs).toISOString(),
  };
}
