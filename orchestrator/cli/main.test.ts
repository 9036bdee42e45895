/** The program as a process of its own, against an agent's socket: exit codes, signals, pipes, real identity. */
import { type ChildProcess, execFile, spawn } from "node:child_process";
import { mkdtemp, rm, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, beforeEach, describe, expect, it, vi } from "vitest";
import { type ApiServer, startApiServer } from "../agent/api-server.js";
import { buildProgram } from "./testing/built.js";
import { EVENTS, type FakeAgent, fakeAgent, REDIS, WEB } from "./testing/fake-agent.js";

const PATIENCE = { timeout: 15_000 };

let program: { dir: string; main: string };
let dir: string;
let server: ApiServer;
let agent: FakeAgent;
const running: ChildProcess[] = [];

beforeAll(async () => {
  program = await buildProgram();
  dir = await mkdtemp(join(tmpdir(), "ftctl-main-"));
  agent = fakeAgent();
  server = await startApiServer({ socketPath: join(dir, "agent.sock"), service: agent });
}, 60_000);
beforeEach(() => {
  agent.calls.length = 0;
  agent.pairs = [REDIS];
});
afterAll(async () => {
  for (const child of running) child.kill("SIGKILL");
  await server.close();
  await rm(dir, { recursive: true });
  await rm(program.dir, { recursive: true });
});

function start(args: string[], env: NodeJS.ProcessEnv = {}) {
  const child = spawn(process.execPath, [program.main, ...args], {
    env: { PATH: process.env.PATH, FTCTL_RUN_DIR: dir, ...env },
    stdio: ["pipe", "pipe", "pipe"],
  });
  running.push(child);
  const said = { out: "", err: "" };
  child.stdout.on("data", (chunk) => {
    said.out += chunk;
  });
  child.stderr.on("data", (chunk) => {
    said.err += chunk;
  });
  const ended = new Promise<number | null>((resolve) => child.on("close", resolve));
  return { child, said, ended };
}

async function ftctl(args: string[], env: NodeJS.ProcessEnv = {}, input = "") {
  const { child, said, ended } = start(args, env);
  child.stdin.end(input);
  return { code: await ended, ...said };
}

describe("exit codes", () => {
  it.each<[number, string, string[]]>([
    [0, "ok", ["ls"]],
    [1, "error", ["ls", "--socket", "/nonexistent/agent.sock"]],
    [2, "usage", ["ls", "--nonsense"]],
    [3, "not found", ["status", "nope"]],
    [4, "preflight failed", ["check", "bad"]],
    [5, "degraded", ["status", "web"]],
    [6, "refused", ["protect", "redis"]],
    [124, "time-out", ["events", "-f", "--timeout", "500ms"]],
  ])("%i: %s", async (code, _meaning, args) => {
    agent.pairs = [REDIS, WEB];
    const result = await ftctl(args);
    expect(result).toMatchObject({ code });
  });

  it("7: peer unreachable", async () => {
    const { FtError } = await import("../errors/error.js");
    const error = new FtError({ code: "PEER_UNREACHABLE", subject: "host beta", message: "m" });
    agent.switchover = () => Promise.reject(error);
    expect(await ftctl(["switchover", "redis"])).toMatchObject({ code: 7, out: "" });
  });
});

