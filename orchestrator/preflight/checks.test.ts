import { describe, expect, it } from "vitest";
import { inspectFixture } from "../docker/inspect.fixture.js";
import { parseMountinfo } from "../docker/mountinfo.js";
import { containerChecks } from "./container-checks.js";
import { passes, some } from "./findings.js";
import { compareVersions, type HostNeeds, hostChecks, pairChecks } from "./host-checks.js";
import {
  type HostFacts,
  parseAddresses,
  parseCpuinfo,
  parseKernelConfig,
  parseLink,
  parseTracking,
} from "./host-facts.js";
import { chooseMode, modeChecks } from "./mode.js";
import type { Runtime } from "./runtime.js";
import { parseInodes, parseNetlink, parseProtocols, parseSsMptcp, parseSsUnix } from "./sockets.js";
import { recordingChecks, workloadChecks } from "./workload-checks.js";
import {
  descendants,
  type ProcessFacts,
  parentOf,
  parseOddMappings,
  parseSharedMappings,
  parseStatus,
  parseSysvipc,
  type WorkloadFacts,
} from "./workload-facts.js";

const host: HostFacts = {
  host: "alpha",
  kernelRelease: "6.18.1",
  kernelConfig: {
    CONFIG_CHECKPOINT_RESTORE: "y",
    CONFIG_NET_NS: "y",
    CONFIG_PID_NS: "y",
    CONFIG_UNIX_DIAG: "m",
    CONFIG_INET_DIAG: "y",
  },
  hasTun: true,
  tracking: { mode: "wp-async" },
  cpuModel: "AMD EPYC",
  cpuFlags: ["sse2", "avx2", "ibrs"],
  criuVersion: "4.2.1",
  docker: { version: "20.10.24", storageDriver: "overlay2", cgroupVersion: "2", liveRestore: true },
  hasImage: true,
  uplink: {
    exists: true,
    isBridge: true,
    up: true,
    mtu: 1500,
    addresses: ["10.0.0.1/24"],
    bridgeCallsIptables: false,
  },
  addressInUse: false,
  space: {
    runDirFreeBytes: 2 ** 30,
    stateDirFreeBytes: 2 ** 34,
    dockerFreeBytes: 2 ** 34,
    memoryAvailableBytes: 2 ** 33,
  },
  wallMs: 1_700_000_000_000,
  bindSources: {},
  nameTaken: false,
};
const needs: HostNeeds = { memoryBytes: 2 ** 26, address: "10.0.0.5/24", uplink: "br0", mtu: 1500 };
const bad = (checks: ReturnType<typeof hostChecks>) =>
  checks.filter((check) => check.status !== "ok").map((check) => `${check.status} ${check.name}`);

