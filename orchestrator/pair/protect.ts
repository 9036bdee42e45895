/**
 * `protect` and `unprotect`: a plain container becomes a pair, and back.
 *
 * Invariant O1: until the pair is made, whatever fails leaves the original container as it was: each step adds
 * its undo, and they are carried out in reverse.
 */
import { randomBytes } from "node:crypto";
import type { ResolvedPolicy } from "../../policies/resolve.js";
import type { Progress } from "../agent/api-types.js";
import { Rollback } from "../docker/rollback.js";
import { asFtError, FtError } from "../errors/error.js";
import { limits } from "../limits.js";
import { Pair, type PairHost } from "./pair.js";
import type { Origin, OriginControl } from "./ports.js";
import { coldStart, stopEpochs } from "./primary.js";
import type { PairRecord } from "./record.js";
import { tearDown } from "./standdown.js";

export type Tell = (progress: Progress) => void;

export function newPairId(): string {
  return randomBytes(6).toString("hex");
}

export function newRecord(
  host: PairHost,
  id: string,
  origin: Origin,
  policy: ResolvedPolicy,
  beatPort: number,
): PairRecord {
  const { address, gateway, uplink, mac, mtu } = policy.network;
  return {
    id,
    name: origin.name,
    role: "primary",
    generation: 1,
    peer: policy.standby,
    lastEpoch: 0,
    policyName: policy.name,
    policy: policy as unknown as Record<string, unknown>,
    image: origin.image,
    imageId: origin.imageId,
    containerSpec: origin.containerSpec,
    plainSpec: origin.plainSpec,
    containerId: "",
    originalId: origin.id,
    network: { address, ...(gateway === undefined ? {} : { gateway }), uplink, mac, mtu },
    beatKey: randomBytes(16).toString("hex"),
    beatPort,
    phase: "steady",
    createdAt: new Date(host.clock.wallMs()).toISOString(),
  };
}

/** @throws what failed, after everything was undone; failures of the undoing are quoted in its message */
export async function protect(
  host: PairHost,
  origins: OriginControl,
  origin: Origin,
  record: PairRecord,
  add: (pair: Pair) => void,
  tell: Tell,
): Promise<Pair> {
  const rollback = new Rollback();
  const pair = new Pair(host, record, "starting");
  return rollback.guard(`container ${record.name}`, async () => {
    try {
      await pair.exclusively(() => build(pair, origins, origin, add, rollback, tell));
      tell({ step: "checkpoint", message: `first checkpoint to ${record.peer}` });
      await untilProtected(pair);
      await origins.remove(origin.id);
      await pair.save({ originalId: "" });
      const { mode, modeAsked, modeReason } = pair.policy;
      if (modeAsked === "auto")
        pair.event("mode-chosen", "info", `mode auto: ${mode} (${modeReason})`);
      return pair;
    } catch (error) {
      tell({ step: "undo", message: "something failed: bringing the original container back" });
      // Not closed: the undo needs the gate to end it.
      pair.stopPlanning();
      throw error;
    }
  });
}

async function build(
  pair: Pair,
  origins: OriginControl,
  origin: Origin,
  add: (pair: Pair) => void,
  rollback: Rollback,
  tell: Tell,
): Promise<void> {
  const { host, record } = pair;
  // Known from the start: the standby asks whether its primary knows it.
  add(pair);
  tell({ step: "standby", message: `creating the warm standby on ${record.peer}` });
  rollback.add("remove the standby", () => pair.peer.remove(record.id, pair.record.generation));
  await pair.peer.buildStandby(record, (message, done, total) =>
    tell({
      step: "image",
      message,
      ...(done === undefined ? {} : { done }),
      ...(total === undefined ? {} : { total }),
    }),
  );
  tell({ step: "recreate", message: `recreating ${record.name} with its gated interface` });
  const { containerId, undo } = await origins.replace(origin, (message) =>
    tell({ step: "recreate", message }),
  );
  rollback.add("bring the original container back", undo);
  rollback.add("end what runs for the pair", async () => {
    await stopEpochs(pair, "protect failed");
    pair.record = { ...pair.record, containerId: "" };
    await tearDown(pair);
    await host.records.remove(record.id);
    await host.parts.forget(record.id);
  });
  await pair.save({ containerId });
  tell({ step: "start", message: `starting ${record.name}` });
  await coldStart(pair, "open");
  pair.enter("unprotected", "started; no checkpoint yet");
  await pair.refreshPeer();
}

