/** Through `runCli` with streams of our own: what a terminal sees, and exact outputs. */
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { PassThrough } from "node:stream";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { parse } from "yaml";
import { effectivePolicy } from "../../policies/labels.js";
import { type ApiServer, startApiServer } from "../agent/api-server.js";
import type { Clock } from "../clock.js";
import type { Cluster } from "./cluster.js";
import { runCli } from "./run.js";
import { type FakeAgent, fakeAgent, REDIS, WEB } from "./testing/fake-agent.js";

const NOW_MS = Date.parse("2026-01-01T00:10:00.000Z");
const ESCAPE = "\u001b";

let dir: string;
let agent: FakeAgent;
let server: ApiServer;

beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), "ftctl-cli-"));
  agent = fakeAgent();
  server = await startApiServer({ socketPath: join(dir, "agent.sock"), service: agent });
});
afterEach(async () => {
  await server.close();
  await rm(dir, { recursive: true });
});

interface Given {
  terminal?: boolean;
  input?: string;
  env?: NodeJS.ProcessEnv;
  cluster?: Partial<Cluster>;
  interrupt?: AbortSignal;
  /** Stops when stdout has this. */
  until?: string;
}

async function ftctl(words: string, given: Given = {}) {
  const stdin = new PassThrough() as PassThrough & { isTTY?: boolean };
  const stdout = new PassThrough() as PassThrough & { isTTY?: boolean };
  const stderr = new PassThrough() as PassThrough & { isTTY?: boolean };
  if (given.terminal) for (const stream of [stdin, stdout, stderr]) stream.isTTY = true;
  const out: string[] = [];
  const err: string[] = [];
  const interrupt = new AbortController();
  stdout.on("data", (chunk) => {
    out.push(String(chunk));
    if (given.until !== undefined && out.join("").includes(given.until)) interrupt.abort();
  });
  stderr.on("data", (chunk) => err.push(String(chunk)));
  if (given.input !== undefined) stdin.end(given.input);
  const clock: Clock = {
    nowMs: () => performance.now(),
    wallMs: () => NOW_MS,
    sleep: (ms) => new Promise((resolve) => setTimeout(resolve, Math.min(ms, 5))),
  };
  const code = await runCli(
    words.split(" ").filter((word) => word !== ""),
    {
      io: {
        stdin,
        stdout,
        stderr,
        env: { FTCTL_RUN_DIR: dir, FTCTL_CONFIG: configFile(), ...given.env },
      },
      clock,
      cluster: given.cluster as Cluster,
      interrupt: given.interrupt ?? interrupt.signal,
    },
  );
  return { code, out: out.join(""), err: err.join("") };
}

function configFile(): string {
  return given.config ?? "";
}
const given: { config?: string } = {};
beforeEach(async () => {
  given.config = join(dir, "agent.yaml");
  await writeFile(given.config, "logLevel: info\n");
});

describe("ls", () => {
  it("is a table of aligned columns", async () => {
    agent.pairs = [WEB, REDIS];
    const { code, out, err } = await ftctl("ls");
    expect({ code, err }).toEqual({ code: 0, err: "" });
    expect(out).toBe(
      [
        "NAME    ROLE      STATE       PEER    ADDRESS       EPOCH   COMMITTED   SINCE",
        "redis   primary   protected   beta    10.0.0.5/24   4711    31 ms ago   10 min",
        "web     primary   blocked     beta!   10.0.0.6/24   12      65 s ago    -",
        "",
      ].join("\n"),
    );
  });

  it("has more columns with -o wide", async () => {
    const { out } = await ftctl("ls -o wide");
    const [header, row] = out.split("\n");
    expect(header).toMatch(
      /^NAME +ID +ROLE .* PAUSE P50\/P99 +DELAY P50\/P99 +PAUSE PARTS +MEMORY +IMAGE +CONTAINER$/,
    );
    expect(row).toContain("5.1 ms / 9 ms");
    expect(row).toMatch(/redis:7 +b00b1e5deadb$/);
  });

  it("prints the same data as json, yaml and names", async () => {
    agent.pairs = [REDIS, WEB];
    expect(JSON.parse((await ftctl("ls -o json")).out)).toEqual([REDIS, WEB]);
    expect(parse((await ftctl("ls -o yaml")).out)).toEqual([REDIS, WEB]);
    expect((await ftctl("ls -o name")).out).toBe("redis\nweb\n");
  });

  it("says when there is nothing, on stderr", async () => {
    agent.pairs = [];
    expect(await ftctl("ls")).toEqual({
      code: 0,
      out: "",
      err: "Nothing is protected on this host.\n",
    });
    expect(await ftctl("ls -o json")).toEqual({ code: 0, out: "[]\n", err: "" });
  });

  it("is coloured on a terminal only, and never with NO_COLOR", async () => {
    expect((await ftctl("ls", { terminal: true })).out).toContain(ESCAPE);
    expect((await ftctl("ls")).out).not.toContain(ESCAPE);
    const plain = await ftctl("ls", { terminal: true, env: { NO_COLOR: "1" } });
    expect(plain.out).not.toContain(ESCAPE);
  });
});

