/** Puts a load's report and its read-back together into the figures that are promised. */
import { worseFindings } from "../clients/findings.js";
import type { ClientReport, VerifyReport } from "../clients/report.js";

export interface Verdict {
  connections: number;
  acknowledgedWrites: number;
  resets: number;
  lostWrites: number;
  duplicatedWrites: number;
  wrongReplies: number;
  outOfOrder: number;
  stalled: number;
  refused: number;
  complaints: string[];
}

export function verdictOf(report: ClientReport, readBack?: VerifyReport): Verdict {
  const found = readBack ? worseFindings(report.findings, readBack.findings) : report.findings;
  return {
    connections: report.connections,
    acknowledgedWrites: report.acknowledged,
    resets: report.resets,
    lostWrites: found.lostWrites,
    duplicatedWrites: found.duplicatedWrites,
    wrongReplies: found.wrongReplies + found.strayReplies,
    outOfOrder: found.outOfOrder,
    stalled: report.stalled,
    refused: report.refused,
    complaints: [...report.complaints, ...(readBack?.complaints ?? [])],
  };
}

/** Every promise that was broken, in words; empty when all were kept. */
export function brokenPromises(verdict: Verdict): string[] {
  const broken: string[] = [];
  const claim = (count: number, what: string) => {
    if (count > 0) broken.push(`${count} ${what}`);
  };
  claim(verdict.lostWrites, "acknowledged writes lost");
  claim(verdict.duplicatedWrites, "writes applied twice");
  claim(verdict.wrongReplies, "wrong replies");
  claim(verdict.outOfOrder, "replies or records out of order");
  claim(verdict.resets, "connections reset");
  claim(verdict.stalled, "connections never answered again");
  claim(verdict.refused, "connections refused");
  // A load that did nothing proves nothing.
  if (verdict.acknowledgedWrites === 0) broken.push("nothing was acknowledged at all");
  return broken;
}
