import type { Joined } from "../cluster.js";
import type { CommandSpec, Context } from "../context.js";
import { rows, type View } from "../output/result.js";
import { usage } from "../settings.js";
import { hostOf, listenOf } from "./init.js";

const view: View<Joined> = {
  name: (row) => row.host,
  lines: true,
  describe: (row) => `${row.host} has joined; authority ${row.fingerprint}\n`,
  columns: [
    { header: "HOST", cell: (row) => row.host },
    { header: "ADDRESS", cell: (row) => row.address },
    { header: "FINGERPRINT", cell: (row) => row.fingerprint },
  ],
};

interface JoinOptions {
  host?: string;
  listen?: string;
  token?: string;
}

export const joinCommand: CommandSpec<JoinOptions> = {
  name: "join",
  summary: "Join the cluster of another host, with a token that it made",
  timeoutMs: 60_000,
  examples: [
    "ftctl join 10.78.0.1 --host beta --listen 10.78.0.2 --token ftj1.…",
    "ssh alpha ftctl init --invite | ftctl join 10.78.0.1 --host beta --listen 10.78.0.2",
  ],
  configure(command) {
    command.argument("<address>", "of the first host, with :port if it is not the usual one");
    command.option("--host <name>", "name of this host; default: its host name");
    command.option("--listen <address>", "this host's address on the replication network");
    command.option(
      "--token <token>",
      "from `ftctl init`; better in FTCTL_TOKEN or on stdin, unseen",
    );
  },
  async run(context, [address], options) {
    const token = await tokenOf(context, options.token);
    const joined = await context.cluster.join(context.settings, {
      address: address as string,
      token,
      host: hostOf(options),
      listen: listenOf(options),
    });
    const advice = "Start the agent on this host: systemctl enable --now ftctl-agent";
    return rows({ view, rows: [joined], single: true, advice });
  },
};

async function tokenOf(context: Context, flag: string | undefined): Promise<string> {
  const given = flag === "-" ? undefined : (flag ?? context.env.FTCTL_TOKEN);
  if (given) return given.trim();
  const token = context.stdinIsTerminal ? "" : (await context.readStdin()).trim();
  if (token !== "") return token;
  throw usage(
    "--token",
    "is missing",
    "Give it with --token, in FTCTL_TOKEN or on stdin. `ftctl init --invite` on the first host makes one.",
  );
}
