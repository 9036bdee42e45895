/** Cables: cut, and mended. */
import { expectThat, type Scenario, scenarioUnderLoad } from "../runner/scenario.js";

const settleMs = 20_000;

/** Neither agent nor beat crosses: for the standby that is a dead primary; for the primary, no more acks. */
const replicationCut = scenarioUnderLoad(
  { name: "links/replication-cut-and-mended", quick: true },
  async ({ service, primary, standby, client }, context) => {
    await context.hosts.cut(primary, "replication");
    await service.untilTakenOver(standby, settleMs);
    await client.makesProgress(50, settleMs);
    await context.hosts.mend(primary, "replication");
    await standsDown(context, primary, service.name);
    await service.untilProtected(standby, 30_000);
  },
);

const lanCut = scenarioUnderLoad(
  { name: "links/lan-cut", quick: true },
  async ({ service, primary, standby }, context) => {
    await context.hosts.cut(primary, "lan");
    await service.untilTakenOver(standby, settleMs);
    await context.hosts.mend(primary, "lan");
  },
);

/** Shorter than the policy's grace: nothing must move. */
const lanFlap = scenarioUnderLoad(
  { name: "links/lan-flap", quick: false },
  async ({ service, primary, client }, context) => {
    const before = await context.ftctl.status(primary, service.name);
    await context.hosts.cut(primary, "lan");
    await new Promise((resolve) => setTimeout(resolve, 150));
    await context.hosts.mend(primary, "lan");
    await client.makesProgress(50, settleMs);
    const after = await context.ftctl.status(primary, service.name);
    expectThat(after.generation === before.generation, "a short flap moved the service");
  },
);

/** The zombie: the old primary runs on in the dark, and must be heard by nobody when it is back. */
const bothCut = scenarioUnderLoad(
  { name: "links/both-cut-and-mended", quick: true, boundMs: 150_000 },
  async ({ service, primary, standby, client }, context) => {
    await context.hosts.cut(primary, "replication");
    await context.hosts.cut(primary, "lan");
    await service.untilTakenOver(standby, settleMs);
    await client.makesProgress(50, settleMs);
    // LAN first: for a moment two hosts could both answer for the address.
    await context.hosts.mend(primary, "lan");
    await client.makesProgress(200, settleMs);
    await context.hosts.mend(primary, "replication");
    await standsDown(context, primary, service.name);
    await service.untilProtected(standby, 30_000);
  },
);

/** The standby is cut off from everything: it must not take over, as it cannot serve. */
const standbyIsolated = scenarioUnderLoad(
  { name: "links/standby-isolated", quick: true },
  async ({ service, primary, standby }, context) => {
    await context.hosts.cut(standby, "lan");
    await context.hosts.cut(standby, "replication");
    await service.untilBlocked(primary, settleMs);
    await new Promise((resolve) => setTimeout(resolve, 1_000));
    const other = await context.ftctl.status(standby, service.name);
    expectThat(other.role === "standby", "an isolated standby took over");
    // In the other order it could serve while it hears nothing of the primary: then it may take over.
    await context.hosts.mend(standby, "replication");
    await context.ftctl.until(
      standby,
      service.name,
      "a heartbeat of the primary",
      (view) => view.peerState === "alive",
      settleMs,
    );
    await context.hosts.mend(standby, "lan");
    await service.untilProtected(primary, 30_000);
  },
);

async function standsDown(
  context: Parameters<Scenario["run"]>[0],
  host: string,
  name: string,
): Promise<void> {
  await context.ftctl.until(host, name, "standing down", (view) => view.role === "standby", 30_000);
}

export const linkScenarios: Scenario[] = [
  replicationCut,
  lanCut,
  lanFlap,
  bothCut,
  standbyIsolated,
];
