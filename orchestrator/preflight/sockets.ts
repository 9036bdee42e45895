/** Parsers of `ss` and /proc/net tables: which socket (by inode) is of which kind. Text in, data out. */

export interface SocketUser {
  comm: string;
  pid: number;
  fd: number;
}

export interface UnixSocket {
  inode: number;
  peerInode: number;
  path: string;
  users: SocketUser[];
}

/** `users:(("redis",pid=7,fd=3),…)` at the end of a line of `ss -p`. */
export function parseSsUsers(line: string): SocketUser[] {
  const users: SocketUser[] = [];
  for (const match of line.matchAll(/\("((?:[^"\\]|\\.)*)",pid=(\d+),fd=(\d+)\)/g)) {
    users.push({ comm: match[1]!, pid: Number(match[2]), fd: Number(match[3]) });
  }
  return users;
}

/** `ss -HOnaxp`: netid state recv-q send-q local-path local-inode peer-path peer-inode users. */
export function parseSsUnix(text: string): UnixSocket[] {
  const sockets: UnixSocket[] = [];
  for (const line of text.split("\n")) {
    const match = /^u_\w+\s+\S+\s+\d+\s+\d+\s+(.*?)\s+(\d+)\s+(.*?)\s+(\d+)(?:\s|$)/.exec(line);
    if (match === null) continue;
    sockets.push({
      inode: Number(match[2]),
      peerInode: Number(match[4]),
      path: match[1] === "*" ? (match[3] === "*" ? "" : match[3]!) : match[1]!,
      users: parseSsUsers(line),
    });
  }
  return sockets;
}

export interface MptcpSocket {
  local: string;
  peer: string;
  users: SocketUser[];
}

/** `ss -HOnaepM`. */
export function parseSsMptcp(text: string): MptcpSocket[] {
  return text
    .split("\n")
    .map((line) => ({ line, words: line.trim().split(/\s+/) }))
    .filter(
      ({ words }) => words.length >= 5 && /^(mptcp|ESTAB|LISTEN|UNCONN|CLOSE)/i.test(words[0]!),
    )
    .map(({ line, words }) => {
      const at = words[0]!.toLowerCase() === "mptcp" ? 4 : 3;
      return { local: words[at] ?? "", peer: words[at + 1] ?? "", users: parseSsUsers(line) };
    });
}

/** Inodes of /proc/net/{packet,raw,netlink,…}: the column named Inode (or inode). */
export function parseInodes(table: string): number[] {
  return parseTable(table)
    .map((row) => Number(row.get("inode")))
    .filter((inode) => inode > 0);
}

export interface NetlinkSocket {
  inode: number;
  protocol: number;
}

export function parseNetlink(table: string): NetlinkSocket[] {
  return parseTable(table)
    .map((row) => ({ inode: Number(row.get("inode")), protocol: Number(row.get("eth")) }))
    .filter((socket) => socket.inode > 0);
}

function parseTable(text: string): Map<string, string>[] {
  const [header = "", ...lines] = text.split("\n").filter((line) => line.trim() !== "");
  // Of /proc/net/raw: the heads "tx_queue rx_queue" and "tr tm->when" share a column of the rows each.
  const heads = header
    .toLowerCase()
    .replace("tx_queue rx_queue", "queues")
    .replace("tr tm->when", "timer")
    .trim()
    .split(/\s+/);
  return lines.map((line) => {
    const words = line.trim().split(/\s+/);
    return new Map(heads.map((head, index) => [head, words[index] ?? ""]));
  });
}

/** Sockets in use by protocol, of this network namespace: the third column of /proc/net/protocols. */
export function parseProtocols(text: string): Map<string, number> {
  const counts = new Map<string, number>();
  for (const line of text.split("\n").slice(1)) {
    const [protocol, , sockets] = line.trim().split(/\s+/);
    if (protocol && Number(sockets) > 0) counts.set(protocol, Number(sockets));
  }
  return counts;
}
