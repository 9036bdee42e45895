import type { CommandSpec } from "../context.js";

export const agentCommand: CommandSpec = {
  name: "agent",
  summary: "Run this host's agent in the foreground (systemd does, as ftctl-agent)",
  endsItself: true,
  examples: ["ftctl agent", "ftctl agent --config /etc/ftctl/agent.yaml"],
  async run(context) {
    await context.cluster.runAgent(context.settings);
    return undefined;
  },
};
