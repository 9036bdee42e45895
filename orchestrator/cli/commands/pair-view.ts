/** How a pair is shown: the table of `ls`, and the proof of protection of `status`. */
import type { PairState, PairView, Percentiles } from "../../agent/api-types.js";
import type { Paint, Tone, View } from "../output/result.js";
import { clean } from "../output/table.js";
import { bytes, count, milliseconds, since, span } from "../output/units.js";

/** A primary whose standby is ready, or a standby that is ready; all else is degraded. */
export function isProtected(view: PairView): boolean {
  return view.role === "primary" ? view.state === "protected" : view.state === "warm";
}

const BUSY: readonly PairState[] = [
  "starting",
  "syncing",
  "preparing",
  "takingOver",
  "switching",
  "standingDown",
];

function toneOf(view: PairView): Tone {
  if (isProtected(view)) return "good";
  return BUSY.includes(view.state) ? "busy" : "bad";
}

export function pairView(nowMs: () => number): View<PairView> {
  return {
    name: (pair) => pair.name,
    describe: (pair, paint) => describe(pair, paint, nowMs()),
    columns: [
      { header: "NAME", cell: (pair) => pair.name },
      { header: "ID", cell: (pair) => pair.id, wide: true },
      { header: "ROLE", cell: (pair) => pair.role },
      { header: "STATE", cell: (pair) => pair.state, tone: toneOf },
      { header: "PEER", cell: (pair) => `${pair.peer}${pair.peerState === "silent" ? "!" : ""}` },
      { header: "ADDRESS", cell: (pair) => pair.address || "-" },
      { header: "EPOCH", cell: (pair) => String(pair.committedEpoch) },
      { header: "COMMITTED", cell: age },
      { header: "SINCE", cell: (pair) => since(pair.protectedSince, nowMs()) },
      { header: "MODE", cell: (pair) => pair.mode, wide: true },
      { header: "POLICY", cell: (pair) => pair.policy, wide: true },
      { header: "GENERATION", cell: (pair) => String(pair.generation), wide: true },
      { header: "HELD", cell: (pair) => bytes(pair.heldBytes), wide: true },
      { header: "PAUSE P50/P99", cell: (pair) => halves(pair.pauseMs), wide: true },
      { header: "DELAY P50/P99", cell: (pair) => halves(pair.outputDelayMs), wide: true },
      { header: "PAUSE PARTS", cell: parts, wide: true },
      { header: "MEMORY", cell: memory, wide: true },
      { header: "IMAGE", cell: (pair) => pair.image, wide: true },
      { header: "CONTAINER", cell: (pair) => pair.containerId.slice(0, 12), wide: true },
    ],
  };
}

function age(pair: PairView): string {
  return pair.committedAgeMs === undefined ? "-" : `${milliseconds(pair.committedAgeMs)} ago`;
}

/** The largest first, those under a tenth of a millisecond left out. */
function parts({ pausePartsMs = {} }: PairView): string {
  const told = Object.entries(pausePartsMs).filter(([, ms]) => ms >= 0.1);
  if (told.length === 0) return "-";
  told.sort(([, a], [, b]) => b - a);
  return told.map(([name, ms]) => `${name} ${ms.toFixed(1)}`).join(" ");
}

function memory({ tracking, wholeWhy, memoryBytes }: PairView): string {
  if (tracking === undefined) return "-";
  const why = wholeWhy === undefined ? "" : ` (${wholeWhy})`;
  return `${memoryBytes === undefined ? "" : `${bytes(memoryBytes)} `}${tracking}${why}`;
}

function memoryInWords(pair: PairView): string {
  const { tracking, wholeWhy, memoryBytes = 0 } = pair;
  const why = wholeWhy === undefined ? "" : ` (${wholeWhy})`;
  return tracking === "full"
    ? `all ${bytes(memoryBytes)} copied at every checkpoint${why}`
    : `${bytes(memoryBytes)}, written pages only (${tracking})${why === "" ? "" : `, but whole${why}`}`;
}

function files(walked: string | undefined): string {
  return walked === undefined
    ? "changed ones only, as the kernel tells"
    : `all looked at in the last checkpoint: ${walked}`;
}

function halves(values: Percentiles | undefined): string {
  return values === undefined ? "-" : `${milliseconds(values.p50)} / ${milliseconds(values.p99)}`;
}

