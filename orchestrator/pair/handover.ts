/**
 * Handover: the primary gives the service to its standby while both live (switchover, LAN link lost, crash of
 * the application).
 *
 * Invariant H1: this host's gate is closed for good before the standby is asked to take over, so at no instant
 * can both speak. What the application does after the last committed epoch is never seen by anybody.
 */
import { asFtError, ExitCode, FtError } from "../errors/error.js";
import type { Pair } from "./pair.js";
import type { TakeoverReason } from "./plan.js";
import { coldStart, startEpochs, stopEpochs } from "./primary.js";
import { standDown } from "./standdown.js";

export async function handOver(pair: Pair, reason: TakeoverReason): Promise<void> {
  pair.order = undefined;
  const { id, generation } = pair.record;
  pair.enter("switching", `handing over to ${pair.record.peer} (${reason})`);
  try {
    if (reason !== "application-crashed") await pair.loop?.checkpointNow();
  } catch (error) {
    if (reason === "switchover") return giveUp(pair, error);
  }
  const epoch = pair.loop?.committed ?? 0;
  await stopEpochs(pair, "handing over");
  // Without a gate (this host has just come back) there is nothing that could speak.
  await pair.gate?.mode("closed", generation);
  const answer = await ask(pair, id, generation + 1, epoch, reason);
  if (answer === "unknown") {
    // A host that has just come back has nothing that could be blocked: it asks again.
    pair.enter(
      reason === "host-lost" ? "starting" : "blocked",
      `${pair.record.peer} did not say whether it took over; nothing leaves here until it does`,
    );
    return pair.refreshPeer();
  }
  if (answer.done) return standDown(pair, answer.generation);
  pair.event(
    "handover-refused",
    "error",
    `${pair.record.peer} did not take over: ${answer.why ?? "no reason given"}`,
  );
  await resume(pair, answer.generation, reason);
}

async function ask(
  pair: Pair,
  id: string,
  generation: number,
  epoch: number,
  reason: string,
): Promise<{ done: boolean; generation: number; why?: string } | "unknown"> {
  try {
    return await pair.peer.takeOver(id, generation, epoch, reason);
  } catch (error) {
    const { code, message } = asFtError(error, pair.record.name);
    pair.event("handover-unanswered", "warning", `${code}: ${message}`);
    return "unknown";
  }
}

/** The standby said no: this host goes on, in a generation above anything the standby may have begun. */
async function resume(pair: Pair, peerGeneration: number, reason: TakeoverReason): Promise<void> {
  await pair.save({ generation: Math.max(peerGeneration, pair.record.generation) + 1 });
  if (reason === "application-crashed" || reason === "host-lost") await coldStart(pair, "hold");
  else await pair.requireGate().mode("hold", pair.record.generation);
  pair.enter("blocked", "the handover did not happen; protection starts again");
  await pair.refreshPeer();
  if (pair.peerStatus.standbyReady) await startEpochs(pair);
}

async function giveUp(pair: Pair, cause: unknown): Promise<void> {
  pair.enter("blocked", "switchover given up: the last checkpoint failed");
  await stopEpochs(pair, "the last checkpoint failed");
  throw new FtError({
    code: "SWITCHOVER_FAILED",
    subject: `container ${pair.record.name}`,
    message: `the last checkpoint before the switchover failed: ${asFtError(cause, "").message}`,
    hint: "The service goes on where it was. See `ftctl events` for the failed epochs.",
    exitCode: ExitCode.error,
    cause,
  });
}
