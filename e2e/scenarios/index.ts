/** All scenarios, in an order that lets the pair be used again from one to the next. */
import type { Scenario } from "../runner/scenario.js";
import { badInputScenarios } from "./bad-input.js";
import { badLogScenarios } from "./bad-log.js";
import { clockScenarios } from "./clock-step.js";
import { faultPointScenarios } from "./fault-points.js";
import { hostLossScenarios } from "./host-loss.js";
import { hybridScenarios } from "./hybrid.js";
import { lifecycleScenarios } from "./lifecycle.js";
import { linkScenarios } from "./links.js";
import { processScenarios } from "./processes.js";
import { storageScenarios } from "./storage.js";

export function allScenarios(): Scenario[] {
  return [
    ...hostLossScenarios,
    ...hybridScenarios,
    ...badLogScenarios,
    ...linkScenarios,
    ...processScenarios,
    ...storageScenarios,
    ...clockScenarios,
    ...faultPointScenarios,
    ...badInputScenarios,
    ...lifecycleScenarios,
  ];
}