describe("status", () => {
  it("proves protection", async () => {
    const { code, out } = await ftctl("status redis");
    expect(code).toBe(0);
    expect(out).toBe(
      [
        "redis   protected",
        "  Roles           alpha primary, beta standby",
        "  Protected since 2026-01-01T00:00:00.000Z (10 min)",
        "  Last committed  epoch 4711, 31 ms ago (4,711 committed, 2 skipped)",
        "  Held now        3 frames, 4.1 KiB, oldest 12 ms",
        "  Pause           p50 5.1 ms, p99 9 ms, max 12 ms, avg 5.3 ms",
        "  Output delay    p50 20 ms, p99 39 ms, max 61 ms, avg 21 ms",
        "  Peer            beta is alive, lease fresh",
        "  Service         10.0.0.5/24, mode checkpoint, policy default",
        "  Identity        pair 4f1c09aa72de, generation 3, image redis:7",
        "  Last takeover   2025-12-31T23:00:00.000Z from epoch 17: detected in 92 ms, restored in 48 ms, 160 ms in all",
        "",
      ].join("\n"),
    );
  });

  it("is 5 for a pair that is not fully protected, and says why", async () => {
    agent.pairs = [REDIS, WEB];
    const { code, out } = await ftctl("status web");
    expect(code).toBe(5);
    expect(out).toContain("  Why             the standby is silent; output waits\n");
    expect(out).toContain("  Protected since not protected\n");
    expect((await ftctl("status")).code).toBe(5);
    expect((await ftctl("status redis")).code).toBe(0);
  });

  it("gives each of several its own result and ends with the worst code", async () => {
    agent.pairs = [REDIS, WEB];
    const { code, out, err } = await ftctl("status redis nope 9a00 -o json");
    expect(code).toBe(5);
    expect(JSON.parse(out)).toEqual([REDIS, WEB]);
    expect(JSON.parse(err)).toMatchObject({ code: "NOT_FOUND", exitCode: 3 });
    expect((await ftctl("status redis nope")).code).toBe(3);
  });

  it("watches: one JSON object a line", async () => {
    const { code, out } = await ftctl("status -w -o json", { until: "}\n{" });
    expect(code).toBe(130);
    for (const line of out.trim().split("\n")) expect(JSON.parse(line)).toEqual(REDIS);
  });

  it("watches: redraws on a terminal, appends elsewhere", async () => {
    const screen = await ftctl("status -w", { terminal: true, until: "takeover" });
    expect(screen.out).toContain(`${ESCAPE}[2J`);
    const piped = await ftctl("status -w", { until: "takeover" });
    expect(piped.out).not.toContain(ESCAPE);
  });
});

