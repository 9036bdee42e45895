import type { CheckResult } from "../../agent/api-types.js";
import { ExitCode } from "../../errors/error.js";
import { limits } from "../../limits.js";
import type { CommandSpec } from "../context.js";
import { rows, type Tone, type View } from "../output/result.js";
import { addPolicyOptions, chosenPolicy, type PolicyOptions } from "./policy-source.js";
import { each } from "./several.js";

type CheckRow = CheckResult & { container: string };

const TONES: Record<CheckResult["status"], Tone> = { ok: "good", warning: "busy", failed: "bad" };

export const checkView: View<CheckRow> = {
  name: (row) => `${row.container}/${row.host}/${row.name}`,
  note: (row) => (row.remedy === undefined ? undefined : `what to do: ${row.remedy}`),
  columns: [
    { header: "CONTAINER", cell: (row) => row.container },
    { header: "HOST", cell: (row) => row.host },
    { header: "CHECK", cell: (row) => row.name },
    { header: "STATUS", cell: (row) => row.status, tone: (row) => TONES[row.status] },
    { header: "REASON", cell: (row) => row.reason },
  ],
};

export const checkCommand: CommandSpec<PolicyOptions & { standby?: string }> = {
  name: "check",
  summary: "Whether containers can be protected: named checks on both hosts",
  completes: "container",
  timeoutMs: limits.controlSlowCallTimeoutMs,
  examples: ["ftctl check redis", "ftctl check redis web --standby beta -o json"],
  configure(command) {
    command.argument("<container...>", "names or id prefixes");
    command.option("--standby <host>", "host of the standby; default: policy, or the only peer");
    addPolicyOptions(command);
  },
  async run(context, names, options) {
    const policy = await chosenPolicy(context, options);
    const { rows: results, failures } = await each(context, names, async (container) => {
      const request = { container, standby: options.standby, policy: policy.policy };
      const found = await context.client.check(request, context.signal);
      return found.map((result) => ({ container, ...result }));
    });
    const all = results.flat();
    const failed = all.some(({ status }) => status === "failed");
    const exitCode = failed ? ExitCode.preflightFailed : ExitCode.ok;
    return rows({ view: checkView, rows: all, failures, exitCode });
  },
};
