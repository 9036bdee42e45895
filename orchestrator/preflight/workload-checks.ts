/**
 * Checks of what a container's processes hold. Pure. Each finding names the process (pid on the host, command) and
 * the descriptor, so that it can be found and changed.
 */
import type { CheckResult } from "../agent/api-types.js";
import { type Finding, failed, results, some, warning } from "./findings.js";
import { unrecordable } from "./runtime.js";
import type { SocketUser } from "./sockets.js";
import type { Descriptor, ProcessFacts, WorkloadFacts } from "./workload-facts.js";

/** CRIU copies deleted files that are still open, up to this size. */
const DELETED_BYTES_MAX = 2 ** 20;

export function workloadChecks(facts: WorkloadFacts, host: string): CheckResult[] {
  const check = (name: string, findings: Finding[], ok: string) =>
    results(name, host, findings, ok);
  const { processes } = facts;
  return [
    ...check("io-uring", ioUringFindings(processes), "not used"),
    ...check("userfaultfd", userfaultfdFindings(processes), "not used"),
    ...check("kernel-objects", kernelObjectFindings(processes), "none that cannot be checkpointed"),
    ...check("open-devices", openDeviceFindings(processes), "none"),
    ...check("mptcp", mptcpFindings(facts), "not used"),
    ...check("unix-sockets", unixFindings(facts), "none lead out of the container"),
    ...check("other-sockets", socketFindings(facts), "only TCP, UDP and unix sockets"),
    ...check("ipc", ipcFindings(facts), "no System V objects or message queues"),
    ...check("deleted-files", deletedFindings(processes), "none too large are open"),
    ...check(
      "process-tree",
      treeFindings(facts),
      `${processes.length} processes, all below the first`,
    ),
    ...check("ptrace", ptraceFindings(processes), "nobody is traced"),
  ];
}

/**
 * Mode hybrid is for programs that use glibc. Of several processes those are recorded that were forked by one with a
 * single thread; see docs/recorder.md.
 */
export function recordingChecks(facts: WorkloadFacts, host: string): CheckResult[] {
  return results("recording", host, recordingFindings(facts), "all its processes can be recorded");
}

/** Memory of all processes; pages they share count more than once, which errs on the safe side. */
export function residentBytes(facts: WorkloadFacts): number {
  return facts.processes.reduce((sum, process) => sum + process.rssBytes, 0);
}

const named = (process: ProcessFacts) => `process ${process.pid} (${process.comm})`;

/** One finding a process: `process 4711 (node) descriptor 9, 12: why`. */
function byDescriptor(
  processes: ProcessFacts[],
  wanted: (descriptor: Descriptor) => boolean,
  why: (descriptors: Descriptor[]) => string,
  remedy: string,
  make: typeof failed = failed,
): Finding[] {
  const found: Finding[] = [];
  for (const process of processes) {
    const hits = process.descriptors.filter(wanted);
    if (hits.length === 0) continue;
    const fds = some(hits.map((hit) => String(hit.fd)));
    found.push(make(`${named(process)} descriptor ${fds}: ${why(hits)}`, remedy));
  }
  return found;
}

function byMapping(
  processes: ProcessFacts[],
  wanted: RegExp,
  why: string,
  remedy: string,
): Finding[] {
  return processes
    .filter((process) => process.oddMappings.some((path) => wanted.test(path)))
    .map((process) => {
      const paths = some(process.oddMappings.filter((path) => wanted.test(path)));
      return failed(`${named(process)} maps ${paths}: ${why}`, remedy);
    });
}

function ioUringFindings(processes: ProcessFacts[]): Finding[] {
  const why = "io_uring cannot be checkpointed";
  const remedy =
    "Turn it off in the application (Node.js: UV_USE_IO_URING=0; MariaDB: innodb_use_native_aio=0) or refuse io_uring_setup in the seccomp profile.";
  const open = byDescriptor(
    processes,
    (d) => d.target.includes("[io_uring]"),
    () => why,
    remedy,
  );
  const holders = new Set(open.map((finding) => finding.reason.split(" descriptor")[0]));
  const mapped = byMapping(processes, /\[io_uring\]/, why, remedy);
  return [...open, ...mapped.filter((finding) => !holders.has(finding.reason.split(" maps")[0]!))];
}