describe("protect", () => {
  it("asks on a terminal and takes no for an answer", async () => {
    const { code, err } = await ftctl("protect redis", { terminal: true, input: "n\n" });
    expect(code).toBe(6);
    expect(err).toContain("restarts it");
    expect(err).toContain("nothing was changed");
    expect(agent.calls).toEqual([]);
  });

  it("goes on after yes", async () => {
    const { code, out } = await ftctl("protect redis", { terminal: true, input: "y\n" });
    expect(code).toBe(0);
    expect(out).toContain("protected");
    expect(agent.calls).toEqual(['protect {"container":"redis"}']);
  });

  it("takes the end of input for no", async () => {
    const { code } = await ftctl("protect redis", { terminal: true, input: "" });
    expect(code).toBe(6);
    expect(agent.calls).toEqual([]);
  });

  it("without a terminal needs -y", async () => {
    const { code, err } = await ftctl("protect redis");
    expect(code).toBe(6);
    expect(err).toMatch(/CONFIRMATION_NEEDED.*\n.*-y/);
    expect(agent.calls).toEqual([]);
    expect((await ftctl("protect redis", { env: { FTCTL_YES: "1" } })).code).toBe(0);
  });

  it("puts progress on stderr and data on stdout", async () => {
    const { out, err } = await ftctl("protect redis -y");
    expect(out).not.toContain("image sent");
    expect(err).toBe("redis: image sent (4.8 MiB of 8.6 MiB)\nredis: first checkpoint\n");
    expect((await ftctl("protect redis -y -q")).err).toBe("");
    const json = await ftctl("protect redis -y -o json");
    expect(json.err).toBe("");
    expect(JSON.parse(json.out)).toMatchObject([{ name: "redis" }]);
  });

  it("spins on a terminal and leaves no trace of it", async () => {
    const { err } = await ftctl("protect redis -y", { terminal: true });
    expect(err).toContain("first checkpoint");
    expect(err.endsWith("\r\u001b[K")).toBe(true);
  });

  it("sends the policy of a file, valid and with its name", async () => {
    const file = join(dir, "web.yaml");
    await writeFile(
      file,
      "apiVersion: ftctl.dev/v1alpha1\nkind: ProtectionPolicy\nmetadata: {name: web}\nspec: {epoch: {intervalMs: 40}}\n",
    );
    expect((await ftctl(`protect redis -f ${file} --standby beta -y`)).code).toBe(0);
    const sent = JSON.parse((agent.calls[0] as string).slice("protect ".length));
    expect(sent).toMatchObject({ container: "redis", standby: "beta", policyName: "web" });
    expect(sent.policy.spec.epoch.intervalMs).toBe(40);
  });

  it("asks nothing of the agent when the policy is wrong", async () => {
    const file = join(dir, "bad.yaml");
    await writeFile(file, "kind: ProtectionPolicy\nspec: {epok: 1}\n");
    const { code, err } = await ftctl(`protect redis -f ${file} -y`);
    expect(code).toBe(2);
    expect(err).toContain(`${file}:2:8: spec.epok: unknown field; did you mean "epoch"?`);
    expect((await ftctl("protect redis --policy nope -y")).code).toBe(3);
    expect(agent.calls).toEqual([]);
  });
});

describe("check", () => {
  it("is 4 when a check failed, with the remedy", async () => {
    const { code, out } = await ftctl("check bad");
    expect(code).toBe(4);
    expect(out).toBe(
      [
        "CONTAINER   HOST    CHECK      STATUS   REASON",
        "bad         alpha   kernel     ok       6.18 has all that is needed",
        "bad         alpha   io-uring   failed   redis-server (71) holds descriptor 9",
        "   what to do: Turn it off.",
        "",
      ].join("\n"),
    );
    expect((await ftctl("check good")).code).toBe(0);
    expect((await ftctl("check good bad")).code).toBe(4);
  });
});

describe("takeovers", () => {
  it("failover needs --force, then a yes", async () => {
    expect(await ftctl("failover web -y")).toMatchObject({ code: 6, out: "" });
    expect((await ftctl("failover web --force")).code).toBe(6);
    expect(agent.calls).toEqual([]);
    expect((await ftctl("failover web --force -y")).code).toBe(0);
    expect(agent.calls).toEqual(['failover {"pair":"web","force":true}']);
  });

  it("switchover asks nothing: no connection is lost", async () => {
    expect((await ftctl("switchover redis")).code).toBe(0);
    expect(agent.calls).toEqual(['switchover {"pair":"redis"}']);
  });

  it("unprotect takes several, each once", async () => {
    expect(await ftctl("unprotect redis web redis -y")).toEqual({
      code: 0,
      out: "redis is a plain container again\nweb is a plain container again\n",
      err: "",
    });
    expect(agent.calls).toHaveLength(2);
  });
});

