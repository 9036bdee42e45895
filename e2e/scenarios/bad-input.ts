/** Hostile and mistaken input: a clear error, and nothing changed. */
import { createHash } from "node:crypto";
import type { Host } from "../runner/hosts.js";
import { type Context, expectThat, type Scenario, scenarioUnderLoad } from "../runner/scenario.js";

/** Sends junk to each address from inside a network namespace; prints nothing, ends by itself. */
const bombard = `
const net = require("net"), dgram = require("dgram"), crypto = require("crypto");
const targets = JSON.parse(process.argv[1]);
let seed = Buffer.from(process.argv[2]);
const junk = (n) => { const parts = []; let have = 0; while (have < n) {
  seed = crypto.createHash("sha256").update(seed).digest(); parts.push(seed); have += seed.length; }
  return Buffer.concat(parts).subarray(0, n); };
const shapes = () => [
  junk(1), junk(64), junk(4096), junk(1 << 20), Buffer.alloc(65536),
  Buffer.from("GET / HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n"),
  Buffer.from("PRI * HTTP/2.0\\r\\n\\r\\nSM\\r\\n\\r\\n"),
  Buffer.from([0x16, 3, 1, 0xff, 0xff, 1, 0, 0xff, 0xfb]),
  Buffer.concat([Buffer.from("FTSTRM01"), junk(56)]),
  Buffer.concat([Buffer.from("FTEPOCH1"), junk(104)]),
  Buffer.from("hello\\n".repeat(10000)),
];
const tcp = (to, bytes) => new Promise((done) => {
  const socket = net.connect(to, () => socket.end(bytes));
  socket.on("error", done); socket.on("close", done); socket.resume();
  setTimeout(() => { socket.destroy(); done(); }, 1500);
});
const udp = (to, bytes) => new Promise((done) => {
  const socket = dgram.createSocket("udp4");
  socket.send(bytes.subarray(0, 1400), to.port, to.host, () => { socket.close(); done(); });
});
(async () => {
  for (const to of targets) {
    const send = to.kind === "udp" ? udp : tcp;
    await Promise.all(shapes().map((bytes) => send(to, bytes)));
    // Half-open and silent: must not hold anything up.
    if (to.kind === "tcp") await Promise.all(Array.from({ length: 50 }, () => new Promise((done) => {
      const socket = net.connect(to, () => setTimeout(() => { socket.destroy(); done(); }, 300));
      socket.on("error", done);
    })));
  }
  process.exit(0);
})();
`;

interface Target {
  kind: "tcp" | "udp" | "unix";
  host?: string;
  port?: number;
  path?: string;
}

/** Every port a host listens on, found by asking the kernel. */
async function listeners(context: Context, host: Host): Promise<Target[]> {
  const found = await context.hosts.exec(host, ["ss", "-Hltun"], 10_000);
  const targets: Target[] = [];
  for (const line of found.stdout.split("\n")) {
    const [kind, , , , local = ""] = line.trim().split(/\s+/);
    const address = /^(.*):(\d+)$/.exec(local);
    if ((kind !== "tcp" && kind !== "udp") || !address) continue;
    const name = address[1]!.replace(/^\[?(::ffff:)?/, "").replace(/\]?(%.*)?$/, "");
    const own = name === "*" || name === "0.0.0.0" || name === ":" || name === "";
    targets.push({ kind, host: own ? "127.0.0.1" : name, port: Number(address[2]) });
  }
  const find = ["find", "/run/ftctl", "-type", "s"];
  const sockets = await context.hosts.exec(host, find, 10_000);
  for (const path of sockets.stdout.split("\n").filter(Boolean)) {
    targets.push({ kind: "unix", path });
  }
  return targets;
}

