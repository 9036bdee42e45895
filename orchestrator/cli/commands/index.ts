/** All commands, in the order of the help. */
import type { CommandSpec } from "../context.js";
import { agentCommand } from "./agent.js";
import { applyCommand } from "./apply.js";
import { checkCommand } from "./check.js";
import { completionCommand } from "./completion.js";
import { eventsCommand } from "./events.js";
import { failoverCommand } from "./failover.js";
import { initCommand } from "./init.js";
import { inspectCommand } from "./inspect.js";
import { joinCommand } from "./join.js";
import { logCommand } from "./log.js";
import { logsCommand } from "./logs.js";
import { lsCommand } from "./ls.js";
import { policyCommand } from "./policy.js";
import { protectCommand } from "./protect.js";
import { statusCommand } from "./status.js";
import { switchoverCommand } from "./switchover.js";
import { unprotectCommand } from "./unprotect.js";
import { versionCommand } from "./version.js";

export const COMMANDS: readonly CommandSpec[] = [
  checkCommand,
  protectCommand,
  unprotectCommand,
  lsCommand,
  statusCommand,
  inspectCommand,
  switchoverCommand,
  failoverCommand,
  eventsCommand,
  logsCommand,
  logCommand,
  applyCommand,
  policyCommand,
  agentCommand,
  initCommand,
  joinCommand,
  versionCommand,
  completionCommand,
];
