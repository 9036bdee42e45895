/** Ends a native child: by closing its stdin, which is its order to clean up, and by force when it does not obey. */
import type { ChildProcess } from "node:child_process";
import { limits } from "../orchestrator/limits.js";

export async function endChild(
  child: ChildProcess,
  timeoutMs: number = limits.childEndTimeoutMs,
): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null || child.pid === undefined) return;
  const ended = new Promise<void>((resolve) => child.once("exit", () => resolve()));
  child.stdin?.end();
  const timer = setTimeout(() => child.kill("SIGKILL"), timeoutMs);
  await ended.finally(() => clearTimeout(timer));
}
