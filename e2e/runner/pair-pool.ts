/**
 * The protected pair that scenarios share. A pair that the last scenario left healthy is used again, in
 * whatever direction it now points: that is faster, and it makes every later generation a test of its own.
 *
 * Invariant: `get` returns only a pair that is protected at that moment, on a lab with nothing broken.
 */
import { isDeepStrictEqual } from "node:util";
import type { WorkloadName } from "../workloads/workloads.js";
import { clearHosts } from "./clear.js";
import { Ftctl } from "./ftctl.js";
import type { Host, Hosts } from "./hosts.js";
import { buildImage, type PolicyOverrides, Service } from "./service.js";
import { specOf, type WorkloadSpec } from "./workloads.js";

export interface PooledPair {
  service: Service;
  primary: Host;
  standby: Host;
}

interface Current {
  workload: WorkloadName;
  policy: PolicyOverrides;
  service: Service;
}

const healTimeoutMs = 30_000;

export class PairPool {
  readonly #hosts: Hosts;
  readonly #ftctl: Ftctl;
  readonly #built = new Set<string>();
  /** Hosts whose agent was started with an environment of the scenario's own. */
  readonly #altered = new Set<Host>();
  #current: Current | undefined;
  /** Brings up a fresh lab when healing does not help. */
  readonly #rebuildLab: () => Promise<void>;

  constructor(hosts: Hosts, rebuildLab: () => Promise<void>) {
    this.#hosts = hosts;
    this.#ftctl = new Ftctl(hosts);
    this.#rebuildLab = rebuildLab;
  }

  /** To be told that an agent runs with a fault armed, so that it is restarted plain afterwards. */
  altered(host: Host): void {
    this.#altered.add(host);
  }

  async get(workload: WorkloadName, policy: PolicyOverrides): Promise<PooledPair> {
    await this.heal();
    const current = this.#current;
    if (current?.workload === workload && isDeepStrictEqual(current.policy, policy)) {
      const found = await this.#direction(current.service).catch(() => undefined);
      if (found) return found;
    }
    await this.clear();
    const service = await this.fresh(workload);
    const [primary = "alpha", standby = "beta"] = this.#hosts.hosts;
    await service.protect(primary, standby, policy);
    await service.untilListening();
    this.#current = { workload, policy, service };
    return { service, primary, standby };
  }

  /** A plain container on the first host. */
  async fresh(workload: WorkloadName): Promise<Service> {
    const spec = specOf(workload);
    await this.#image(spec);
    const service = new Service(this.#hosts, spec);
    await service.run(this.#hosts.hosts[0] ?? "alpha");
    return service;
  }

  /** Power on, cables in, daemons running, no fault armed. */
  async heal(): Promise<void> {
    for (const host of this.#hosts.hosts) {
      const { on, cut, dockerd, agent } = await this.#hosts.state(host);
      if (!on) {
        this.#altered.delete(host);
        await this.#hosts.boot(host);
        continue;
      }
      for (const link of cut) await this.#hosts.mend(host, link);
      if (!dockerd) await this.#hosts.dockerd(host, "start");
      if (this.#altered.delete(host)) {
        await this.#hosts.agent(host, agent ? "restart" : "start");
        // A gate outlives its agent, and keeps the fault that it was born with.
        for (const pid of this.#hosts.faultyPids(host, /(^|\/)ftgate /))
          process.kill(pid, "SIGKILL");
      } else if (!agent) await this.#hosts.agent(host, "start");
    }
  }

  /** No pair and no container anywhere; a fresh lab if that cannot be had otherwise. */
  async clear(): Promise<void> {
    this.#current = undefined;
    await this.heal();
    try {
      await clearHosts(this.#hosts);
    } catch {
      await this.rebuild();
    }
  }

  async rebuild(): Promise<void> {
    this.#current = undefined;
    this.#altered.clear();
    this.#built.clear();
    await this.#rebuildLab();
  }

  /** After a failure nothing is taken for healthy. */
  distrust(): void {
    this.#current = undefined;
  }

  async #direction(service: Service): Promise<PooledPair> {
    const [first = "alpha", second = "beta"] = this.#hosts.hosts;
    const deadlineMs = performance.now() + healTimeoutMs;
    for (;;) {
      for (const [primary, standby] of [
        [first, second],
        [second, first],
      ] as const) {
        const view = await this.#ftctl.status(primary, service.name).catch(() => undefined);
        if (view?.role === "primary" && view.state === "protected") {
          await service.untilListening();
          return { service, primary, standby };
        }
      }
      if (performance.now() > deadlineMs) throw new Error("the pair did not heal");
      await new Promise((resolve) => setTimeout(resolve, 200));
    }
  }

  async #image(spec: WorkloadSpec): Promise<void> {
    if (this.#built.has(spec.image)) return;
    await buildImage(spec);
    this.#built.add(spec.image);
  }
}
