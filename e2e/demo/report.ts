/** The demo's last screen. */
import { stripVTControlCharacters } from "node:util";
import pc from "picocolors";
import type { Slice } from "../clients/latency.js";
import type { DemoResult } from "./result.js";
import { sparkline } from "./sparkline.js";

const width = 78;
const labelWidth = 34;
const columnWidth = 22;
const sparkCharacters = 60;
const sparkSliceUs = 50_000;
/** Characters before the power loss. */
const sparkLead = 20;

/** One mode's part of the demo. */
export interface DemoAct {
  result: DemoResult;
  broken: string[];
  timeline: Slice[];
  killedUs: number;
}

export interface DemoReport {
  acts: DemoAct[];
  statusText: string;
  file: string;
  colorful: boolean;
}

export function renderReport(report: DemoReport): string {
  const colors = pc.createColors(report.colorful);
  const { acts } = report;
  const results = acts.map(({ result }) => result);
  const broken = acts.flatMap((act) => act.broken);
  const kept = broken.length === 0;
  const headline = kept
    ? colors.bold(colors.green("The host died. Its clients did not notice more than a pause."))
    : colors.bold(colors.red("A promise was broken."));
  const lines = [
    headline,
    "",
    row(
      "mode",
      results.map(({ mode }) => ({ text: mode, paint: colors.bold })),
    ),
    ...promises(results, colors),
    "",
    ...figures(results, colors),
    "",
    ...difference(results, colors),
    ...timelines(acts, colors),
    ...(kept ? [] : ["", ...broken.map((text) => colors.red(`✗ ${text}`))]),
  ];
  const status = report.statusText.trimEnd().split("\n");
  return [
    ...box(lines),
    "",
    colors.dim("ftctl status redis, on beta:"),
    ...status.map((line) => `  ${line}`),
    "",
    colors.dim(`Written to ${report.file}`),
    "",
  ].join("\n");
}

type Colors = ReturnType<typeof pc.createColors>;
interface Cell {
  text: string;
  paint?: (text: string) => string;
}

/** One column a mode; painted after padding, as colours have no width. */
function row(label: string, cells: Cell[]): string {
  const painted = cells.map(({ text, paint = (same) => same }) => paint(text.padEnd(columnWidth)));
  return `  ${label.padEnd(labelWidth)}${painted.join("")}`.trimEnd();
}

function promises(results: DemoResult[], colors: Colors): string[] {
  const judged = (
    label: string,
    of: (result: DemoResult) => number,
    good: (value: number) => boolean,
  ) =>
    row(
      label,
      results.map((result) => ({
        text: count(of(result)),
        paint: good(of(result)) ? colors.green : (text: string) => colors.red(colors.bold(text)),
      })),
    );
  const none = (value: number) => value === 0;
  return [
    judged(
      "acknowledged writes",
      (r) => r.acknowledgedWrites,
      (value) => value > 0,
    ),
    judged("acknowledged writes lost", (r) => r.lostWrites, none),
    judged("writes applied twice", (r) => r.duplicatedWrites, none),
    judged("wrong replies", (r) => r.wrongReplies, none),
    judged(`of ${results[0]?.connections} connections, reset`, (r) => r.resets, none),
  ];
}

function figures(results: DemoResult[], colors: Colors): string[] {
  const each = (label: string, of: (result: DemoResult) => string, paint?: Cell["paint"]) =>
    row(
      label,
      results.map((result) => ({ text: of(result), ...(paint ? { paint } : {}) })),
    );
  const both = ({ p50, p99 }: { p50: number; p99: number }) => `${p50} / ${p99} ms`;
  return [
    each("outage, as the clients saw it", (r) => `${r.outageMs} ms`, colors.bold),
    each("  noticed after", (r) => `${r.detectionMs} ms`),
    each("  restored in", (r) => `${r.restoreMs} ms`),
    ...(results.some(({ replay }) => replay)
      ? [each("  replayed", ({ replay }) => (replay ? replayed(replay) : "–"))]
      : []),
    each("a reply before that, on average", (r) => `${r.replyMs} ms`, colors.bold),
    each("  output held, p50 / p99", (r) => both(r.outputDelayMs)),
    each("pause of a checkpoint, p50 / p99", (r) => both(r.pauseMs)),
    each("checkpoints committed before", (r) => count(r.epochsCommitted)),
  ];
}

const replayed = ({ events, ms }: NonNullable<DemoResult["replay"]>) =>
  `${count(events)} events, ${ms} ms`;

function difference(results: DemoResult[], colors: Colors): string[] {
  const [first, second] = results;
  if (!first || !second) return [];
  const [slow, fast] = [first.replyMs.toFixed(1), second.replyMs.toFixed(1)];
  const text = `A reply took ${slow} ms in mode ${first.mode}, ${fast} ms in mode ${second.mode}.`;
  return [`  ${colors.bold(text)}`, ""];
}

function timelines(acts: DemoAct[], colors: Colors): string[] {
  return [
    `  ${colors.dim("slowest reply in each 50 ms (log scale, 1 ms to 1 s; · is silence)")}`,
    ...acts.map((act) => timeline(act, colors)),
    `  ${colors.dim(`${" ".repeat(sparkLead)}▲ power loss`)}`,
  ];
}

function timeline({ result, timeline: slices, killedUs }: DemoAct, colors: Colors): string {
  const fromUs = killedUs - sparkLead * sparkSliceUs;
  const line = sparkline(slices, fromUs, sparkSliceUs, sparkCharacters);
  return `  ${line.slice(0, sparkLead)}${colors.yellow(line.slice(sparkLead))} ${colors.dim(result.mode)}`;
}

export function box(lines: string[]): string[] {
  const inner = Math.max(width, ...lines.map((line) => columns(line) + 2));
  const edge = "─".repeat(inner);
  const body = lines.map((line) => `│ ${line}${" ".repeat(inner - 1 - columns(line))}│`);
  return [`╭${edge}╮`, ...body, `╰${edge}╯`];
}

/** Every character of the report is one column wide. */
const columns = (line: string): number => [...stripVTControlCharacters(line)].length;

export const count = (value: number): string => value.toLocaleString("en-US");
