/** The client of memory-client.ts, in the network namespace of a process or through a prefix of its own. */
import { spawn } from "node:child_process";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { checkoutRoot } from "../lab/layout.js";

export interface MemoryLoad {
  fill(mib: number): Promise<void>;
  dirty(pages: number, round: number): Promise<void>;
  close(): Promise<void>;
}

export interface MemoryLoadRequest {
  /** Words before the program: `nsenter -t PID -n`. */
  enter: string[];
  address: string;
  port: number;
  workload: "redis" | "memcached";
  connections: number;
}

export async function openMemoryLoad(request: MemoryLoadRequest): Promise<MemoryLoad> {
  const { enter, address, port, workload, connections } = request;
  const program = join(checkoutRoot(), "dist/e2e/bench/memory-client.js");
  const words = [process.execPath, program, address, port, workload, connections].map(String);
  const [first = "", ...rest] = [...enter, ...words];
  const child = spawn(first, rest, { stdio: ["pipe", "pipe", "pipe"] });
  let said = "";
  child.stderr.on("data", (chunk: Buffer) => {
    said = `${said}${chunk}`.slice(-500);
  });
  const ended = new Promise<void>((resolve) => child.once("close", () => resolve()));
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  child.stdin.on("error", () => {}); // told by the answer that does not come
  const answer = async () => {
    const { value, done } = await lines.next();
    if (done || value !== "ok") throw new Error(`the client of ${workload} ended: ${said}`);
  };
  const ask = (line: string) => {
    child.stdin.write(`${line}\n`);
    return answer();
  };
  await answer();
  return {
    fill: (mib) => ask(`fill ${mib}`),
    dirty: (pages, round) => ask(`dirty ${pages} ${round}`),
    async close() {
      child.stdin.end();
      child.kill("SIGKILL");
      await ended;
    },
  };
}
