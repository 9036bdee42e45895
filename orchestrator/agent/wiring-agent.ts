/** Binds the agent's services to Docker, the policies and the preflight. */

import { closeSync, existsSync, fstatSync, openSync, readSync } from "node:fs";
import { release } from "node:os";
import { join } from "node:path";
import { describeToolkit } from "../../criu/toolkit.js";
import { effectivePolicy } from "../../policies/labels.js";
import { hasImage, receiveImage } from "../docker/image.js";
import { CONTROL_PROTOCOL } from "../links/control-wire.js";
import type { PairHost } from "../pair/pair.js";
import { ownVersion } from "../version.js";
import type { AgentParts } from "./agent.js";
import type { CheckRequest } from "./api-types.js";
import type { RecentLines } from "./log.js";
import type { AgentShared } from "./main.js";
import type { Pairs } from "./pairs.js";
import { type PairPaths, pairPaths } from "./paths.js";
import type { PeerServiceParts } from "./peer-service.js";
import { dockerWiring, originControl } from "./wiring-docker.js";
import { checkBoth, factsOfThisHost, probeThisHost, withMode } from "./wiring-preflight.js";

export function agentParts(
  shared: AgentShared,
  host: PairHost,
  pairs: Pairs,
  recent: RecentLines,
): AgentParts {
  const { config, engine, clients, clock } = shared;
  const origins = originControl(dockerWiring(shared));
  const startedAt = new Date(clock.wallMs()).toISOString();
  const resolve: AgentParts["resolve"] = async (request, pairId) => {
    const policy = await policyOf(shared, request, pairId);
    const recorded = policy.mode === "hybrid";
    const address = policy.network.ip;
    return { policy, origin: await origins.inspect(request.container, pairId, address, recorded) };
  };
  return {
    origins,
    resolve,
    check: (request) => checkBoth(shared, request, (pairId) => policyOf(shared, request, pairId)),
    nextBeatPort: () => freePort(config.heartbeatPort, pairs),
    eventLog: (pair) => ({
      file: pairPaths(config.runDir, pair).log,
      program: join(config.nativeDir, "bin/ftlog"),
    }),
    logLines: (pair, lines) => [
      ...programLines(pairPaths(config.runDir, pair), lines),
      ...recent.of(pair, lines),
    ],
    info: async () => ({
      version: ownVersion(),
      protocol: CONTROL_PROTOCOL,
      host: host.name,
      pid: process.pid,
      startedAt,
      peers: clients.describe(),
      criuVersion: await describeToolkit(config.toolkitDir).then(
        (t) => t.criuVersion,
        () => "missing",
      ),
      dockerVersion: await engine.version().then(
        (v) => v.version,
        () => "unreachable",
      ),
      kernel: release(),
    }),
  };
}

async function policyOf(shared: AgentShared, request: CheckRequest, pairId: string) {
  const { engine, clients, config } = shared;
  const inspect = await engine.inspect(request.container);
  const peers = clients.names();
  const policy = await effectivePolicy({
    container: request.container,
    pairId,
    standby: request.standby,
    onlyPeer: peers.length === 1 ? peers[0] : undefined,
    labels: inspect.Config.Labels ?? {},
    document: request.policy,
    policiesDir: config.policiesDir,
  });
  return withMode(shared, inspect, policy);
}

const LOG_TAIL_BYTES = 64 << 10;

/** What the native programs wrote of a pair, each line with the program's name. */
function programLines(paths: PairPaths, lines: number): string[] {
  const files = {
    ftgate: paths.gateLog,
    ftdump: join(paths.dump, "ftdump.log"),
    ftstore: join(paths.dir, "ftstore.log"),
    restore: paths.restoreLog,
  };
  return Object.entries(files).flatMap(([program, file]) =>
    tail(file, lines).map((line) => `${program}: ${line}`),
  );
}

function tail(file: string, lines: number): string[] {
  if (!existsSync(file)) return [];
  const fd = openSync(file, "r");
  try {
    const { size } = fstatSync(fd);
    const start = Math.max(0, size - LOG_TAIL_BYTES);
    const buffer = Buffer.alloc(size - start);
    const read = readSync(fd, buffer, 0, buffer.length, start);
    return buffer.toString("utf8", 0, read).split("\n").filter(Boolean).slice(-lines);
  } finally {
    closeSync(fd);
  }
}

function freePort(first: number, pairs: Pairs): number {
  const used = new Set(pairs.all().map(({ record }) => record.beatPort));
  let port = first;
  while (used.has(port)) port += 1;
  return port;
}

export function peerServiceParts(shared: AgentShared): PeerServiceParts {
  const { engine } = shared;
  return {
    hostFacts: async (request) => ({ ...(await factsOfThisHost(shared, request)) }),
    probeCriu: () => probeThisHost(shared),
    hasImage: (imageId) => hasImage(engine, imageId),
    importImage: (imageId, _reference, body) => receiveImage(engine, imageId, body),
  };
}
