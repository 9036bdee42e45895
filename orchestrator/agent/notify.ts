/**
 * Tells systemd how the agent is, by sd_notify(3). Node has no unix datagram sockets, so systemd's own
 * `systemd-notify` sends the message; it is there wherever NOTIFY_SOCKET is set, and it speaks in the name of
 * its parent. Without NOTIFY_SOCKET nothing happens.
 */
import { execFile } from "node:child_process";
import { FtError } from "../errors/error.js";

const NOTIFY_TIMEOUT_MS = 5_000;

/**
 * Says READY, and from then on feeds the watchdog (WatchdogSec= of the unit) three times in its period, as
 * long as the event loop turns. Returns what ends that.
 */
export async function notifyReady(env: NodeJS.ProcessEnv = process.env): Promise<() => void> {
  await notify(env, ["--ready", "--status=watching over its pairs"]);
  const periodMs = watchdogPeriodMs(env);
  if (periodMs === undefined) return () => {};
  const timer = setInterval(() => {
    // A lost beat is made up by the next; if none arrives, systemd does what the unit says.
    notify(env, ["WATCHDOG=1"]).catch(() => {});
  }, periodMs / 3);
  timer.unref();
  return () => clearInterval(timer);
}

export async function notifyStopping(env: NodeJS.ProcessEnv = process.env): Promise<void> {
  await notify(env, ["STOPPING=1", "--status=stopping; gates and containers go on"]);
}

/** One line for `systemctl status`. */
export async function notifyStatus(
  status: string,
  env: NodeJS.ProcessEnv = process.env,
): Promise<void> {
  await notify(env, [`--status=${status.replace(/\s+/g, " ").slice(0, 200)}`]);
}

function watchdogPeriodMs(env: NodeJS.ProcessEnv): number | undefined {
  const periodMs = Number(env.WATCHDOG_USEC) / 1_000;
  const ours = env.WATCHDOG_PID === undefined || Number(env.WATCHDOG_PID) === process.pid;
  return ours && Number.isFinite(periodMs) && periodMs > 0 ? periodMs : undefined;
}

function notify(env: NodeJS.ProcessEnv, args: string[]): Promise<void> {
  if (!env.NOTIFY_SOCKET) return Promise.resolve();
  return new Promise((resolve, reject) => {
    execFile("systemd-notify", args, { env, timeout: NOTIFY_TIMEOUT_MS }, (cause, _out, stderr) => {
      if (cause === null) resolve();
      else reject(notifyFailed(args, stderr.trim() || cause.message, cause));
    });
  });
}

function notifyFailed(args: string[], why: string, cause: Error): FtError {
  return new FtError({
    code: "NOTIFY_FAILED",
    subject: "systemd",
    message: `systemd-notify ${args[0]} failed: ${why}`,
    hint: "The unit needs NotifyAccess=all.",
    cause,
  });
}