describe("a host", () => {
  it("passes when all is well", () => {
    expect(bad(hostChecks(host, needs))).toEqual([]);
    expect(bad(pairChecks(host, { ...host, host: "beta" }))).toEqual([]);
  });

  it.each<[string, Partial<HostFacts>, string]>([
    ["an old kernel", { kernelRelease: "5.10.0-13-amd64" }, "failed kernel"],
    ["a kernel without checkpoints", { kernelConfig: { CONFIG_NET_NS: "y" } }, "failed kernel"],
    ["no TUN", { hasTun: false }, "failed kernel"],
    ["memory that is not tracked", { tracking: { mode: "full" } }, "warning memory-tracking"],
    ["old CRIU", { criuVersion: "4.1.1" }, "failed criu"],
    ["no CRIU", { criuVersion: undefined as never }, "failed criu"],
    ["no Docker", { docker: undefined as never, dockerProblem: "away" }, "failed docker"],
    ["other storage", { docker: { ...host.docker!, storageDriver: "vfs" } }, "failed docker"],
    ["no uplink", { uplink: { ...host.uplink!, exists: false } }, "failed uplink"],
    [
      "an uplink that is no bridge",
      { uplink: { ...host.uplink!, isBridge: false } },
      "failed uplink",
    ],
    ["an uplink that is down", { uplink: { ...host.uplink!, up: false } }, "failed uplink"],
    [
      "filtered bridges",
      { uplink: { ...host.uplink!, bridgeCallsIptables: true } },
      "warning uplink",
    ],
    ["a taken address", { addressInUse: true }, "failed service-address"],
    [
      "the service address as its own",
      { uplink: { ...host.uplink!, addresses: ["10.0.0.5/24"] } },
      "failed service-address",
    ],
    [
      "an address of another subnet",
      { uplink: { ...host.uplink!, addresses: ["192.168.1.1/24"] } },
      "warning service-address",
    ],
    ["a small tmpfs", { space: { ...host.space, runDirFreeBytes: 2 ** 26 } }, "failed space"],
  ])("is held against it: %s", (_what, change, expected) => {
    expect(bad(hostChecks({ ...host, ...change }, needs))).toContain(expected);
  });

  it("says how memory is tracked, and what it costs where it is not", () => {
    const told = (facts: HostFacts) =>
      hostChecks(facts, needs).find(({ name }) => name === "memory-tracking")?.reason;
    expect(told(host)).toMatch(/^wp-async: /);
    const full = { mode: "full" as const, reason: "no userfaultfd" };
    const why = told({ ...host, tracking: full });
    expect(why).toMatch(/ms of pause per 100 MiB, \d+ ms for the 64 MiB here: no userfaultfd$/);
    const dirty = { mode: "soft-dirty" as const, reason: "an old kernel" };
    expect(told({ ...host, tracking: dirty })).toMatch(
      /^soft-dirty: .* looks at all pages: an old kernel$/,
    );
  });

  it("has its tracking read from the probe, and believes nothing else", () => {
    expect(parseTracking("ok tracking=wp-async\n")).toEqual({ mode: "wp-async" });
    const refused = "ok tracking=full reason=the%20kernel%20gives%20none";
    expect(parseTracking(refused)).toEqual({ mode: "full", reason: "the kernel gives none" });
    expect(parseTracking("ok tracking=soft-dirty reason=old")).toEqual({
      mode: "soft-dirty",
      reason: "old",
    });
    expect(parseTracking("")).toMatchObject({ mode: "full" });
  });

  it.each<[string, Partial<HostFacts>, string]>([
    ["a CPU without what the primary's has", { cpuFlags: ["sse2"] }, "failed cpu-features"],
    ["another kernel", { kernelRelease: "6.12.0" }, "warning kernel-versions"],
    ["another Docker", { docker: { ...host.docker!, version: "28.0" } }, "warning docker-versions"],
    [
      "another cgroup",
      { docker: { ...host.docker!, cgroupVersion: "1" } },
      "failed docker-versions",
    ],
    ["a taken name", { nameTaken: true }, "failed container-name"],
    ["a clock far away", { wallMs: host.wallMs + 5000 }, "warning clock"],
  ])("as a standby is refused or warned of: %s", (_what, change, expected) => {
    expect(bad(pairChecks(host, { ...host, ...change }))).toContain(expected);
  });

  it("has the same recorder if it is to replay", () => {
    const of = (a: string | undefined, b: string | undefined) => {
      const facts = (name: string, recorderBuild: string | undefined) => ({
        ...{ ...host, host: name },
        ...(recorderBuild === undefined ? {} : { recorderBuild }),
      });
      return bad(pairChecks(facts("alpha", a), facts("beta", b), true));
    };
    expect(of("75f0", "75f0")).toEqual([]);
    expect(of("75f0", "15df")).toEqual(["failed recorder"]);
    expect(of("75f0", undefined)).toEqual(["failed recorder"]);
    expect(of(undefined, undefined)).toEqual(["failed recorder"]);
    expect(bad(pairChecks({ ...host, recorderBuild: "75f0" }, host))).toEqual([]);
  });

  it("may lack what only the kernel uses of a CPU", () => {
    expect(bad(pairChecks(host, { ...host, cpuFlags: ["sse2", "avx2"] }))).toEqual([]);
  });

  it("must have the files behind bind mounts", () => {
    const primary = { ...host, bindSources: { "/etc/a.conf": "file" as const } };
    const standby = { ...host, bindSources: { "/etc/a.conf": "missing" as const } };
    expect(bad(pairChecks(primary, standby))).toEqual(["failed bind-sources"]);
  });

  it("compares versions by number", () => {
    expect(compareVersions("4.10", "4.2")).toBe(1);
    expect(compareVersions("4.2", "4.2.0")).toBe(0);
    expect(compareVersions("6.1.0-13-amd64", "6.7")).toBe(-1);
  });

  it("has its uplink read from `ip`, as captured", () => {
    const bridge =
      '[{"ifindex":3,"ifname":"br0","flags":["BROADCAST","MULTICAST","UP","LOWER_UP"],"mtu":1500,"operstate":"UP","linkinfo":{"info_kind":"bridge","info_data":{"forward_delay":1500}}}]';
    expect(parseLink(bridge)).toEqual({ exists: true, isBridge: true, up: true, mtu: 1500 });
    const other = '[{},{"ifname":"eth0","flags":["BROADCAST"],"mtu":9000}]';
    expect(parseLink(other)).toEqual({ exists: true, isBridge: false, up: false, mtu: 9000 });
    expect(parseLink("")).toMatchObject({ exists: false });
  });

  it("is read from the kernel's own words", () => {
    expect(parseKernelConfig("# CONFIG_A is not set\nCONFIG_TUN=m\nCONFIG_X=y\n")).toEqual({
      CONFIG_TUN: "m",
      CONFIG_X: "y",
    });
    expect(
      parseCpuinfo("processor\t: 0\nmodel name\t: AMD EPYC\nflags\t\t: fpu sse2\n\nflags: no\n"),
    ).toEqual({
      model: "AMD EPYC",
      flags: ["fpu", "sse2"],
    });
    expect(
      parseAddresses('[{"ifname":"br0","addr_info":[{"local":"10.0.0.1","prefixlen":24}]}]'),
    ).toEqual(["10.0.0.1/24"]);
  });
});

