/** `ftctl` on a lab host, its JSON read back; a pair's state straight from the agent, as it is asked for again and again. */
import { join } from "node:path";
import { AgentClient } from "../../orchestrator/agent/api-client.js";
import type { FtEvent, PairView } from "../../orchestrator/agent/api-types.js";
import type { ExecResult, Host, Hosts } from "./hosts.js";
import { poll } from "./poll.js";

export class Ftctl {
  readonly #hosts: Hosts;

  constructor(hosts: Hosts) {
    this.#hosts = hosts;
  }

  run(host: Host, args: string[], timeoutMs?: number): Promise<ExecResult> {
    return this.#hosts.exec(host, ["ftctl", ...args], timeoutMs);
  }

  /** As `run`, but a failure is an error that quotes what ftctl said. */
  async must(host: Host, args: string[], timeoutMs?: number): Promise<string> {
    const result = await this.run(host, args, timeoutMs);
    if (result.exitCode !== 0) {
      const said = `${result.stderr}\n${result.stdout}`.trim().slice(0, 4_000);
      throw new Error(`ftctl ${args.join(" ")} on ${host} ended with ${result.exitCode}: ${said}`);
    }
    return result.stdout;
  }

  async list(host: Host): Promise<PairView[]> {
    return asArray<PairView>(JSON.parse(await this.must(host, ["ls", "-o", "json"], 15_000)));
  }

  async status(host: Host, name: string): Promise<PairView> {
    const socket = join(this.#hosts.rootOf(host), "run/ftctl/agent.sock");
    return new AgentClient(socket).find(name, AbortSignal.timeout(15_000));
  }

  async events(host: Host, name?: string): Promise<FtEvent[]> {
    const args = ["events", ...(name === undefined ? [] : [name]), "-o", "json"];
    const text = await this.must(host, args, 15_000);
    return text
      .split("\n")
      .filter((line) => line.trim().startsWith("{"))
      .map((line) => JSON.parse(line) as FtEvent);
  }

  /** Waits until the pair is as wanted on that host. */
  async until(
    host: Host,
    name: string,
    what: string,
    wanted: (view: PairView) => boolean,
    timeoutMs: number,
  ): Promise<PairView> {
    let last: PairView | undefined;
    try {
      return await poll(what, timeoutMs, async () => {
        last = await this.status(host, name);
        return wanted(last) ? last : undefined;
      });
    } catch (error) {
      const seen = last
        ? `${last.role} ${last.state}${last.reason ? ` (${last.reason})` : ""}`
        : "none";
      throw new Error(`${(error as Error).message}; ${name} on ${host} is ${seen}`);
    }
  }
}

function asArray<T>(value: unknown): T[] {
  if (Array.isArray(value)) return value as T[];
  return [value as T];
}
