/** The services that end-to-end tests protect, as the lab makes them. */
import { join } from "node:path";
import type { Workload } from "../clients/report.js";
import { checkoutRoot } from "../lab/layout.js";
import { type WorkloadName as LabWorkload, workload } from "../workloads/workloads.js";

export interface WorkloadSpec {
  /** What its clients speak. */
  workload: Workload;
  /** What the lab calls it. */
  name: LabWorkload;
  image: string;
  port: number;
  runOptions: string[];
}

export const outFolder = (): string => join(checkoutRoot(), "e2e/out");

export function specOf(name: LabWorkload): WorkloadSpec {
  const { image, port, runOptions } = workload(name);
  return { workload: spokenBy(name), name, image: image.name, port, runOptions };
}

function spokenBy(name: LabWorkload): Workload {
  if (name === "redis-always" || name === "redis-saving") return "redis";
  return name === "nginx-1" ? "nginx" : name;
}
