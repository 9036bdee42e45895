/** The demo's last screen. */
import { stripVTControlCharacters } from "node:util";
import pc from "picocolors";
import type { Slice } from "../clients/latency.js";
import type { DemoResult } from "./result.js";
import { sparkline } from "./sparkline.js";

const width = 74;
const sparkCharacters = 60;
const sparkSliceUs = 50_000;
/** Characters before the power loss. */
const sparkLead = 20;

export interface DemoReport {
  result: DemoResult;
  broken: string[];
  timeline: Slice[];
  killedUs: number;
  statusText: string;
  file: string;
  colorful: boolean;
}

export function renderReport(report: DemoReport): string {
  const colors = pc.createColors(report.colorful);
  const { result, broken } = report;
  const kept = broken.length === 0;
  const headline = kept
    ? colors.bold(colors.green("The host died. Its clients did not notice more than a pause."))
    : colors.bold(colors.red("A promise was broken."));
  const lines = [
    headline,
    "",
    ...promises(result, colors),
    "",
    ...figures(result, colors),
    "",
    ...timeline(report, colors),
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

function promises(result: DemoResult, colors: Colors): string[] {
  const row = (label: string, value: number, good: boolean) =>
    `  ${label.padEnd(34)}${good ? colors.green(count(value)) : colors.red(colors.bold(count(value)))}`;
  return [
    row("acknowledged writes", result.acknowledgedWrites, result.acknowledgedWrites > 0),
    row("acknowledged writes lost", result.lostWrites, result.lostWrites === 0),
    row("writes applied twice", result.duplicatedWrites, result.duplicatedWrites === 0),
    row("wrong replies", result.wrongReplies, result.wrongReplies === 0),
    row(`of ${result.connections} connections, reset`, result.resets, result.resets === 0),
  ];
}

function figures(result: DemoResult, colors: Colors): string[] {
  const row = (label: string, value: string) => `  ${label.padEnd(34)}${value}`;
  const { pauseMs, outputDelayMs } = result;
  return [
    row("outage, as the clients saw it", colors.bold(`${result.outageMs} ms`)),
    row("  noticed after", `${result.detectionMs} ms`),
    row("  restored in", `${result.restoreMs} ms`),
    row("checkpoints committed before", count(result.epochsCommitted)),
    row("pause of a checkpoint", `p50 ${pauseMs.p50} ms, p99 ${pauseMs.p99} ms`),
    row("output held for", `p50 ${outputDelayMs.p50} ms, p99 ${outputDelayMs.p99} ms`),
  ];
}

function timeline(report: DemoReport, colors: Colors): string[] {
  const fromUs = report.killedUs - sparkLead * sparkSliceUs;
  const line = sparkline(report.timeline, fromUs, sparkSliceUs, sparkCharacters);
  const marker = `${" ".repeat(sparkLead)}▲ power loss`;
  return [
    `  ${colors.dim("slowest reply in each 50 ms (log scale, 1 ms to 1 s; · is silence)")}`,
    `  ${line.slice(0, sparkLead)}${colors.yellow(line.slice(sparkLead))}`,
    `  ${colors.dim(marker)}`,
  ];
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