const hostileBytes = scenarioUnderLoad(
  { name: "bad-input/hostile-bytes-on-every-port", quick: true, boundMs: 180_000 },
  async ({ service, primary, standby, client }, context) => {
    let count = 0;
    const processes = () =>
      [primary, standby].map((host) => [
        host,
        context.hosts.pids(host, /(^|\/)(ftgate|ftstore) |ftctl.* agent/).join(),
      ]);
    const before = processes();
    const generation = (await context.ftctl.status(primary, service.name)).generation;
    for (const host of [primary, standby]) {
      const targets = await listeners(context, host);
      expectThat(
        targets.some(({ kind }) => kind === "tcp") && targets.some(({ kind }) => kind === "udp"),
        `${host} listens nowhere: ${JSON.stringify(targets)}`,
      );
      count += targets.length;
      const seed = createHash("sha256").update(host).digest("hex");
      const argv = [process.execPath, "-e", bombard, JSON.stringify(targets), seed];
      const result = await context.hosts.exec(host, argv, 60_000);
      expectThat(result.exitCode === 0, result.stderr);
    }
    context.note(`${count} ports and sockets`);
    await client.makesProgress(50, 30_000);
    const view = await service.untilProtected(primary, 30_000);
    expectThat(view.generation === generation, "hostile bytes moved the service");
    expectThat(
      JSON.stringify(processes()) === JSON.stringify(before),
      `processes before ${before}, after ${processes()}`,
    );
  },
);

/** A foreign host with a token that nobody issued. */
const wrongToken: Scenario = {
  name: "bad-input/wrong-token",
  quick: true,
  boundMs: 60_000,
  run: async (context) => {
    await context.pool.heal();
    const [first = "alpha", second = "beta"] = context.hosts.hosts;
    const state = "/run/ft-foreign";
    for (const token of ["", "x", "not-a-token", "A".repeat(5_000), "ft1.AAAA.BBBB.CCCC"]) {
      const args = ["join", context.hosts.replicationAddress(first), "--host", "mallory"];
      const where = ["--listen", context.hosts.replicationAddress(second), "--state-dir", state];
      const result = await context.ftctl.run(second, [...args, ...where, "--token", token], 30_000);
      expectThat(result.exitCode !== 0, `token ${token.slice(0, 20)} was accepted`);
      expectThat(result.exitCode !== 124, `token ${token.slice(0, 20)} ran into a time-out`);
      expectThat(result.stderr.trim() !== "", "a refusal without a word");
    }
    const left = await context.hosts.exec(second, [
      "sh",
      "-c",
      `ls -A ${state} 2>/dev/null || true`,
    ]);
    expectThat(!/key|crt|pem/.test(left.stdout), `a refused host keeps ${left.stdout}`);
  },
};

const unknownContainer: Scenario = {
  name: "bad-input/unknown-names",
  quick: true,
  boundMs: 60_000,
  run: async (context) => {
    await context.pool.heal();
    const [first = "alpha", second = "beta"] = context.hosts.hosts;
    const attempts: [string[], number[]][] = [
      [
        ["protect", "no-such-container", "--standby", second, "-y"],
        [3, 4],
      ],
      [["unprotect", "no-such-pair", "-y"], [3]],
      [["status", "no-such-pair"], [3]],
      [["switchover", "no-such-pair", "-y"], [3]],
      [["failover", "no-such-pair", "--force", "-y"], [3]],
      [["inspect", "no-such-pair"], [3]],
      [["no-such-command"], [2]],
      [["protect"], [2]],
    ];
    for (const [args, codes] of attempts) {
      const result = await context.ftctl.run(first, args, 60_000);
      const what = `ftctl ${args.join(" ")} ended with ${result.exitCode}`;
      expectThat(
        codes.includes(result.exitCode),
        `${what}, not ${codes.join(" or ")}: ${result.stderr}`,
      );
      expectThat(result.stderr.trim() !== "", `${what} without a word`);
    }
  },
};

export const badInputScenarios: Scenario[] = [hostileBytes, wrongToken, unknownContainer];