function describe(pair: PairView, paint: Paint, nowMs: number): string {
  const facts: [string, string | undefined][] = [
    ["Why", pair.reason],
    ["Roles", roles(pair)],
    ["Protected since", sinceWhen(pair.protectedSince, nowMs)],
    ["Last committed", committed(pair)],
    ["Held now", held(pair)],
    ["Pause", spread(pair.pauseMs, milliseconds)],
    ["Pause parts", pair.pausePartsMs && parts(pair)],
    ["Memory", pair.tracking && memoryInWords(pair)],
    ["Files", pair.tracking && files(pair.filesWalked)],
    ["Output delay", spread(pair.outputDelayMs, milliseconds)],
    ["Event log", eventLog(pair.log)],
    ["Log delay", spread(pair.log?.delayMs, milliseconds)],
    ["Dump", spread(pair.dumpMs, milliseconds)],
    ["Ship", spread(pair.shipMs, milliseconds)],
    ["Commit", spread(pair.commitMs, milliseconds)],
    ["Bytes per epoch", spread(pair.bytesPerEpoch, bytes)],
    ["Peer", `${pair.peer} is ${pair.peerState}, lease ${pair.leaseFresh ? "fresh" : "not fresh"}`],
    ["Service", `${pair.address}, mode ${pair.mode}, policy ${pair.policy}`],
    ["Identity", `pair ${pair.id}, generation ${pair.generation}, image ${pair.image}`],
    ["Last takeover", takeover(pair.takeover)],
    ["Takeover steps", pair.takeover?.steps && takeoverSteps(pair.takeover.steps)],
    ["Last error", lastError(pair)],
  ];
  const lines = facts
    .filter((fact): fact is [string, string] => fact[1] !== undefined)
    .map(([label, fact]) => `  ${paint("dim", label.padEnd(16))}${clean(fact)}`);
  return `${clean(pair.name)}   ${paint(toneOf(pair), pair.state)}\n${lines.join("\n")}\n`;
}

function roles({ role, host, peer }: PairView): string {
  return role === "primary"
    ? `${host} primary, ${peer} standby`
    : `${peer} primary, ${host} standby`;
}

function sinceWhen(at: string | undefined, nowMs: number): string {
  if (at === undefined) return "not protected";
  return `${at} (${span(nowMs - Date.parse(at))})`;
}

function committed(pair: PairView): string {
  if (pair.committedEpoch === 0) return "nothing yet";
  const counts = `${count(pair.epochsCommitted)} committed, ${count(pair.epochsSkipped)} skipped`;
  return `epoch ${pair.committedEpoch}, ${age(pair)} (${counts})`;
}

function held(pair: PairView): string {
  if (pair.heldFrames === 0) return "nothing";
  const oldest =
    pair.heldOldestMs === undefined ? "" : `, oldest ${milliseconds(pair.heldOldestMs)}`;
  return `${count(pair.heldFrames)} frames, ${bytes(pair.heldBytes)}${oldest}`;
}

function spread(
  values: Percentiles | undefined,
  unit: (value: number) => string,
): string | undefined {
  if (values === undefined) return undefined;
  const { avg, p50, p99, max } = values;
  return `p50 ${unit(p50)}, p99 ${unit(p99)}, max ${unit(max)}, avg ${unit(avg)}`;
}

function eventLog(log: PairView["log"]): string | undefined {
  if (log === undefined) return undefined;
  const why = log.why === undefined ? "" : ` (${log.why})`;
  const covers = log.covers
    ? "covers output"
    : `does not cover output: it waits for checkpoints${why}`;
  const room = log.freeBytes === undefined ? "" : `, room for ${bytes(log.freeBytes)}`;
  const waits = log.waits === 0 ? "" : `, full ${count(log.waits)} times`;
  const link = log.up ? "" : ", NOT RECEIVED by the standby";
  return `${covers}, ${bytes(log.bytes)} written, ${bytes(log.unackedBytes)} not acknowledged${room}${waits}${link}`;
}

function takeover(last: PairView["takeover"]): string {
  if (last === undefined) return "none on this host";
  const { at, detectionMs, restoreMs, totalMs, epoch, replay, lazyBytes, fillMs } = last;
  const replayed = replay
    ? `, ${count(replay.events)} events replayed in ${milliseconds(replay.ms)}, ${count(replay.rebuilt)} connections rebuilt`
    : "";
  const later = lazyBytes
    ? `, ${bytes(lazyBytes)} of memory ${fillMs === undefined ? "still coming" : `came within ${milliseconds(fillMs)}`}`
    : "";
  return `${at} from epoch ${epoch}: detected in ${milliseconds(detectionMs)}, restored in ${milliseconds(restoreMs)}${replayed}, ${milliseconds(totalMs)} in all${later}`;
}

/** In the order in which they began; a part of one is called `step.part`. */
function takeoverSteps(steps: NonNullable<NonNullable<PairView["takeover"]>["steps"]>): string {
  const taken = steps.filter(({ ms }) => ms >= 0.1);
  return taken.map(({ name, ms }) => `${name} ${milliseconds(ms)}`).join(", ");
}

function lastError({ lastError: error }: PairView): string | undefined {
  if (error === undefined) return undefined;
  return `${error.code}: ${error.message}${error.log === undefined ? "" : ` (log: ${error.log})`}`;
}