describe("events and logs", () => {
  it("events are lines, filtered by name", async () => {
    expect((await ftctl("events")).out).toBe(
      "2026-01-01T00:00:00.000Z  info     alpha  redis  protected  epoch 1 is committed\n2026-01-01T00:00:01.000Z  warning  alpha  web  standby-lost  output waits\n",
    );
    expect((await ftctl("events web -o name")).out).toBe("standby-lost\n");
    expect((await ftctl("events --after 1 -o json")).out.trim().split("\n")).toHaveLength(1);
    expect((await ftctl("events --after x")).code).toBe(2);
  });

  it("events -f ends with Ctrl-C", async () => {
    const { code, out } = await ftctl("events -f -o json", { until: "standby-lost" });
    expect(code).toBe(130);
    for (const line of out.trim().split("\n")) expect(JSON.parse(line).host).toBe("alpha");
  });

  it("logs keep control characters away from the terminal", async () => {
    expect((await ftctl("logs redis")).out).toBe("agent: one\ngate: ?[2Jtwo\n");
    expect((await ftctl("logs redis -n 0")).code).toBe(2);
  });
});

describe("inspect and version", () => {
  it("inspect is JSON, as with docker", async () => {
    expect(JSON.parse((await ftctl("inspect redis")).out)).toEqual([agent.inspected]);
    expect(parse((await ftctl("inspect redis -o yaml")).out)).toEqual([agent.inspected]);
  });

  it("version works with and without an agent", async () => {
    expect((await ftctl("version")).out).toMatch(
      /agent +9\.9\.9 on alpha \(protocol 1, kernel 6\.18/,
    );
    const alone = await ftctl("version --socket /nonexistent -o json");
    expect(alone.code).toBe(0);
    expect(JSON.parse(alone.out).agentError.code).toBe("AGENT_UNREACHABLE");
  });
});

describe("apply", () => {
  const policyText = (interval: number) =>
    `# mine\napiVersion: ftctl.dev/v1alpha1\nkind: ProtectionPolicy\nmetadata: {name: web}\nspec:\n  containers: [shop]\n  epoch: {intervalMs: ${interval}}\n  network: {address: 10.0.0.7/24, uplink: br0}\n`;

  async function write(interval: number): Promise<string> {
    const file = join(dir, "in.yaml");
    await writeFile(file, policyText(interval));
    return file;
  }

  /** As the agent remembers a pair. */
  async function remember(interval: number): Promise<void> {
    const document = parse(policyText(interval));
    const request = { container: "shop", pairId: REDIS.id, labels: {}, onlyPeer: "beta" };
    const policy = await effectivePolicy({ ...request, document });
    agent.inspected = { record: { id: REDIS.id, policy } };
  }

  it("creates, then leaves unchanged, then configures with --replace only", async () => {
    const file = await write(40);
    const created = await ftctl(`apply -f ${file} -y -q`);
    expect(created).toEqual({
      code: 0,
      out: "policy/web created\ncontainer/shop created\n",
      err: "",
    });
    expect(await readFile(join(dir, "policies/web.yaml"), "utf8")).toBe(policyText(40));

    await remember(40);
    agent.calls.length = 0;
    const again = await ftctl(`apply -f ${file} -y`);
    expect(again.out).toBe("policy/web unchanged\ncontainer/shop unchanged\n");
    expect(agent.calls).toEqual([]);

    await write(80);
    const refused = await ftctl(`apply -f ${file} -y`);
    expect(refused).toMatchObject({ code: 6, out: "policy/web configured\n" });
    expect(refused.err).toContain("POLICY_CHANGE_NEEDS_REPLACE");
    expect(agent.calls).toEqual([]);

    const replaced = await ftctl(`apply -f ${file} --replace -y -q -o json`);
    expect(JSON.parse(replaced.out)).toEqual([
      { object: "policy/web", action: "unchanged" },
      { object: "container/shop", action: "configured" },
    ]);
    expect(agent.calls.map((call) => call.split(" ")[0])).toEqual(["unprotect", "protect"]);
  });

  it("changes nothing with --dry-run or when any file is wrong", async () => {
    const file = await write(40);
    const dry = await ftctl(`apply -f ${file} --dry-run`);
    expect(dry).toMatchObject({ code: 0, out: "policy/web created\ncontainer/shop created\n" });
    await writeFile(join(dir, "bad.yaml"), "kind: Pod\n");
    expect((await ftctl(`apply -f ${file} ${join(dir, "bad.yaml")} -y`)).code).toBe(2);
    expect((await ftctl(`apply -f ${file} ${file} -y`)).err).toContain("POLICY_GIVEN_TWICE");
    await expect(readFile(join(dir, "policies/web.yaml"))).rejects.toThrow("ENOENT");
    expect(agent.calls).toEqual([]);
  });

  it("reads stdin", async () => {
    const { out } = await ftctl("apply -f - -y -q", { input: policyText(40) });
    expect(out).toContain("policy/web created");
  });
});

describe("policy", () => {
  it("validate tells every file's own result", async () => {
    const bad = join(dir, "bad.yaml");
    await writeFile(bad, "kind: Pod\n");
    const { code, out, err } = await ftctl(`policy validate ${bad} - -o name`, {
      input: "apiVersion: ftctl.dev/v1alpha1\nkind: ProtectionPolicy\nmetadata: {name: fine}\n",
    });
    expect(code).toBe(2);
    expect(out).toBe("fine\n");
    expect(err).toContain(`${bad}:1:7: kind: expected ProtectionPolicy`);
  });

  it("show prints what validate takes, and schema a JSON Schema", async () => {
    const { out } = await ftctl("policy show default");
    expect((await ftctl("policy validate -", { input: out })).code).toBe(0);
    const resolved = await ftctl("policy show manual --resolved");
    expect(parse(resolved.out).spec.detection.leaseMs).toBe(60);
    expect(JSON.parse((await ftctl("policy schema")).out).title).toBe("ProtectionPolicy");
    expect((await ftctl("policy show nope")).code).toBe(3);
  });
});

describe("init and join", () => {
  const invitation = {
    host: "alpha",
    token: "ftj1.x",
    fingerprint: "fp",
    expiresAt: "2026-01-01T00:15:00.000Z",
  };
  const joined = { host: "beta", address: "10.78.0.2", fingerprint: "fp" };

  it("init prints the token alone on stdout, what to do on stderr", async () => {
    const cluster = { init: async () => invitation };
    const { code, out, err } = await ftctl("init --host alpha --listen 10.78.0.1", { cluster });
    expect({ code, out }).toEqual({ code: 0, out: "ftj1.x\n" });
    expect(err).toContain("ftctl join 10.78.0.1");
    const json = await ftctl("init --host alpha --listen 10.78.0.1 -o json", { cluster });
    expect(JSON.parse(json.out)).toEqual(invitation);
    expect((await ftctl("init --host alpha", { cluster })).code).toBe(2);
  });

  it.each<[string, string, Given]>([
    ["the flag", "--token T", {}],
    ["the environment", "", { env: { FTCTL_TOKEN: "T" } }],
    ["stdin", "", { input: "T\n" }],
  ])("join takes the token from %s", async (_name, words, how) => {
    const seen: string[] = [];
    const cluster: Partial<Cluster> = {
      join: async (_settings, { token }) => {
        seen.push(token);
        return joined;
      },
    };
    const line = `join 10.78.0.1 --host beta --listen 10.78.0.2 ${words}`;
    expect((await ftctl(line, { ...how, cluster })).code).toBe(0);
    expect(seen).toEqual(["T"]);
  });

  it("join without a token says where to get one", async () => {
    const { code, err } = await ftctl("join 10.78.0.1 --listen 10.78.0.2", { terminal: true });
    expect(code).toBe(2);
    expect(err).toContain("ftctl init --invite");
  });
});

describe("time-out and interrupt", () => {
  it("is 124 and says that things may go on", async () => {
    agent.protect = () => new Promise(() => {});
    const { code, err } = await ftctl("protect redis -y --timeout 100ms -o json");
    expect(code).toBe(124);
    expect(JSON.parse(err)).toMatchObject({ code: "TIME_OUT", exitCode: 124 });
  });

  it("also ends what does not listen to signals", async () => {
    const cluster = { init: () => new Promise<never>(() => {}) };
    const line = "init --host a --listen 10.0.0.1 --timeout 100ms";
    expect((await ftctl(line, { cluster })).code).toBe(124);
  });

  it("is 130 after Ctrl-C", async () => {
    agent.switchover = () => new Promise(() => {});
    const interrupt = AbortSignal.timeout(100);
    expect((await ftctl("switchover redis", { interrupt })).code).toBe(130);
  });
});

describe("settings", () => {
  it("flag > environment > file", async () => {
    await writeFile(given.config as string, `runDir: ${dir}\n`);
    const nowhere = { FTCTL_RUN_DIR: "" };
    expect((await ftctl("ls", { env: nowhere })).code).toBe(0);
    expect((await ftctl("ls", { env: { FTCTL_RUN_DIR: "/nonexistent" } })).code).toBe(1);
    const flag = await ftctl(`ls --run-dir ${dir}`, { env: { FTCTL_RUN_DIR: "/nonexistent" } });
    expect(flag.code).toBe(0);
  });

  it("FTCTL_OUTPUT is the format unless -o says otherwise", async () => {
    const env = { FTCTL_OUTPUT: "name" };
    expect((await ftctl("ls", { env })).out).toBe("redis\n");
    expect(JSON.parse((await ftctl("ls -o json", { env })).out)).toHaveLength(1);
  });

  it.each([
    ["an unknown command", "lss", /did you mean ls/i],
    ["an unknown option", "ls --wide", /unknown option/],
    ["a missing argument", "protect", /missing required argument/],
    ["an unknown format", "ls -o xml", /expected one of table/],
    ["a bad duration", "ls --timeout soon", /expected a duration/],
    ["an argument too many", "ls redis", /too many arguments/],
    ["nothing", "", /a command is missing/],
    ["a broken configuration", "ls --config /nonexistent.yaml", /CONFIG_INVALID/],
  ])("%s is 2", async (_name, line, said) => {
    const { code, out, err } = await ftctl(line);
    expect({ code, out }).toEqual({ code: 2, out: "" });
    expect(err).toMatch(said);
  });

  it("usage errors are JSON too when that is asked for", async () => {
    expect(JSON.parse((await ftctl("ls --frob -o json")).err)).toMatchObject({ code: "USAGE" });
  });

  it("help is 0 and on stdout", async () => {
    const { code, out } = await ftctl("protect --help");
    expect(code).toBe(0);
    expect(out).toContain("Examples:");
    expect((await ftctl("--help")).out).toContain("Exit codes:");
  });
});

describe("errors for people", () => {
  it("say what, why, what to do, where the log is, and quote", async () => {
    const { FtError } = await import("../errors/error.js");
    agent.switchover = () =>
      Promise.reject(
        new FtError({
          code: "SWITCHOVER_FAILED",
          subject: "container redis",
          message: "the last checkpoint failed",
          hint: "Try again.",
          log: "/run/ftctl/pairs/4f/dump.log",
          quoted: ["Error (criu/tty.c:1): tty\u001b[2J"],
        }),
      );
    expect((await ftctl("switchover redis")).err).toBe(
      [
        "error SWITCHOVER_FAILED: container redis: the last checkpoint failed",
        "  | Error (criu/tty.c:1): tty?[2J",
        "  what to do: Try again.",
        "  full log:   /run/ftctl/pairs/4f/dump.log",
        "",
      ].join("\n"),
    );
  });
});

describe("completion", () => {
  it.each([
    ["commands", ["st"], ["status"]],
    ["subcommands", ["policy", "s"], ["show", "schema"]],
    ["pairs", ["unprotect", ""], ["redis"]],
    ["pairs after flags", ["status", "-o", "json", "re"], ["redis"]],
    ["policies", ["policy", "show", "low"], ["low-latency"]],
    ["values of options", ["ls", "-o", "j"], ["json"]],
    ["policies of an option", ["protect", "x", "--policy", "man"], ["manual"]],
    ["options", ["events", "--fol"], ["--follow"]],
    ["global options", ["ls", "--out"], ["--output"]],
    ["shells", ["completion", ""], ["bash", "zsh", "fish"]],
    ["files", ["apply", "-f", ""], [":files"]],
    ["nothing", ["ls", "x"], []],
  ])("offers %s", async (_name, words, expected) => {
    const stdout = new PassThrough();
    const out: string[] = [];
    stdout.on("data", (chunk) => out.push(String(chunk)));
    const io = {
      stdin: new PassThrough(),
      stdout,
      stderr: new PassThrough(),
      env: { FTCTL_RUN_DIR: dir, FTCTL_CONFIG: configFile() },
    };
    const parts = { io, cluster: {} as Cluster, interrupt: new AbortController().signal };
    await runCli(["__complete", "--", ...words], { ...parts, clock: {} as Clock });
    const offered = out.join("").split("\n").filter(Boolean);
    expect(offered.map((line) => line.split("\t")[0])).toEqual(expected);
  });
});