describe("pipes and signals", () => {
  it("follows events as JSON lines until SIGINT", async () => {
    const { child, said, ended } = start(["events", "-f", "-o", "json"]);
    await vi.waitFor(() => expect(said.out.split("\n")).toHaveLength(3), PATIENCE);
    child.kill("SIGINT");
    expect(await ended).toBe(130);
    const lines = said.out.trim().split("\n");
    expect(lines.map((line) => JSON.parse(line))).toEqual(EVENTS);
    expect(said.err).toBe("");
  });

  it("watches until SIGTERM", async () => {
    const { child, said, ended } = start(["status", "-w", "--interval", "100ms", "-o", "json"]);
    await vi.waitFor(() => expect(said.out.split("\n").length).toBeGreaterThan(2), PATIENCE);
    child.kill("SIGTERM");
    expect(await ended).toBe(130);
  });

  it("ends quietly when nobody reads any more", async () => {
    const { child, said, ended } = start(["status", "-w", "--interval", "100ms"]);
    await vi.waitFor(() => expect(said.out).toContain("redis"), PATIENCE);
    child.stdout.destroy();
    expect(await ended).toBe(0);
    expect(said.err).toBe("");
  });

  it("has no colours and asks nothing without a terminal", async () => {
    const { out, err, code } = await ftctl(["protect", "redis"], {}, "y\n");
    expect({ code, out }).toEqual({ code: 6, out: "" });
    expect(err).not.toContain("\u001b");
    expect(agent.calls).toEqual([]);
  });

  it("prints large answers whole into a pipe", async () => {
    agent.pairs = Array.from({ length: 2000 }, (_, i) => ({ ...REDIS, name: `redis${i}` }));
    const { out } = await ftctl(["ls", "-o", "json"]);
    expect(JSON.parse(out)).toHaveLength(2000);
  });
});

describe("init", () => {
  it("makes an identity and a token, and refuses to do it twice", async () => {
    const state = join(dir, "state");
    const args = ["init", "--host", "alpha", "--listen", "10.78.0.1", "--state-dir", state];
    const { code, out, err } = await ftctl([...args, "-o", "json"]);
    expect({ code, err }).toEqual({ code: 0, err: "" });
    expect(JSON.parse(out)).toMatchObject({
      host: "alpha",
      token: expect.stringMatching(/^ftj1\./),
      fingerprint: expect.stringMatching(/^[\w-]{43}$/),
    });
    expect((await stat(join(state, "identity"))).mode & 0o077).toBe(0);
    expect(await ftctl(args)).toMatchObject({ code: 6, out: "" });
    const another = await ftctl(["init", "--invite", "--state-dir", state]);
    expect(another.out).toMatch(/^ftj1\.\S+\n$/);
  });

  it("join refuses what is no token before it asks anybody", async () => {
    const state = join(dir, "state-beta");
    const { code, out, err } = await ftctl(
      ["join", "127.0.0.1", "--host", "beta", "--listen", "127.0.0.1", "--state-dir", state],
      { FTCTL_TOKEN: "nonsense" },
    );
    expect({ code, out }).toEqual({ code: 6, out: "" });
    expect(err).toContain("JOIN_TOKEN_INVALID");
    await expect(stat(state)).rejects.toThrow("ENOENT");
  });
});

describe("completion scripts", () => {
  it.each(["bash", "zsh", "fish"])("%s script is what the shell can parse", async (shell) => {
    const { code, out } = await ftctl(["completion", shell]);
    expect(code).toBe(0);
    expect(out).toContain("ftctl __complete -- ");
    const found = await promisify(execFile)("sh", ["-c", `command -v ${shell}`]).catch(() => null);
    // A shell that this machine does not have cannot say whether it parses.
    if (found === null) return;
    const check = execFile(shell, ["-n"]);
    check.stdin?.end(out);
    const parsed = await new Promise((resolve) => check.on("close", resolve));
    expect(parsed).toBe(0);
  });

  it("bash offers what the program says", async () => {
    const script = `
      ftctl() { "${process.execPath}" "${program.main}" "$@"; }
      source <(ftctl completion bash)
      COMP_WORDS=(ftctl policy sh); COMP_CWORD=2; _ftctl
      echo "\${COMPREPLY[@]}"
      COMP_WORDS=(ftctl status ""); COMP_CWORD=2; _ftctl
      echo "\${COMPREPLY[@]}"`;
    const env = { PATH: process.env.PATH, FTCTL_RUN_DIR: dir };
    const { stdout } = await promisify(execFile)("bash", ["-c", script], { env });
    expect(stdout).toBe("show\nredis\n");
  });
});
