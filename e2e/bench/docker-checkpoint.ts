/**
 * `docker checkpoint create --leave-running` in a loop, on a second dockerd of the host that has the
 * experimental flag and finds the toolkit's CRIU on its PATH. Docker's command has no option for TCP
 * connections, so CRIU gets it through its own configuration file.
 */
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { checkoutRoot } from "../lab/layout.js";
import type { Host } from "../runner/hosts.js";
import { poll } from "../runner/poll.js";
import type { Service } from "../runner/service.js";
import { outFolder } from "../runner/workloads.js";
import { plugIntoLan } from "./configurations.js";

const socket = "unix:///run/ft-checkpoint/docker.sock";
const kept = 2;

/** Writes a `criu` that starts the toolkit's with its own loader and libraries. */
function criuOnPath(): string {
  const folder = join(outFolder(), "bench/criu-path");
  mkdirSync(folder, { recursive: true });
  const toolkit = join(checkoutRoot(), "build/toolkit");
  const script = [
    "#!/bin/sh",
    `exec ${toolkit}/ld.so --library-path ${toolkit}/lib ${toolkit}/criu "$@"`,
    "",
  ].join("\n");
  writeFileSync(join(folder, "criu"), script, { mode: 0o755 });
  return folder;
}

export class CheckpointLoop {
  readonly #service: Service;
  readonly #host: Host;
  #stopping = false;
  #count = 0;
  #sumMs = 0;
  #failure: string | undefined;
  #running: Promise<void> = Promise.resolve();

  private constructor(service: Service, host: Host) {
    this.#service = service;
    this.#host = host;
  }

  static async start(service: Service, host: Host): Promise<CheckpointLoop> {
    const loop = new CheckpointLoop(service, host);
    await loop.#startDockerd();
    await loop.#startContainer();
    loop.#running = loop.#run();
    // The first one tells whether it works here at all.
    await poll("the first docker checkpoint", 30_000, async () => {
      return loop.#failure || loop.#count > 0 ? true : undefined;
    });
    if (loop.#failure) {
      await loop.#end();
      throw new Error(loop.#failure);
    }
    return loop;
  }

  async stop(): Promise<{ count: number; averageMs: number }> {
    await this.#end();
    if (this.#failure) throw new Error(this.#failure);
    return { count: this.#count, averageMs: this.#sumMs / Math.max(1, this.#count) };
  }

  async #end(): Promise<void> {
    this.#stopping = true;
    await this.#running;
    await this.#docker(["rm", "-f", "-v", this.#service.name]);
    const script =
      "kill $(cat /run/ft-checkpoint/dockerd.pid) 2>/dev/null; i=0; while [ -e /run/ft-checkpoint/dockerd.pid ] && [ $i -lt 100 ]; do sleep 0.1; i=$((i+1)); done; rm -rf /var/lib/docker/ft-checkpoint";
    await this.#service.hosts.exec(this.#host, ["sh", "-c", script], 30_000);
  }

  #docker(args: string[], timeoutMs = 30_000) {
    return this.#service.hosts.exec(this.#host, ["docker", "-H", socket, ...args], timeoutMs);
  }

  async #startDockerd(): Promise<void> {
    const flags = [
      "--experimental",
      "--config-file=/run/ft-checkpoint/daemon.json",
      "--data-root=/var/lib/docker/ft-checkpoint",
      "--exec-root=/run/ft-checkpoint",
      "--pidfile=/run/ft-checkpoint/dockerd.pid",
      `--host=${socket}`,
      "--bridge=none",
      "--iptables=false",
    ].join(" ");
    const script = [
      "mkdir -p /run/ft-checkpoint/upper/criu /run/ft-checkpoint/work",
      "echo '{}' > /run/ft-checkpoint/daemon.json",
      // The one place where runc looks for CRIU's options, in a mount namespace of this dockerd's own.
      "printf 'tcp-established\\nskip-in-flight\\n' > /run/ft-checkpoint/upper/criu/runc.conf",
      "mount -t overlay overlay -o lowerdir=/etc,upperdir=/run/ft-checkpoint/upper,workdir=/run/ft-checkpoint/work /etc",
      `PATH=${criuOnPath()}:$PATH exec dockerd ${flags}`,
    ].join("\n");
    const log = "/run/ft-checkpoint.log";
    const start = `setsid -f unshare --mount sh -ec '${script.replaceAll("'", "'\\''")}' > ${log} 2>&1 < /dev/null`;
    const started = await this.#service.hosts.exec(this.#host, ["sh", "-c", start]);
    if (started.exitCode !== 0) throw new Error(started.stderr);
    await poll("the experimental dockerd", 30_000, async () => {
      return (await this.#docker(["version"], 5_000)).exitCode === 0 ? true : undefined;
    });
  }

  async #startContainer(): Promise<void> {
    const { spec, name } = this.#service;
    const copy = `docker save ${spec.image} | docker -H ${socket} load`;
    const loaded = await this.#service.hosts.exec(this.#host, ["sh", "-c", copy], 120_000);
    if (loaded.exitCode !== 0) throw new Error(`image: ${loaded.stderr}`);
    // Root, since without CAP_SYS_RESOURCE on the machine CRIU cannot read another user's limits.
    const options = ["--network", "none", "--security-opt", "seccomp=unconfined", "--user", "0"];
    const run = ["run", "-d", "--name", name, ...options, ...spec.runOptions, spec.image];
    const result = await this.#docker(run);
    if (result.exitCode !== 0) throw new Error(`docker run: ${result.stderr}`);
    const pid = (await this.#docker(["inspect", "-f", "{{.State.Pid}}", name])).stdout.trim();
    await this.#service.hosts.exec("client", ["ip", "neigh", "flush", "dev", "lan0"]);
    await plugIntoLan(this.#service, this.#host, Number(pid));
  }

  async #criuErrors(): Promise<string> {
    const script =
      "find /run/ft-checkpoint -name criu-dump.log -exec grep -h Error {} + | head -n 4 | tr '\\n' ';'";
    return (await this.#service.hosts.exec(this.#host, ["sh", "-c", script])).stdout.slice(0, 600);
  }

  async #run(): Promise<void> {
    const { name } = this.#service;
    for (let i = 0; !this.#stopping && !this.#failure; i += 1) {
      const beganMs = performance.now();
      const create = ["checkpoint", "create", "--leave-running", name, `c${i}`];
      const result = await this.#docker(create);
      // Known trouble of Docker's with checkpoints that follow each other fast: the next one works.
      if (/content sha256:\w+: already exists/.test(result.stderr)) continue;
      if (result.exitCode !== 0) {
        const said = result.stderr.trim().slice(0, 300);
        this.#failure = `docker checkpoint create: ${said}; CRIU: ${await this.#criuErrors()}`;
        return;
      }
      this.#count += 1;
      this.#sumMs += performance.now() - beganMs;
      if (i >= kept) await this.#docker(["checkpoint", "rm", name, `c${i - kept}`]);
    }
  }
}