/** The planner starts the epochs as soon as the standby is ready; here it is only waited for. */
export async function untilProtected(pair: Pair): Promise<void> {
  const { clock } = pair.host;
  const deadlineMs = clock.nowMs() + limits.protectTimeoutMs;
  let answeredMs = clock.nowMs();
  while (pair.state !== "protected") {
    if (pair.peerAgent === "answers") answeredMs = clock.nowMs();
    if (clock.nowMs() - answeredMs > limits.protectStandbySilentMs) throw standbySilent(pair);
    if (clock.nowMs() > deadlineMs || pair.state === "stopped" || pair.state === "failed") {
      throw (
        pair.lastError ??
        new FtError({
          code: "NOT_PROTECTED_IN_TIME",
          subject: `container ${pair.record.name}`,
          message: `still ${pair.state}${pair.reason ? ` (${pair.reason})` : ""} after ${limits.protectTimeoutMs} ms`,
          hint: "See `ftctl events` and the agents' logs on both hosts.",
          exitCode: 124,
        })
      );
    }
    await clock.sleep(20);
  }
}

function standbySilent(pair: Pair): FtError {
  return new FtError({
    code: "PEER_UNREACHABLE",
    subject: `host ${pair.record.peer}`,
    message: `its agent has not answered for ${limits.protectStandbySilentMs} ms`,
    hint: "Check that its agent runs and that the replication link is up.",
    exitCode: 7,
    cause: pair.lastError,
  });
}

/** A plain container again, on this host (the primary), with the files as they are now. */
export async function unprotect(pair: Pair, origins: OriginControl, tell: Tell): Promise<string> {
  const { record, host } = pair;
  if (record.role !== "primary") {
    throw new FtError({
      code: "NOT_PRIMARY",
      subject: `container ${record.name}`,
      message: `${host.name} is the standby of this pair; ${record.peer} is its primary`,
      hint: `Run it on ${record.peer}.`,
      exitCode: 6,
    });
  }
  tell({ step: "standby", message: `removing the standby on ${record.peer}` });
  await removeStandby(pair, tell);
  tell({ step: "recreate", message: `making ${record.name} a plain container again` });
  return pair.exclusively(async () => {
    pair.enter("standingDown", "unprotect");
    await stopEpochs(pair, "unprotect");
    const { containerId, plainSpec, originalId } = record;
    pair.unwatchExit?.();
    const plainId = await origins
      .makePlain(containerId, plainSpec, originalId)
      .catch((error: unknown) => startAgain(pair, error));
    pair.record = { ...pair.record, containerId: "" };
    await tearDown(pair);
    await host.records.remove(record.id);
    await host.parts.forget(record.id);
    return plainId;
  });
}

/** Nothing was changed but that the application was stopped: it starts again, alone. */
async function startAgain(pair: Pair, cause: unknown): Promise<never> {
  await coldStart(pair, "open");
  pair.enter("unprotected", "unprotect failed; the standby is removed already");
  throw cause;
}

/** An unreachable peer finds out by itself: its pair's primary no longer knows it. */
async function removeStandby(pair: Pair, tell: Tell): Promise<void> {
  try {
    await pair.exclusively(async () => {
      await stopEpochs(pair, "unprotect");
      await pair.peer.remove(pair.record.id, pair.record.generation);
      // Nothing can take over any more, so nothing has to be held.
      await pair.gate?.mode("open", pair.record.generation);
      pair.state = "standingDown";
    });
  } catch (error) {
    const { code } = asFtError(error, pair.record.name);
    throw new FtError({
      code: "STANDBY_NOT_REMOVED",
      subject: `container ${pair.record.name}`,
      message: `the standby on ${pair.record.peer} could not be removed (${code}), so it might still take over`,
      hint: `Bring ${pair.record.peer} back and try again.`,
      exitCode: 7,
      cause: error,
    });
  } finally {
    tell({ step: "standby", message: "done" });
  }
}
