/** Leaves no pair and no container on any running host. */
import { Ftctl } from "./ftctl.js";
import type { Hosts } from "./hosts.js";

const unprotectTimeoutMs = 120_000;

export async function clearHosts(hosts: Hosts): Promise<void> {
  const ftctl = new Ftctl(hosts);
  const running: string[] = [];
  for (const host of hosts.hosts) if (await hosts.isOn(host)) running.push(host);
  for (const host of running) {
    for (const pair of await ftctl.list(host)) {
      if (pair.role !== "primary") continue;
      await ftctl.run(host, ["unprotect", pair.name, "-y"], unprotectTimeoutMs);
    }
  }
  for (const host of running) {
    await hosts.exec(host, ["sh", "-c", "docker ps -aq | xargs -r docker rm -f -v"]);
    const left = await ftctl.list(host);
    if (left.length > 0) {
      const names = left.map(({ name, state }) => `${name} (${state})`).join(", ");
      throw new Error(`pairs are left on ${host}: ${names}`);
    }
  }
}
