/** Mode hybrid: output waits for the event log, and a takeover replays it. */
import { outageMsAround } from "../clients/latency.js";
import { expectThat, type Scenario, underLoad } from "../runner/scenario.js";
import type { WorkloadName } from "../workloads/workloads.js";

const outageMsMax = 3_000;

/** The primary's host dies under load; what was told to clients is in the log, and nothing else is. */
function hostLoss(workload: WorkloadName, connections: number, times: number): Scenario {
  return {
    name: `hybrid/${workload}-${connections}${times > 1 ? `-${times}-times` : ""}`,
    quick: false,
    boundMs: 90_000 + times * 60_000,
    run: async (context) => {
      const options = {
        workload,
        policy: { mode: "hybrid" },
        client: { connections, requestsMax: 4_000_000, durationMsMax: times * 60_000 },
      };
      const killedUs: number[] = [];
      const { report } = await underLoad(
        context,
        options,
        async ({ service, primary, standby, client }) => {
          let [voice, warm] = [primary, standby];
          for (let i = 0; i < times; i += 1) {
            await context.ftctl.until(
              voice,
              service.name,
              "output that waits for the log",
              (view) => view.log?.covers === true,
              30_000,
            );
            await client.makesProgress(500, 30_000);
            const before = await context.ftctl.status(voice, service.name);
            const { p50 = 0, p99 = 0 } = before.outputDelayMs ?? {};
            context.note(`output waited ${p50.toFixed(2)} / ${p99.toFixed(2)} ms`);
            killedUs.push(await context.hosts.kill(voice));
            const view = await service.untilTakenOver(warm, 30_000);
            expectThat(view.takeover?.replay, "the takeover replayed nothing");
            const { events, outputs, ms, rebuilt } = view.takeover.replay;
            context.note(
              `replayed ${events} events, ${outputs} outputs in ${Math.round(ms)} ms; ${rebuilt} connections`,
            );
            await client.makesProgress(500, 30_000);
            if (i + 1 === times) break;
            await context.hosts.boot(voice);
            await service.untilProtected(warm, 30_000);
            [voice, warm] = [warm, voice];
          }
        },
      );
      for (const atUs of killedUs) {
        const outageMs = outageMsAround(report.gaps, atUs);
        context.note(`outage ${Math.round(outageMs)} ms`);
        expectThat(outageMs < outageMsMax, `outage of ${outageMs} ms, bound is ${outageMsMax}`);
      }
    },
  };
}

export const hybridScenarios: Scenario[] = [
  hostLoss("redis", 8, 1),
  hostLoss("redis", 8, 3),
  hostLoss("memcached", 8, 1),
  hostLoss("echo", 8, 1),
];