describe("a container", () => {
  const facts = (parts: Parameters<typeof inspectFixture>[0], mountinfo = "") => ({
    inspect: inspectFixture(parts),
    mounts: parseMountinfo(mountinfo),
    policyMounts: [],
    bindSources: {},
  });
  const found = (parts: Parameters<typeof inspectFixture>[0]) =>
    bad(containerChecks(facts(parts), "alpha"));

  it("passes when it is ordinary", () => {
    expect(found({})).toEqual([]);
  });

  it.each<[string, Parameters<typeof inspectFixture>[0], string]>([
    ["stopped", { State: { Running: false } }, "failed container"],
    ["paused", { State: { Paused: true } }, "failed container"],
    ["--rm", { HostConfig: { AutoRemove: true } }, "failed container"],
    ["another runtime", { HostConfig: { Runtime: "runsc" } }, "failed container"],
    ["privileged", { HostConfig: { Privileged: true } }, "failed privileges"],
    ["the host's pids", { HostConfig: { PidMode: "host" } }, "failed namespaces"],
    ["another's network", { HostConfig: { NetworkMode: "container:abc" } }, "failed namespaces"],
    ["the host's ipc", { HostConfig: { IpcMode: "host" } }, "failed namespaces"],
    ["a terminal", { Config: { Tty: true } }, "failed terminal"],
    ["open input", { Config: { OpenStdin: true } }, "warning terminal"],
    ["a device", { HostConfig: { Devices: [{ PathInContainer: "/dev/fuse" }] } }, "failed devices"],
    [
      "published ports",
      { HostConfig: { PortBindings: { "80/tcp": [{}] } } },
      "warning container-network",
    ],
    [
      "two networks",
      { NetworkSettings: { Networks: { a: {}, b: {} } } },
      "failed container-network",
    ],
    ["other storage", { GraphDriver: { Name: "btrfs", Data: null } }, "failed storage"],
    ["a swarm", { Config: { Labels: { "com.docker.swarm.task": "x" } } }, "failed management"],
    [
      "compose",
      { Config: { Labels: { "com.docker.compose.project": "x" } } },
      "warning management",
    ],
  ])("is held against it: %s", (_what, parts, expected) => {
    expect(found(parts)).toContain(expected);
  });

  it("must have each writable volume decided about, by its name inside", () => {
    const volume = { Type: "volume", Name: "v", Source: "/v", Destination: "/data", RW: true };
    const base = facts({ Mounts: [volume] });
    const undecided = containerChecks(base, "alpha").filter((check) => check.status === "failed");
    expect(undecided.map((check) => check.reason)).toEqual([
      "/data is writable, but the policy does not say what becomes of it",
    ]);
    const decided = { ...base, policyMounts: [{ target: "/data/", action: "replicate" as const }] };
    expect(passes(containerChecks(decided, "alpha"))).toBe(true);
    const wrong = { ...base, policyMounts: [{ target: "/dat", action: "replicate" as const }] };
    expect(passes(containerChecks(wrong, "alpha"))).toBe(false);
  });

  it("may not hold sockets of the host, network file systems or mounts made while it ran", () => {
    const bind = {
      Type: "bind",
      Source: "/var/run/docker.sock",
      Destination: "/d.sock",
      RW: false,
    };
    const mountinfo = `118 64 0:51 / / rw - overlay overlay rw
120 118 0:55 / /dev rw - tmpfs tmpfs rw
135 118 0:70 / /nfs rw - nfs4 server:/x rw
136 118 254:0 /x /later rw - ext4 /dev/vda rw
138 118 254:0 /c/hosts /etc/hosts rw - ext4 /dev/vda rw
`;
    const base = facts({ Mounts: [bind] }, mountinfo);
    const socket = { ...base, bindSources: { "/var/run/docker.sock": "socket" as const } };
    const reasons = containerChecks(socket, "alpha")
      .filter((check) => check.status === "failed")
      .map((check) => check.reason);
    expect(reasons).toEqual([
      "/nfs is a mount of type nfs4",
      expect.stringContaining("/later was mounted inside the container"),
      expect.stringContaining("/d.sock is a socket of the host"),
    ]);
  });
});

