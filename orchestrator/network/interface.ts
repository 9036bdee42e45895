/** The address on the container's interface, put there from the host: the image needs no tools. */
import { execa } from "execa";
import { asFtError, FtError } from "../errors/error.js";
import { limits } from "../limits.js";

export interface InterfaceSetup {
  /** A process of the container, on the host. */
  pid: number;
  name: string;
  /** With prefix length. */
  address: string;
  gateway: string | undefined;
  mtu: number;
}

/** Idempotent: may be repeated after a restart of agent or gate. */
export async function configureInterface(setup: InterfaceSetup): Promise<void> {
  await inNetns(setup.pid, interfaceCommands(setup));
}

/** `ip -batch` lines. */
export function interfaceCommands({ name, address, gateway, mtu }: InterfaceSetup): string[] {
  return [
    "link set lo up",
    `link set ${name} mtu ${mtu} up`,
    `address replace ${address} dev ${name}`,
    ...(gateway === undefined ? [] : [`route replace default via ${gateway} dev ${name}`]),
  ];
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
