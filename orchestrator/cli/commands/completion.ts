import { SHELLS, scriptFor } from "../completion/scripts.js";
import type { CommandSpec } from "../context.js";
import { text } from "../output/result.js";

export const completionCommand: CommandSpec = {
  name: "completion",
  summary: "Print the completion script of a shell",
  completes: "shell",
  examples: [
    "source <(ftctl completion bash)",
    "ftctl completion zsh > /usr/local/share/zsh/site-functions/_ftctl",
    "ftctl completion fish > ~/.config/fish/completions/ftctl.fish",
  ],
  configure(command) {
    command.addArgument(command.createArgument("<shell>").choices([...SHELLS]));
  },
  async run(_context, [shell]) {
    return text(scriptFor(shell as (typeof SHELLS)[number]));
  },
};