const process: ProcessFacts = {
  pid: 500,
  inside: 1,
  comm: "app",
  program: "/usr/bin/app",
  threads: 1,
  parent: 400,
  tracer: 0,
  rssBytes: 4096,
  inTree: true,
  foreignNamespaces: [],
  descriptors: [],
  oddMappings: [],
  runtime: "glibc",
  sharedMappings: [],
};
const workload: WorkloadFacts = {
  initPid: 500,
  processes: [process],
  unix: [],
  mptcp: [],
  packet: [],
  raw: [],
  netlink: [],
  protocols: { TCP: 2 },
  ipc: { sharedMemory: 0, semaphores: 0, messageQueues: 0, posixQueues: [] },
};
const unix = (inode: number, peerInode: number, path = "", pid = 500) => ({
  inode,
  peerInode,
  path,
  users: [{ comm: "x", pid, fd: 1 }],
});

describe("a workload", () => {
  const withProcess = (change: Partial<ProcessFacts>) =>
    bad(workloadChecks({ ...workload, processes: [{ ...process, ...change }] }, "alpha"));

  it("passes when it is ordinary", () => {
    const descriptors = [
      "/dev/null",
      "pipe:[1]",
      "socket:[9]",
      "anon_inode:[eventpoll]",
      "/data/x",
    ].map((target, fd) => ({ fd, target }));
    expect(withProcess({ descriptors })).toEqual([]);
  });

  it.each([
    ["anon_inode:[io_uring]", "failed io-uring"],
    ["anon_inode:[userfaultfd]", "failed userfaultfd"],
    ["anon_inode:[perf_event]", "failed kernel-objects"],
    ["anon_inode:bpf-map", "failed kernel-objects"],
    ["anon_inode:kvm-vm", "failed kernel-objects"],
    ["/dev/kvm", "failed open-devices"],
    ["/dev/pts/0", "failed open-devices"],
  ])("may not hold %s", (target, expected) => {
    expect(withProcess({ descriptors: [{ fd: 7, target }] })).toEqual([expected]);
  });

  it("is found by what it maps when the descriptor is closed, and only once when it is not", () => {
    const oddMappings = ["anon_inode:[io_uring]"];
    expect(withProcess({ oddMappings })).toEqual(["failed io-uring"]);
    const descriptors = [{ fd: 3, target: "anon_inode:[io_uring]" }];
    expect(withProcess({ oddMappings, descriptors })).toEqual(["failed io-uring"]);
  });

  it("may not be traced or have namespaces of its own; docker exec is only warned of", () => {
    expect(withProcess({ tracer: 9 })).toEqual(["failed ptrace"]);
    expect(withProcess({ foreignNamespaces: ["mnt"] })).toEqual(["failed process-tree"]);
    expect(withProcess({ inTree: false })).toEqual(["warning process-tree"]);
  });

  it("is recorded with its forked children, if nothing else ties them together; docker exec does not count", () => {
    const among = (...others: Partial<ProcessFacts>[]) => {
      const processes = [process, ...others.map((other) => ({ ...process, ...other }))];
      return bad(recordingChecks({ ...workload, processes }, "alpha"));
    };
    expect(among()).toEqual([]);
    expect(among({ pid: 501, inTree: false })).toEqual([]);
    expect(among({ pid: 501, parent: 500 })).toEqual([]);
    const program = "/usr/bin/other";
    expect(among({ pid: 501, parent: 500, program })).toEqual(["failed recording"]);
    const threaded = { ...process, pid: 501, parent: 500, threads: 2 };
    expect(among(threaded)).toEqual([]);
    expect(among(threaded, { pid: 502, parent: 501 })).toEqual(["failed recording"]);
    const sharedMappings = ["/dev/shm/x"];
    expect(among({ pid: 501, parent: 500, sharedMappings })).toEqual([]);
    const both = { sharedMappings };
    expect(among({ pid: 501, ...both }, { pid: 502, ...both })).toEqual(["failed recording"]);
  });

  it.each<[Runtime, RegExp]>([
    ["musl", /process 500 \(app\) uses musl/],
    ["static", /process 500 \(app\) is linked statically/],
    ["go", /process 500 \(app\) is written in Go/],
    ["glibc-old", /process 500 \(app\) uses a glibc older than 2\.31/],
  ])("is not recorded if it is %s, and that is said by name", (runtime, reason) => {
    const facts = { ...workload, processes: [{ ...process, runtime }] };
    const [check] = recordingChecks(facts, "alpha");
    expect(check).toMatchObject({ status: "failed", name: "recording" });
    expect(check?.reason).toMatch(reason);
    const recorder = { host: "alpha", recorderBuild: "75f0" };
    const chosen = chooseMode(facts, recorder, recorder);
    expect(chosen).toMatchObject({ mode: "checkpoint", reason: expect.stringMatching(reason) });
    expect(modeChecks(false, chosen.reason, "alpha")).toMatchObject([
      { status: "ok", name: "mode" },
    ]);
  });

  it("is recorded with mode auto if nothing speaks against it, and the standby has the same recorder", () => {
    const recorder = { host: "alpha", recorderBuild: "75f0" };
    const choose = (standby: Parameters<typeof chooseMode>[2], facts?: WorkloadFacts) =>
      chooseMode(facts, recorder, standby);
    expect(choose(recorder, workload).mode).toBe("hybrid");
    expect(choose({ host: "beta", recorderBuild: "0000" }, workload)).toMatchObject({
      mode: "checkpoint",
      reason: expect.stringMatching(/another build/),
    });
    expect(choose({ host: "beta" }, workload).mode).toBe("checkpoint");
    expect(choose(undefined, workload).mode).toBe("checkpoint");
    expect(choose(recorder, undefined).mode).toBe("checkpoint");
  });

  it("may hold unix sockets only to its own", () => {
    const holding = (inodes: number[], sockets: ReturnType<typeof unix>[]) => {
      const descriptors = inodes.map((inode, i) => ({ fd: i + 3, target: `socket:[${inode}]` }));
      const facts = { ...workload, processes: [{ ...process, descriptors }], unix: sockets };
      return bad(workloadChecks(facts, "alpha"));
    };
    expect(holding([10, 11], [unix(10, 11), unix(11, 10)])).toEqual([]);
    expect(holding([10], [unix(10, 99)])).toEqual(["failed unix-sockets"]);
    expect(holding([10], [unix(10, 99), unix(99, 10, "/var/run/x", 7)])).toEqual([
      "failed unix-sockets",
    ]);
    expect(holding([10], [unix(10, 0, "/run/listening")])).toEqual([]);
  });

  it("may not use protocols that cannot be dumped, named or not", () => {
    const mptcp = bad(workloadChecks({ ...workload, protocols: { MPTCPv6: 1 } }, "alpha"));
    expect(mptcp).toEqual(["failed mptcp"]);
    const sctp = bad(workloadChecks({ ...workload, protocols: { SCTP: 1 } }, "alpha"));
    expect(sctp).toEqual(["failed other-sockets"]);
  });

  it("may not have System V objects or message queues", () => {
    const ipc = { sharedMemory: 1, semaphores: 1, messageQueues: 1, posixQueues: ["q"] };
    expect(bad(workloadChecks({ ...workload, ipc }, "alpha"))).toHaveLength(4);
  });
});

