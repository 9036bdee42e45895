import { stringify } from "yaml";
import { type LoadedPolicy, listPolicies, type NamedPolicy } from "../../../policies/load.js";
import { policyJsonSchema } from "../../../policies/schema.js";
import { didYouMean } from "../../../policies/suggest.js";
import { ExitCode, FtError } from "../../errors/error.js";
import type { CommandSpec } from "../context.js";
import { rows, text, type View } from "../output/result.js";
import { loadFileOrStdin } from "./policy-source.js";
import { each } from "./several.js";

const validView: View<LoadedPolicy["policy"] & { place: string }> = {
  name: (row) => row.metadata.name,
  lines: true,
  describe: (row) => `${row.place}: policy ${row.metadata.name} is valid\n`,
  columns: [
    { header: "PLACE", cell: (row) => row.place },
    { header: "NAME", cell: (row) => row.metadata.name },
  ],
};

const validate: CommandSpec = {
  name: "validate",
  summary: "Check policy files: every problem with file, line, column and reason",
  completes: "file",
  examples: ["ftctl policy validate web.yaml db.yaml", "cat web.yaml | ftctl policy validate -"],
  configure(command) {
    command.argument("<file...>", "policy files; - is stdin");
  },
  async run(context, files) {
    const result = await each(context, files, async (file) =>
      (await loadFileOrStdin(context, file)).map(({ policy, place }) => ({ place, ...policy })),
    );
    return rows({ view: validView, rows: result.rows.flat(), failures: result.failures });
  },
};

const showView: View<NamedPolicy> = {
  name: ({ policy }) => policy.metadata.name,
  columns: [
    { header: "NAME", cell: ({ policy }) => policy.metadata.name },
    { header: "ORIGIN", cell: ({ origin }) => origin },
    { header: "MODE", cell: ({ policy }) => policy.spec.mode },
    { header: "INTERVAL", cell: ({ policy }) => `${policy.spec.epoch.intervalMs} ms` },
    { header: "FAILOVER", cell: ({ policy }) => policy.spec.failover },
    { header: "STANDBY LOSS", cell: ({ policy }) => policy.spec.onStandbyLoss },
    { header: "FILE", cell: ({ path }) => path, wide: true },
  ],
};

const show: CommandSpec<{ resolved?: boolean }> = {
  name: "show",
  summary: "List the policies known by name, or print some",
  completes: "policy",
  examples: ["ftctl policy show", "ftctl policy show default > mine.yaml"],
  configure(command) {
    command.argument("[policy...]", "names; default: list all");
    command.option("--resolved", "with all defaults filled in, without comments");
  },
  async run(context, names, options) {
    const known = await listPolicies(context.settings.policiesDir);
    if (names.length === 0) {
      const listed = { view: showView, rows: known };
      const { output } = context.settings;
      return output === "json" || output === "yaml" ? documents(known) : rows(listed);
    }
    const { rows: chosen, failures } = await each(context, names, async (name) => {
      const found = known.find(({ policy }) => policy.metadata.name === name);
      if (found === undefined) throw unknownPolicy(name, known);
      return found;
    });
    if (failures[0] !== undefined) throw failures[0];
    const print = ({ policy, text: source }: NamedPolicy) =>
      options.resolved ? stringify(policy, { aliasDuplicateObjects: false }) : source;
    const data = chosen.map(({ policy }) => policy);
    return text(chosen.map(print).join("---\n"), data.length === 1 ? data[0] : data);
  },
};

function documents(known: NamedPolicy[]) {
  return text(
    "",
    known.map(({ policy, origin, path }) => ({ origin, path, ...policy })),
  );
}

function unknownPolicy(name: string, known: NamedPolicy[]): FtError {
  const names = known.map(({ policy }) => policy.metadata.name);
  return new FtError({
    code: "POLICY_NOT_FOUND",
    subject: `policy ${name}`,
    message: `there is no policy of this name${didYouMean(name, names)}`,
    hint: `Known are ${names.join(", ")}.`,
    exitCode: ExitCode.notFound,
  });
}

const schema: CommandSpec = {
  name: "schema",
  summary: "Print the JSON Schema of a policy, for editors",
  examples: ["ftctl policy schema > ftctl-policy.schema.json"],
  async run() {
    const value = policyJsonSchema();
    return text(`${JSON.stringify(value, null, 2)}\n`, value);
  },
};

export const policyCommand: CommandSpec = {
  name: "policy",
  summary: "Policies: validate, show, schema",
  subcommands: [validate, show, schema],
};
