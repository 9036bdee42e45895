/**
 * The lab's cables: a LAN bridge and a replication bridge in a namespace of their own, and a pair of veth for every
 * plug. A link is cut at its far end, so that the host sees its carrier go, as when a cable is pulled.
 */
import { existsSync } from "node:fs";
import type { HostLayout, LabLayout } from "./layout.js";
import { LAN_MASK_BITS } from "./layout.js";
import { run } from "./run.js";

export type LinkName = "lan" | "replication";

const BRIDGE = "type bridge stp_state 0 forward_delay 0 mcast_snooping 0";
const NETNS_DIR = "/run/netns";

export function switchBatch(): string[] {
  return [`link add lan ${BRIDGE}`, `link add rep ${BRIDGE}`, "link set lan up", "link set rep up"];
}

/** In the LAN namespace: the host's two cables, plugged in. */
export function cableBatch(host: HostLayout): string[] {
  return [
    `link add ${host.lanCable} type veth peer name lan0 netns ${host.netns}`,
    `link add ${host.replicationCable} type veth peer name rep0 netns ${host.netns}`,
    `link set ${host.lanCable} master lan up`,
    `link set ${host.replicationCable} master rep up`,
  ];
}

/** In the host's namespace. The bridge has an address of its own, or it would change with every TAP added. */
export function hostBatch(host: HostLayout): string[] {
  return [
    "link set lo up",
    `link add br0 address ${host.bridgeMac} ${BRIDGE}`,
    "link set lan0 master br0 up",
    "link set br0 up",
    `addr add ${host.lanAddress}/${LAN_MASK_BITS} dev br0`,
    "link set rep0 up",
    `addr add ${host.replicationAddress}/${LAN_MASK_BITS} dev rep0`,
  ];
}

export function clientBatches(layout: LabLayout): { lan: string[]; client: string[] } {
  return {
    lan: [
      `link add client-lan type veth peer name lan0 netns ${layout.clientNetns}`,
      "link set client-lan master lan up",
    ],
    client: [
      "link set lo up",
      "link set lan0 up",
      `addr add ${layout.clientAddress}/${LAN_MASK_BITS} dev lan0`,
    ],
  };
}

export function cablesOf(host: HostLayout, links: LinkName[]): string[] {
  return links.map((link) => (link === "lan" ? host.lanCable : host.replicationCable));
}

export async function ipBatch(netns: string, lines: string[]): Promise<void> {
  await run("ip", ["-n", netns, "-batch", "-"], { input: `${lines.join("\n")}\n` });
}

export function netnsExists(netns: string): boolean {
  return existsSync(`${NETNS_DIR}/${netns}`);
}

export function netnsPath(netns: string): string {
  return `${NETNS_DIR}/${netns}`;
}

/** IPv6 stays silent in the lab: its chatter would be held output that no test sent. */
async function addNetns(netns: string): Promise<void> {
  await run("ip", ["netns", "add", netns]);
  const script = [
    "for f in all default; do p=/proc/sys/net/ipv6/conf/$f/disable_ipv6; [ ! -e $p ] || echo 1 > $p; done",
    "p=/proc/sys/net/bridge/bridge-nf-call-iptables; [ ! -e $p ] || echo 0 > $p",
    // As systemd/60-ftctl.conf does on a real host.
    "p=/proc/sys/net/ipv4/tcp_child_ehash_entries; [ ! -e $p ] || echo 512 > $p",
  ].join("\n");
  await run("nsenter", [`--net=${netnsPath(netns)}`, "sh", "-ec", script]);
}

export async function removeNetns(netns: string): Promise<void> {
  if (netnsExists(netns)) await run("ip", ["netns", "del", netns]);
}

export async function layCables(layout: LabLayout): Promise<void> {
  await addNetns(layout.lanNetns);
  await addNetns(layout.clientNetns);
  await ipBatch(layout.lanNetns, switchBatch());
  const client = clientBatches(layout);
  await ipBatch(layout.lanNetns, client.lan);
  await ipBatch(layout.clientNetns, client.client);
}

export async function plugIn(layout: LabLayout, host: HostLayout): Promise<void> {
  await addNetns(host.netns);
  await ipBatch(layout.lanNetns, cableBatch(host));
  await ipBatch(host.netns, hostBatch(host));
}

/**
 * Takes the host's cables and network away. The cables go first and by name: the kernel destroys a namespace, and
 * with it the other ends, some time after the command that removes it.
 */
export async function unplug(layout: LabLayout, host: HostLayout): Promise<void> {
  const there = await linkStates(layout);
  const cables = cablesOf(host, ["lan", "replication"]).filter((cable) => there.has(cable));
  if (cables.length > 0) {
    await ipBatch(
      layout.lanNetns,
      cables.map((cable) => `link del ${cable}`),
    );
  }
  await removeNetns(host.netns);
}

export async function setLinks(
  layout: LabLayout,
  host: HostLayout,
  links: LinkName[],
  state: "up" | "down",
): Promise<void> {
  const lines = cablesOf(host, links).map((cable) => `link set ${cable} ${state}`);
  await ipBatch(layout.lanNetns, lines);
}

/** Whether the far ends are up, by cable name. */
export async function linkStates(layout: LabLayout): Promise<Map<string, boolean>> {
  const text = await run("ip", ["-n", layout.lanNetns, "-json", "link", "show"]);
  const links = JSON.parse(text) as { ifname: string; flags: string[] }[];
  return new Map(links.map((link) => [link.ifname, link.flags.includes("UP")]));
}