describe("tables of /proc and ss, as captured", () => {
  it("ss -x", () => {
    const text = `u_str LISTEN 0      4096   /run/containerd/s/ac3ee3ced7b71c7020cb618cd19523d4 73217 * 0     users:(("containerd-shim",pid=26719,fd=12))
u_str ESTAB  0      0                                               /tmp/c.sock 7238  * 7237  users:(("containerd",pid=2651,fd=14))
u_str ESTAB  0      0      * 77005 * 77006 users:(("python3",pid=27645,fd=7),("a b",pid=2,fd=1))
`;
    expect(
      parseSsUnix(text).map(({ users, ...socket }) => ({ ...socket, users: users.length })),
    ).toEqual([
      {
        inode: 73217,
        peerInode: 0,
        path: "/run/containerd/s/ac3ee3ced7b71c7020cb618cd19523d4",
        users: 1,
      },
      { inode: 7238, peerInode: 7237, path: "/tmp/c.sock", users: 1 },
      { inode: 77005, peerInode: 77006, path: "", users: 2 },
    ]);
  });

  it("ss -M", () => {
    const text = `ESTAB  0      0      127.0.0.1:45671 127.0.0.1:49128 ino:0 sk:6e cgroup:/ <->
LISTEN 1      128    127.0.0.1:45671   0.0.0.0:*     users:(("python3",pid=27645,fd=3)) ino:76999 sk:70 cgroup:/ <->
`;
    expect(parseSsMptcp(text)).toEqual([
      { local: "127.0.0.1:45671", peer: "127.0.0.1:49128", users: [] },
      {
        local: "127.0.0.1:45671",
        peer: "0.0.0.0:*",
        users: [{ comm: "python3", pid: 27645, fd: 3 }],
      },
    ]);
  });

  it("/proc/net/packet, raw, netlink, protocols", () => {
    expect(
      parseInodes(`sk               RefCnt Type Proto  Iface R Rmem   User   Inode
00000000b26eb4cd 3      3    0003   0     1 0      0      77004
`),
    ).toEqual([77004]);
    expect(
      parseInodes(`  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops
 160: 00000000:0001 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 77003 2 00000000112f1c45 0
`),
    ).toEqual([77003]);
    expect(
      parseNetlink(`sk               Eth Pid        Groups   Rmem     Wmem     Dump  Locks    Drops    Inode
00000000b9663a11 0   0          00000000 0        0        0     2        0        4
00000000a149ee73 15  0          00000000 0        0        0     2        0        1511
`),
    ).toEqual([
      { inode: 4, protocol: 0 },
      { inode: 1511, protocol: 15 },
    ]);
    expect([
      ...parseProtocols(`protocol  size sockets  memory press maxhdr  slab module
MPTCPv6   2064      3     409   no       0   yes  kernel
TCP       2304      0     409   no     192   yes  kernel
`),
    ]).toEqual([["MPTCPv6", 3]]);
  });

  it("/proc/PID/status, stat, maps and /proc/sysvipc", () => {
    const status =
      "Name:\tredis\nPPid:\t7\nTracerPid:\t9\nNSpid:\t500\t1\nVmRSS:\t  12 kB\nThreads:\t3\n";
    expect(parseStatus(status)).toEqual({
      comm: "redis",
      threads: 3,
      parent: 7,
      tracer: 9,
      inside: 1,
      rssBytes: 12288,
    });
    expect(parentOf("4 (a) b (c) R 3 4 4 0")).toBe(3);
    expect([
      ...descendants(
        2,
        new Map([
          [4, 3],
          [3, 2],
          [9, 1],
          [2, 1],
        ]),
      ),
    ]).toEqual([2, 3, 4]);
    expect(
      parseSharedMappings(`7f00-7f01 rw-s 00000000 00:01 5 /dev/zero (deleted)
7f01-7f02 rw-s 00000000 00:01 5                  /dev/shm/x y
7f02-7f03 r--s 00000000 00:01 5                  /dev/shm/z
7f03-7f04 rw-p 00000000 08:01 5                  /usr/lib/libc.so.6
`),
    ).toEqual(["/dev/shm/x y"]);
    expect(
      parseOddMappings(`7f00-7f01 rw-s 00000000 00:01 5 /SYSV00000000 (deleted)
7f01-7f02 rw-s 00000000 00:01 5                  anon_inode:[io_uring]
7f02-7f03 rw-s 00000000 00:01 5                  /dev/shm/x
7f03-7f04 r-xp 00000000 08:01 5                  /usr/lib/libc.so.6
`),
    ).toEqual(["/SYSV00000000 (deleted)", "anon_inode:[io_uring]"]);
    const ipc = parseSysvipc(`       key      shmid perms                  size
         0          3  1600                  4096
       key      semid perms      nsems
       key      msqid perms      cbytes
         1          0   600           0
         2          1   600           0
`);
    expect(ipc).toEqual({ sharedMemory: 1, semaphores: 0, messageQueues: 2 });
  });

  it("long lists stay readable", () => {
    expect(some(["a", "a", "b"])).toBe("a, b");
    expect(some(["1", "2", "3", "4", "5", "6"])).toBe("1, 2, 3, 4 and 2 more");
  });
});
