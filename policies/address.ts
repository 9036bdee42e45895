/** IPv4 and MAC addresses as the policy uses them. */

export interface Cidr {
  /** Dotted quad, without the prefix length. */
  ip: string;
  prefix: number;
}

/** A dotted quad as an unsigned 32-bit number; undefined when it is none (leading zeros are refused: octal traps). */
export function ipv4Number(text: string): number | undefined {
  const parts = text.split(".");
  if (parts.length !== 4) return undefined;
  let value = 0;
  for (const part of parts) {
    if (!/^(0|[1-9]\d{0,2})$/.test(part) || Number(part) > 255) return undefined;
    value = value * 256 + Number(part);
  }
  return value;
}

export function parseCidr(text: string): Cidr | undefined {
  const match = /^([\d.]{7,15})\/(\d{1,2})$/.exec(text);
  if (match?.[1] === undefined || ipv4Number(match[1]) === undefined) return undefined;
  const prefix = Number(match[2]);
  return prefix > 32 ? undefined : { ip: match[1], prefix };
}

export function networkOf(ip: number, prefix: number): number {
  const size = 2 ** (32 - prefix);
  return Math.floor(ip / size) * size;
}

/** Why a host cannot have this address; undefined when it can. */
export function unusableAddress(cidr: Cidr): string | undefined {
  const ip = ipv4Number(cidr.ip) as number;
  const first = Math.floor(ip / 2 ** 24);
  if (first === 0 || first === 127 || first >= 224) {
    return `${cidr.ip} is not a unicast address that a service can have`;
  }
  if (cidr.prefix < 8 || cidr.prefix > 30) {
    return "the prefix length must lie between /8 and /30";
  }
  const network = networkOf(ip, cidr.prefix);
  if (ip === network) return `${cidr.ip} is the network's own address`;
  if (ip === network + 2 ** (32 - cidr.prefix) - 1) return `${cidr.ip} is the broadcast address`;
  return undefined;
}

export const MAC_PATTERN = /^[0-9a-f]{2}(:[0-9a-f]{2}){5}$/i;

/** Unicast: the lowest bit of the first octet is clear. */
export function isUnicastMac(mac: string): boolean {
  return MAC_PATTERN.test(mac) && (Number.parseInt(mac.slice(0, 2), 16) & 1) === 0;
}