function userfaultfdFindings(processes: ProcessFacts[]): Finding[] {
  return byDescriptor(
    processes,
    (d) => d.target.includes("[userfaultfd]"),
    () => "userfaultfd cannot be checkpointed",
    "Turn off what pages memory in user space in this application.",
  );
}

const KERNEL_OBJECTS =
  /^anon_inode:(\[perf_event\]|bpf-|\[?bpf|kvm-|\[?kvm|\[landlock|seccomp notify|\[iommufd|\[?secretmem|dma|sync_file|\[vfio)/;

function kernelObjectFindings(processes: ProcessFacts[]): Finding[] {
  const odd = byDescriptor(
    processes,
    (d) => KERNEL_OBJECTS.test(d.target),
    (hits) =>
      `${some(hits.map((hit) => hit.target.replace("anon_inode:", "")))} cannot be checkpointed`,
    "Turn off the profiler, tracer or virtual machine that uses it.",
  );
  return [
    ...odd,
    ...byMapping(
      processes,
      /^\/secretmem/,
      "secret memory cannot be read",
      "Turn memfd_secret off.",
    ),
  ];
}

const HARMLESS_DEVICES = new Set(["null", "zero", "full", "random", "urandom"]);

function openDeviceFindings(processes: ProcessFacts[]): Finding[] {
  const device = (target: string) => /^\/dev\/(?!shm\/|mqueue\/)(\S+)/.exec(target)?.[1];
  const isTerminal = (name: string) => /^(pts\/|tty|console|ptmx)/.test(name);
  const wanted = (d: Descriptor) => {
    const name = device(d.target);
    return name !== undefined && !HARMLESS_DEVICES.has(name) && !isTerminal(name);
  };
  const why = (hits: Descriptor[]) => `${some(hits.map((hit) => hit.target))} is a device`;
  const inTree = processes.filter((process) => process.inTree);
  return [
    ...byDescriptor(inTree, wanted, why, "A device's state cannot be checkpointed."),
    ...byDescriptor(
      inTree,
      (d) => isTerminal(device(d.target) ?? ""),
      (hits) => `${some(hits.map((hit) => hit.target))} is a terminal`,
      "Start the container without -t.",
    ),
    ...byMapping(
      inTree,
      /^\/dev\//,
      "a device's memory",
      "A device's state cannot be checkpointed.",
    ),
  ];
}

const MPTCP_REMEDY =
  "Go 1.24 and later use it for listeners: set GODEBUG=multipathtcp=0. Or sysctl net.mptcp.enabled=0 in the container (--sysctl).";

function mptcpFindings(facts: WorkloadFacts): Finding[] {
  const count = (facts.protocols.MPTCP ?? 0) + (facts.protocols.MPTCPv6 ?? 0);
  const users = new Map<string, string[]>();
  for (const socket of facts.mptcp) {
    for (const user of socket.users) {
      const list = users.get(userName(user)) ?? [];
      list.push(`${user.fd} (${socket.local})`);
      users.set(userName(user), list);
    }
  }
  const found = [...users].map(([user, fds]) =>
    failed(`${user} descriptor ${some(fds)}: MPTCP sockets cannot be checkpointed`, MPTCP_REMEDY),
  );
  if (found.length > 0 || count === 0) return found;
  return [failed(`${count} MPTCP sockets are in use and cannot be checkpointed`, MPTCP_REMEDY)];
}

const userName = (user: SocketUser) => `process ${user.pid} (${user.comm})`;

/** Inode to the descriptors that hold it. */
function holders(processes: ProcessFacts[]): Map<number, { process: ProcessFacts; fd: number }[]> {
  const map = new Map<number, { process: ProcessFacts; fd: number }[]>();
  for (const process of processes) {
    for (const { fd, target } of process.descriptors) {
      const inode = Number(/^socket:\[(\d+)\]$/.exec(target)?.[1] ?? 0);
      if (inode === 0) continue;
      map.set(inode, [...(map.get(inode) ?? []), { process, fd }]);
    }
  }
  return map;
}

function unixFindings(facts: WorkloadFacts): Finding[] {
  const held = holders(facts.processes.filter((process) => process.inTree));
  const inside = new Map(facts.unix.map((socket) => [socket.inode, socket]));
  const found: Finding[] = [];
  for (const [inode, users] of held) {
    const socket = inside.get(inode);
    if (socket === undefined || socket.peerInode === 0 || held.has(socket.peerInode)) continue;
    const { process, fd } = users[0]!;
    // A connection that nobody has accepted yet has a peer without a descriptor; its listener is inside.
    const listener = facts.unix.find(
      (other) => other.path !== "" && other.path === socket.path && held.has(other.inode),
    );
    if (listener !== undefined && !isHeldOutside(facts, socket.peerInode)) continue;
    const peer = inside.get(socket.peerInode);
    const where = (peer?.path || socket.path) === "" ? "" : ` (${peer?.path || socket.path})`;
    found.push(
      failed(
        `${named(process)} descriptor ${fd}: its unix socket${where} is connected to a process outside of the container`,
        "Such a connection cannot move to another host: reach that service by TCP.",
      ),
    );
  }
  return found;
}

function isHeldOutside(facts: WorkloadFacts, inode: number): boolean {
  const socket = facts.unix.find((other) => other.inode === inode);
  const own = new Set(facts.processes.map((process) => process.pid));
  return socket?.users.some((user) => !own.has(user.pid)) ?? false;
}

const NETLINK_KNOWN = new Map([
  [0, "route"],
  [4, "sock_diag"],
  [16, "generic"],
]);
/** Protocols of /proc/net/protocols that CRIU cannot dump at all. */
const PROTOCOLS_UNSUPPORTED = [
  "SCTP",
  "SCTPv6",
  "DCCP",
  "DCCPv6",
  "AF_VSOCK",
  "XDP",
  "ALG",
  "TIPC",
  "SMC",
  "KCM",
  "CAN",
  "RDS",
  "L2TP/IP",
];

function socketFindings(facts: WorkloadFacts): Finding[] {
  const held = holders(facts.processes);
  const naming = (inodes: number[], what: string, make: typeof failed, remedy?: string) =>
    inodes.flatMap((inode) =>
      (held.get(inode) ?? [])
        .slice(0, 1)
        .map(({ process, fd }) => make(`${named(process)} descriptor ${fd}: ${what}`, remedy)),
    );
  const odd = facts.netlink.filter((socket) => !NETLINK_KNOWN.has(socket.protocol));
  return [
    ...naming(
      facts.packet,
      "a packet socket cannot be checkpointed faithfully",
      failed,
      "Run the capture or DHCP client outside of the container.",
    ),
    ...naming(facts.raw, "a raw socket may lose what it has received at a failover", warning),
    ...odd.flatMap((socket) =>
      naming(
        [socket.inode],
        `a netlink socket of protocol ${socket.protocol} may not be checkpointed`,
        warning,
      ),
    ),
    ...PROTOCOLS_UNSUPPORTED.filter((protocol) => (facts.protocols[protocol] ?? 0) > 0).map(
      (protocol) =>
        failed(
          `${facts.protocols[protocol]} sockets of protocol ${protocol} are in use and cannot be checkpointed`,
        ),
    ),
  ];
}

function ipcFindings(facts: WorkloadFacts): Finding[] {
  const { sharedMemory, semaphores, messageQueues, posixQueues } = facts.ipc;
  const remedy =
    "Configure the application to use POSIX shared memory (/dev/shm) or mmap. PostgreSQL always makes a segment: it cannot be protected yet.";
  const users = facts.processes.filter((process) =>
    process.oddMappings.some((path) => path.startsWith("/SYSV")),
  );
  const who = users.length === 0 ? "" : `, mapped by ${some(users.map(named))}`;
  const found: Finding[] = [];
  if (sharedMemory > 0)
    found.push(
      failed(
        `${sharedMemory} System V shared memory segments${who}: the standby's would be empty`,
        remedy,
      ),
    );
  if (semaphores > 0)
    found.push(
      failed(`${semaphores} System V semaphore sets: the standby would lack them`, remedy),
    );
  if (messageQueues > 0)
    found.push(failed(`${messageQueues} System V message queues: the standby would lack them`));
  if (posixQueues.length > 0)
    found.push(failed(`POSIX message queues (${some(posixQueues)}): the standby would lack them`));
  return found;
}

function deletedFindings(processes: ProcessFacts[]): Finding[] {
  return byDescriptor(
    processes.filter((process) => process.inTree),
    (d) =>
      (d.deletedBytes ?? 0) > DELETED_BYTES_MAX && !/^\/(memfd:|SYSV|dev\/zero)/.test(d.target),
    (hits) =>
      `a deleted file of more than 1 MiB is open (${some(hits.map((hit) => hit.target.replace(" (deleted)", "")))})`,
    "Deleted files that are open cannot be replicated as files; restart the application if it only forgot to close them.",
    warning,
  );
}

function treeFindings(facts: WorkloadFacts): Finding[] {
  const found: Finding[] = [];
  const outside = facts.processes.filter((process) => !process.inTree);
  if (outside.length > 0) {
    found.push(
      warning(
        `${some(outside.map(named))}: not below the container's first process (docker exec); not protected, and ended by protect`,
        "Let the container's own command start what the service needs.",
      ),
    );
  }
  for (const process of facts.processes.filter((process) => process.inTree)) {
    if (process.foreignNamespaces.length === 0) continue;
    found.push(
      failed(
        `${named(process)} has namespaces of its own (${process.foreignNamespaces.join(", ")})`,
        "Turn the application's own sandbox off (Chromium: --no-sandbox; systemd: PrivateTmp and the like).",
      ),
    );
  }
  return found;
}

const RECORDING_REMEDY =
  "Use mode checkpoint, which needs nothing of the program; or an image built on glibc 2.31 or newer.";

export function recordingFindings(facts: WorkloadFacts): Finding[] {
  const inTree = facts.processes.filter((process) => process.inTree);
  const first = inTree.find((process) => process.pid === facts.initPid) ?? inTree[0];
  const findings = inTree.flatMap((process) => {
    const why = unrecordable(process.runtime);
    return why === undefined ? [] : [failed(`${named(process)} ${why}`, RECORDING_REMEDY)];
  });
  if (inTree.length <= 1 || first === undefined) return findings;
  const remedy = "Use mode checkpoint.";
  const others = inTree.filter((process) => process.program !== first.program);
  const children = new Set(inTree.map((process) => process.parent));
  const threaded = inTree.filter((process) => process.threads > 1 && children.has(process.pid));
  const sharing = inTree.filter((process) => process.sharedMappings.length > 0);
  const paths = new Set(sharing.flatMap((process) => process.sharedMappings));
  if (others.length > 0) {
    const what = `${some(others.map(named))}: not the first process's program`;
    findings.push(failed(`${what}; mode hybrid records no children that run another one`, remedy));
  }
  if (threaded.length > 0) {
    const what = `${some(threaded.map(named))}: has several threads and children`;
    findings.push(failed(`${what}; mode hybrid records no children of such a process`, remedy));
  }
  if (sharing.length > 1) {
    const what = `${some(sharing.map(named))}: share memory (${some([...paths])})`;
    findings.push(failed(`${what}; mode hybrid records nobody's turns on it`, remedy));
  }
  return findings;
}

function ptraceFindings(processes: ProcessFacts[]): Finding[] {
  return processes
    .filter((process) => process.tracer !== 0)
    .map((process) =>
      failed(
        `${named(process)} is traced by process ${process.tracer}`,
        "Detach the debugger or tracer: a process has only one.",
      ),
    );
}
