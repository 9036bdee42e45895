/** The command line of the lab: `ftlab`. */
import { spawn } from "node:child_process";
import { join } from "node:path";
import Table from "cli-table3";
import { Command, CommanderError, Option } from "commander";
import { asFtError } from "../../orchestrator/errors/error.js";
import { workload, workloadName } from "../workloads/workloads.js";
import { buildImage, importImage, parseCopy } from "./image.js";
import { type HostStatus, Lab } from "./lab.js";
import { checkoutRoot, usage } from "./layout.js";
import type { LinkName } from "./network.js";
import { commandOf } from "./processes.js";

const list = (text: string) => text.split(",").filter(Boolean);
const say = (line: string) => process.stderr.write(`${line}\n`);

function collect(value: string, before: string[]): string[] {
  return [...before, value];
}

function envFrom(items: string[]): Record<string, string> {
  return Object.fromEntries(
    items.map((item) => {
      const at = item.indexOf("=");
      if (at < 1) throw usage(`--env ${item}`, "is not NAME=VALUE");
      return [item.slice(0, at), item.slice(at + 1)];
    }),
  );
}

function program(lab: Lab): Command {
  const main = new Command("ftlab").description(
    "Hosts for trying and testing ftctl, on one machine",
  );
  main.enablePositionalOptions().exitOverride();
  lifeCycleCommands(main, lab);
  faultCommands(main, lab);
  reachCommands(main, lab);
  contentCommands(main, lab);
  return main;
}

function lifeCycleCommands(main: Command, lab: Lab): void {
  main
    .command("up")
    .description("bring the lab up; hosts that run are left alone")
    .option("--hosts <names>", "comma-separated", list, ["alpha", "beta"])
    .option("--keep", "keep the disks of an earlier lab", false)
    .option("--no-agents", "only hosts and Docker")
    .action(async (options: { hosts: string[]; keep: boolean; agents: boolean }) => {
      await lab.up({ ...options, progress: say });
    });
  main
    .command("down")
    .description("remove the lab")
    .option("--keep", "keep the hosts' disks", false)
    .option("--purge", "also remove cached packages and images", false)
    .action((options: { keep: boolean; purge: boolean }) => lab.down(options));
  main
    .command("status")
    .description("hosts, links, daemons")
    .addOption(outputOption())
    .action(async (options: { output: string }) => {
      const hosts = await lab.status();
      if (options.output === "json") print(hosts);
      else process.stdout.write(hosts.length === 0 ? "no lab is up\n" : `${table(hosts)}\n`);
    });
  main
    .command("pids <host>")
    .description("every process of a host, its containers' included, by the machine's pids")
    .addOption(outputOption())
    .action((host: string, options: { output: string }) => {
      const pids = lab.pids(host);
      if (options.output === "json") print(pids);
      else for (const pid of pids) process.stdout.write(`${pid}\t${commandOf(pid)}\n`);
    });
}

function reachCommands(main: Command, lab: Lab): void {
  main
    .command("exec")
    .description("run a command on a host, or in the client's network")
    .argument("<where>", "a host or client")
    .argument("<command...>")
    .passThroughOptions()
    .allowUnknownOption()
    .action((where: string, command: string[]) => runOn(lab, where, command));
  main
    .command("socket <host>")
    .description("the path of the host's Docker socket, good on this machine and on every host")
    .action((host: string) => {
      process.stdout.write(`${lab.socketOf(host)}\n`);
    });
}

function faultCommands(main: Command, lab: Lab): void {
  main
    .command("kill <host>")
    .description("power loss: links and every process at once")
    .addOption(outputOption())
    .action(async (host: string, options: { output: string }) => {
      const loss = await lab.kill(host);
      if (options.output === "json") print(loss);
      else say(`${host}: dead ${loss.deadAtMs - loss.cutAtMs} ms after its links`);
    });
  main
    .command("boot <host>")
    .description("give power back")
    .option("--env <NAME=VALUE>", "for the agent", collect, [])
    .action((host: string, options: { env: string[] }) => lab.boot(host, envFrom(options.env)));
  for (const [name, state] of [
    ["cut", "down"],
    ["mend", "up"],
  ] as const) {
    main
      .command(`${name} <host>`)
      .description(name === "cut" ? "pull a cable" : "plug a cable in again")
      .addOption(
        new Option("--link <link>", "which").choices(["lan", "replication"]).makeOptionMandatory(),
      )
      .action((host: string, options: { link: LinkName }) =>
        lab.setLink(host, options.link, state),
      );
  }
  main
    .command("agent")
    .description("the host's agent: start, stop or restart it")
    .argument("<host>")
    .argument("<action>", "start, stop or restart")
    .option("--env <NAME=VALUE>", "for the agent to be started", collect, [])
    .option("--kill", "stop it by SIGKILL", false)
    .action(async (host: string, action: string, options: { env: string[]; kill: boolean }) => {
      if (action !== "start" && action !== "stop" && action !== "restart") {
        throw usage(action, "is not start, stop or restart");
      }
      await lab.agent(host, action, { env: envFrom(options.env), kill: options.kill });
    });
  main
    .command("dockerd <host> <action>")
    .description("the host's Docker: kill or start it")
    .action(async (host: string, action: string) => {
      if (action !== "kill" && action !== "start") throw usage(action, "is not kill or start");
      await lab.dockerd(host, action);
    });
}

