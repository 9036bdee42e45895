/**
 * Fault points: named places in the product where a test can make it fail. Inert unless `FTCTL_FAULT` is
 * set; the C programs read the same variable (native/fault/fault.h).
 *
 *   FTCTL_FAULT=point:action[:skip][,point:action[:skip]…]
 *   action: crash (die at once, as by SIGKILL) | error (the operation fails) | hang | delay=MS
 *   skip:   how many passes go by unharmed first (default 0). `error` and `delay` then fire once.
 */
import { FtError } from "../errors/error.js";

/** Every fault point, in the order of an epoch and a takeover; the campaign sweeps this list. */
export const FAULT_POINTS = [
  // one epoch, on the primary's agent
  "epoch.begin",
  "epoch.dump.before",
  "epoch.dump.after",
  "epoch.ship.before",
  "epoch.ship.middle",
  "epoch.ship.after",
  "epoch.release.before",
  "epoch.release.after",
  // one epoch, on the standby's agent
  "epoch.receive.before",
  "epoch.commit.before",
  "epoch.commit.after",
  // takeover, on the standby's agent
  "takeover.begin",
  "takeover.fence",
  "takeover.claim",
  "takeover.materialize",
  "takeover.arm",
  "takeover.restore",
  "takeover.replay",
  "takeover.connections",
  "takeover.live",
  "takeover.settle",
  // in C: ftdump, ftstore, ftgate
  "dump.frozen",
  "dump.thawed",
  "dump.pack",
  "store.verify",
  "store.commit",
  "store.apply",
  "gate.mark",
  "gate.release",
] as const;
export type FaultPoint = (typeof FAULT_POINTS)[number];

type Action = { kind: "crash" | "error" | "hang" } | { kind: "delay"; ms: number };
interface Armed {
  action: Action;
  skip: number;
}

export interface Faults {
  /** Passes the named point: returns, throws, delays, hangs or dies, as armed. */
  pass(point: FaultPoint): Promise<void>;
}

/** Parses the variable; throws `USAGE` for an unknown point or action so that a typo cannot pass for a test. */
export function faultsFrom(variable: string | undefined): Faults {
  const armed = new Map<string, Armed>();
  for (const item of (variable ?? "").split(",").filter(Boolean)) {
    const [point = "", action = "", skip = "0"] = item.split(":");
    if (!(FAULT_POINTS as readonly string[]).includes(point)) throw badFault(item, "unknown point");
    armed.set(point, { action: parseAction(item, action), skip: Number(skip) });
  }
  return {
    async pass(point) {
      const fault = armed.get(point);
      if (fault === undefined) return;
      if (fault.skip > 0) {
        fault.skip -= 1;
        return;
      }
      await fire(point, fault.action, () => armed.delete(point));
    },
  };
}

function parseAction(item: string, text: string): Action {
  if (text === "crash" || text === "error" || text === "hang") return { kind: text };
  const delay = /^delay=(\d+)$/.exec(text);
  if (delay) return { kind: "delay", ms: Number(delay[1]) };
  throw badFault(item, "unknown action");
}

function badFault(item: string, why: string): FtError {
  return new FtError({ code: "USAGE", subject: `FTCTL_FAULT=${item}`, message: why, exitCode: 2 });
}

async function fire(point: FaultPoint, action: Action, disarm: () => void): Promise<void> {
  switch (action.kind) {
    case "crash":
      process.kill(process.pid, "SIGKILL");
      return new Promise(() => {});
    case "hang":
      return new Promise(() => {});
    case "delay":
      disarm();
      return new Promise((resolve) => setTimeout(resolve, action.ms));
    case "error":
      disarm();
      throw new FtError({
        code: "FAULT_INJECTED",
        subject: point,
        message: "a fault was injected here",
      });
  }
}
