/**
 * A service under test: image, container, policy, protection, load, read-back. Knows which host is primary
 * by asking, never by remembering.
 */
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { execa } from "execa";
import { stringify } from "yaml";
import type { PairView } from "../../orchestrator/agent/api-types.js";
import { ClientProcess } from "../clients/client-process.js";
import type { ClientOptions } from "../clients/options.js";
import { checkoutRoot } from "../lab/layout.js";
import { Ftctl } from "./ftctl.js";
import type { ExecResult, Host, Hosts } from "./hosts.js";
import { poll } from "./poll.js";
import { outFolder, type WorkloadSpec } from "./workloads.js";

export interface PolicyOverrides {
  epoch?: Record<string, unknown>;
  detection?: Record<string, unknown>;
  [field: string]: unknown;
}

export const serviceAddress = "10.77.0.100";
const imageTimeoutMs = 300_000;
const protectTimeoutMs = 120_000;

/** Builds the image, or finds it built, and loads it on every running host. */
export async function buildImage(spec: WorkloadSpec): Promise<void> {
  await execa(join(checkoutRoot(), "bin/ftlab"), ["workload", spec.name], {
    timeout: imageTimeoutMs,
    stdin: "ignore",
  });
}

export class Service {
  readonly ftctl: Ftctl;

  constructor(
    readonly hosts: Hosts,
    readonly spec: WorkloadSpec,
    readonly name: string = spec.name,
    readonly address: string = serviceAddress,
  ) {
    this.ftctl = new Ftctl(hosts);
  }

  docker(host: Host, args: string[], timeoutMs?: number): Promise<ExecResult> {
    return this.hosts.exec(host, ["docker", ...args], timeoutMs);
  }

  /** A plain container, as a user would have started it. */
  async run(host: Host, dockerArgs: string[] = []): Promise<string> {
    // A new service may bring another MAC than the last one at this address.
    await this.hosts.exec("client", ["ip", "neigh", "flush", "dev", "lan0"]);
    const args = ["run", "-d", "--name", this.name, "--network", "none", ...this.spec.runOptions];
    const result = await this.docker(host, [...args, ...dockerArgs, this.spec.image]);
    if (result.exitCode !== 0) throw new Error(`docker run: ${result.stderr.slice(0, 2_000)}`);
    return result.stdout.trim();
  }

  /** Writes the policy and returns its path. */
  policy(overrides: PolicyOverrides = {}): string {
    const folder = join(outFolder(), "policies");
    mkdirSync(folder, { recursive: true });
    const file = join(folder, `${this.name}.yaml`);
    const document = {
      apiVersion: "ftctl.dev/v1alpha1",
      kind: "ProtectionPolicy",
      metadata: { name: this.name },
      spec: { network: { address: `${this.address}/24`, uplink: "br0" }, ...overrides },
    };
    writeFileSync(file, stringify(document));
    return file;
  }

  /** `ftctl protect`, whatever comes of it. */
  tryProtect(primary: Host, standby: Host, overrides: PolicyOverrides = {}): Promise<ExecResult> {
    const args = ["protect", this.name, "--standby", standby, "-f", this.policy(overrides), "-y"];
    return this.ftctl.run(primary, args, protectTimeoutMs);
  }

  async protect(primary: Host, standby: Host, overrides: PolicyOverrides = {}): Promise<PairView> {
    const result = await this.tryProtect(primary, standby, overrides);
    if (result.exitCode !== 0) {
      throw new Error(`protect ended with ${result.exitCode}: ${result.stderr.slice(-4_000)}`);
    }
    return this.untilProtected(primary, 30_000);
  }

  untilProtected(primary: Host, timeoutMs: number): Promise<PairView> {
    const wanted = (view: PairView) => view.role === "primary" && view.state === "protected";
    return this.ftctl.until(primary, this.name, "protected", wanted, timeoutMs);
  }

  /** Until that host has taken the service over, protected again or not. */
  untilTakenOver(host: Host, timeoutMs: number): Promise<PairView> {
    const wanted = (view: PairView) =>
      view.role === "primary" &&
      ["protected", "unprotected", "syncing", "blocked"].includes(view.state);
    return this.ftctl.until(host, this.name, "takeover", wanted, timeoutMs);
  }

  /** Until output waits for a standby; the pair must say why it does. */
  async untilBlocked(primary: Host, timeoutMs: number): Promise<void> {
    const wanted = (view: PairView) => view.state === "blocked";
    const view = await this.ftctl.until(primary, this.name, "blocked", wanted, timeoutMs);
    if (!view.reason) throw new Error(`${this.name} is blocked and does not say why`);
  }

  /** A load from the client's network; its connections are up when this returns. */
  async load(given: Partial<ClientOptions> = {}): Promise<ClientProcess> {
    const options = {
      workload: this.spec.workload,
      host: this.address,
      port: this.spec.port,
      ...given,
    };
    const client = ClientProcess.start(options, this.hosts.enterClient);
    await client.ready();
    return client;
  }

  /** Waits until the service answers a connection from the client's network. */
  async untilListening(timeoutMs = 10_000): Promise<void> {
    const probe = ["timeout", "1", "bash", "-c", `: </dev/tcp/${this.address}/${this.spec.port}`];
    await poll(`${this.name} listens`, timeoutMs, async () => {
      const result = await this.hosts.exec("client", probe, 5_000);
      return result.exitCode === 0 ? true : undefined;
    });
  }
}