function contentCommands(main: Command, lab: Lab): void {
  main
    .command("workload <name>")
    .description("make the image of a test workload, load it, and print how to run it")
    .action(async (text: string) => {
      const { image: request, port, runOptions, protocol } = workload(workloadName(text));
      const archive = await buildImage(lab.caches(), request);
      await importImage(lab, archive);
      const options = ["-d", "--network", "none", ...runOptions].join(" ");
      say(`port ${port}; ${protocol}`);
      process.stdout.write(`docker run ${options} --name ${text} ${archive.tag}\n`);
    });
  main
    .command("image <name>")
    .description("make a Docker image from Debian packages and load it on every running host")
    .option("--packages <names>", "comma-separated", list, [])
    .option("--copy <src:dst>", "a file of this machine to put in", collect, [])
    .option("--cmd <command>", "what the container runs, split at spaces")
    .option("--env <NAME=VALUE>", "in the container", collect, [])
    .option("--user <name>", "who runs it")
    .action(async (name: string, options: ImageOptions) => {
      await image(lab, name, options);
    });
}

interface ImageOptions {
  packages: string[];
  copy: string[];
  cmd?: string;
  env: string[];
  user?: string;
}

async function image(lab: Lab, name: string, options: ImageOptions): Promise<void> {
  const archive = await buildImage(lab.caches(), {
    name,
    packages: options.packages,
    copies: options.copy.map(parseCopy),
    command: options.cmd?.split(" ").filter(Boolean) ?? [],
    env: options.env,
    user: options.user,
  });
  await importImage(lab, archive);
  process.stdout.write(`${archive.tag} ${archive.id}\n`);
}

function runOn(lab: Lab, where: string, command: string[]): Promise<void> {
  const argv = lab.commandOn(where, command);
  const path = `${join(checkoutRoot(), "bin")}:${process.env.PATH ?? ""}`;
  const { DOCKER_HOST: _, ...env } = process.env;
  const child = spawn(argv[0]!, argv.slice(1), { stdio: "inherit", env: { ...env, PATH: path } });
  for (const signal of ["SIGINT", "SIGTERM"] as const) {
    process.on(signal, () => child.kill(signal));
  }
  return new Promise((resolve, reject) => {
    child.on("error", reject);
    child.on("exit", (code, signal) => {
      process.exitCode = code ?? (signal === "SIGINT" ? 130 : 143);
      resolve();
    });
  });
}

function outputOption(): Option {
  return new Option("-o, --output <format>", "how to print")
    .choices(["table", "json"])
    .default("table");
}

function print(value: unknown): void {
  process.stdout.write(`${JSON.stringify(value, null, 2)}\n`);
}

function table(hosts: HostStatus[]): string {
  const rows = new Table({
    head: ["HOST", "POWER", "LAN", "REPLICATION", "DOCKER", "AGENT", "PROCESSES"],
    style: { head: [], border: [], compact: true },
    chars: {
      top: "",
      bottom: "",
      left: "",
      right: "",
      mid: "",
      middle: " ",
      "left-mid": "",
      "right-mid": "",
      "mid-mid": "",
      "top-mid": "",
      "top-left": "",
      "top-right": "",
      "bottom-mid": "",
      "bottom-left": "",
      "bottom-right": "",
    },
  });
  for (const host of hosts) {
    rows.push([
      host.host,
      host.power,
      `${host.lanAddress} ${host.lan}`,
      `${host.replicationAddress} ${host.replication}`,
      host.dockerd ? "running" : "-",
      host.agent ? "running" : "-",
      host.processes,
    ]);
  }
  return rows.toString();
}

try {
  await program(new Lab(process.env)).parseAsync();
} catch (thrown) {
  // Help that was asked for is no error; a wrong command line has been explained already.
  if (thrown instanceof CommanderError) process.exit(thrown.exitCode === 0 ? 0 : 2);
  const error = asFtError(thrown, "ftlab");
  say(`ftlab: ${error.subject}: ${error.message} (${error.code})`);
  for (const line of error.quoted) say(`  | ${line}`);
  if (error.log !== undefined) say(`  log: ${error.log}`);
  if (error.hint !== undefined) say(`  ${error.hint}`);
  process.exitCode = error.exitCode;
}
