import { hostname } from "node:os";
import type { Invitation } from "../cluster.js";
import type { CommandSpec } from "../context.js";
import { rows, type View } from "../output/result.js";
import { usage } from "../settings.js";

const view: View<Invitation> = {
  name: (row) => row.token,
  lines: true,
  describe: (row) => `${row.token}\n`,
  columns: [
    { header: "HOST", cell: (row) => row.host },
    { header: "TOKEN", cell: (row) => row.token },
    { header: "FINGERPRINT", cell: (row) => row.fingerprint },
    { header: "EXPIRES", cell: (row) => row.expiresAt },
  ],
};

interface InitOptions {
  host?: string;
  listen?: string;
  invite?: boolean;
  for?: string;
}

export const initCommand: CommandSpec<InitOptions> = {
  name: "init",
  summary: "Make this host the first of a cluster; prints a one-time token for the next one",
  timeoutMs: 60_000,
  examples: [
    "ftctl init --host alpha --listen 10.78.0.1",
    "ftctl init --invite               # one more token",
  ],
  configure(command) {
    command.option("--host <name>", "name of this host; default: its host name");
    command.option("--listen <address>", "this host's address on the replication network");
    command.option("--invite", "this host is initialised already: only make another token");
    command.option("--for <host>", "with --invite: only this host may use the token");
  },
  async run(context, _args, options) {
    const { stateDir } = context.settings;
    const invitation = options.invite
      ? await context.cluster.invite({ stateDir, forHost: options.for })
      : await context.cluster.init({ stateDir, host: hostOf(options), listen: listenOf(options) });
    // Its agent admits the others.
    const before = options.invite
      ? ""
      : "Start the agent of this host: systemctl enable --now ftctl-agent\n";
    const advice = `${before}On the next host:\n  ftctl join ${options.listen ?? "ADDRESS"} --host NAME --listen ITS-ADDRESS --token TOKEN\nThe token is good for one host, until ${invitation.expiresAt}.`;
    return rows({ view, rows: [invitation], single: true, advice });
  },
};

export function hostOf(options: { host?: string }): string {
  return options.host ?? hostname().split(".")[0]?.toLowerCase() ?? "";
}

export function listenOf(options: { listen?: string }): string {
  if (options.listen !== undefined) return options.listen;
  throw usage(
    "--listen",
    "is missing: the address at which the other hosts reach this one",
    "Take the address of the replication link, such as --listen 10.78.0.1.",
  );
}
