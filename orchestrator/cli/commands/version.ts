import type { AgentInfo } from "../../agent/api-types.js";
import { asFtError, type FtErrorJson } from "../../errors/error.js";
import { limits } from "../../limits.js";
import type { CommandSpec } from "../context.js";
import { rows, type View } from "../output/result.js";
import { ownVersion } from "../version.js";

interface Versions {
  client: { version: string; node: string };
  agent?: AgentInfo;
  agentError?: FtErrorJson;
}

const view: View<Versions> = {
  name: ({ client }) => client.version,
  describe: ({ client, agent, agentError }) =>
    [
      `ftctl   ${client.version} (Node ${client.node})`,
      agent === undefined
        ? `agent   ${agentError?.message ?? "not reached"}`
        : `agent   ${agent.version} on ${agent.host} (protocol ${agent.protocol}, kernel ${agent.kernel}, CRIU ${agent.criuVersion ?? "not found"}, Docker ${agent.dockerVersion ?? "not reached"})`,
      ...(agent?.peers ?? []).map(
        (peer) => `peer    ${peer.version ?? "?"} on ${peer.host} (${peer.state})`,
      ),
      "",
    ].join("\n"),
  columns: [
    { header: "CLIENT", cell: ({ client }) => client.version },
    { header: "AGENT", cell: ({ agent }) => agent?.version ?? "-" },
    { header: "HOST", cell: ({ agent }) => agent?.host ?? "-" },
    { header: "KERNEL", cell: ({ agent }) => agent?.kernel ?? "-", wide: true },
    { header: "CRIU", cell: ({ agent }) => agent?.criuVersion ?? "-", wide: true },
    { header: "DOCKER", cell: ({ agent }) => agent?.dockerVersion ?? "-", wide: true },
  ],
};

export const versionCommand: CommandSpec = {
  name: "version",
  summary: "Versions of this program and of the agent and its peers",
  timeoutMs: limits.controlCallTimeoutMs,
  async run(context) {
    const client = { version: ownVersion(), node: process.versions.node };
    const versions: Versions = await context.client.info(context.signal).then(
      (agent) => ({ client, agent }),
      // The client's own version is worth printing without an agent.
      (error) => ({ client, agentError: asFtError(error, "agent").toJSON() }),
    );
    return rows({ view, rows: [versions], single: true });
  },
};
