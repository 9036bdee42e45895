/** The address on the container's interface, put there from the host: the image needs no tools. */
import { execa } from "execa";
import { ipv4Number, networkOf, parseCidr } from "../../policies/address.js";
import { asFtError, FtError, invariant } from "../errors/error.js";
import { limits } from "../limits.js";

export interface InterfaceSetup {
  /** A process of the container, on the host. */
  pid: number;
  name: string;
  /** With prefix length. */
  address: string;
  gateway: string | undefined;
  mtu: number;
  /**
   * Segments that a connection may send before the first ACK; absent: the kernel's own. A standby's routes have a
   * wide one, so that restored connections send all that was unacknowledged at once; it is narrowed after a takeover.
   */
  initialWindowSegments?: number;
}

/** Wide enough for whatever a send buffer holds. */
export const WIDE_WINDOW_SEGMENTS = 10_000;

/**
 * What waits for a neighbour's hardware address, in frames of 1514 bytes: as much as a gate holds (64 MiB). After a takeover
 * all connections send at once, and nobody is asked for an address before the gate is open. The kernel's own bound, 101
 * frames, dropped the oldest: answers that were sent again only after a retransmission's time-out.
 */
export const NEIGHBOUR_QUEUE_FRAMES = 30_000;

/** Idempotent: may be repeated after a restart of agent or gate. */
export async function configureInterface(setup: InterfaceSetup): Promise<void> {
  await inNetns(setup.pid, interfaceCommands(setup));
}

/** `ip -batch` lines. */
export function interfaceCommands(setup: InterfaceSetup): string[] {
  const { name, address, gateway, mtu, initialWindowSegments } = setup;
  const window = initialWindowSegments === undefined ? "" : ` initcwnd ${initialWindowSegments}`;
  const [ip = ""] = address.split("/");
  return [
    "link set lo up",
    `link set ${name} mtu ${mtu} up`,
    `ntable change name arp_cache dev ${name} queue ${NEIGHBOUR_QUEUE_FRAMES}`,
    `address replace ${address} dev ${name} noprefixroute`,
    `route replace ${subnetOf(address)} dev ${name} proto kernel scope link src ${ip}${window}`,
    ...(gateway === undefined ? [] : [`route replace default via ${gateway} dev ${name}${window}`]),
  ];
}

/** `10.0.0.5/24` → `10.0.0.0/24` */
function subnetOf(address: string): string {
  const cidr = parseCidr(address);
  invariant(cidr !== undefined, `a policy's address is checked: ${address}`);
  const network = networkOf(ipv4Number(cidr.ip) ?? 0, cidr.prefix);
  const octets = [24, 16, 8, 0].map((shift) => (network >>> shift) & 255);
  return `${octets.join(".")}/${cidr.prefix}`;
}

async function inNetns(pid: number, commands: string[]): Promise<void> {
  try {
    await execa("nsenter", [`--net=/proc/${pid}/ns/net`, "ip", "-batch", "-"], {
      input: `${commands.join("\n")}\n`,
      timeout: limits.gateCommandTimeoutMs,
    });
  } catch (cause) {
    throw new FtError({
      code: "INTERFACE_FAILED",
      subject: `network of process ${pid}`,
      message: `the interface could not be configured: ${asFtError(cause, "").message.split("\n")[0]}`,
      hint: "Is iproute2 installed? Are address and gateway of the policy in one subnet?",
      cause,
    });
  }
}
