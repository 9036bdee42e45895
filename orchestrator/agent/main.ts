/**
 * The agent: one per host. Start-up in order: identity, links, pairs as the records say, then the local API. When it
 * ends or is killed, gates and containers go on; the next one adopts them.
 */
import { mkdir } from "node:fs/promises";
import { createServer, type Server } from "node:http";
import { join } from "node:path";
import type { Logger } from "pino";
import { type Clock, systemClock } from "../clock.js";
import { Engine } from "../docker/engine.js";
import { recoverAbandoned } from "../docker/protected-container.js";
import { faultsFrom } from "../faults/faults.js";
import { limits } from "../limits.js";
import { hasAuthority } from "../links/authority.js";
import type { AgentConfig } from "../links/config.js";
import { loadAgentConfig } from "../links/config.js";
import { ControlServer } from "../links/control-server.js";
import { loadIdentity } from "../links/identity.js";
import { JoinServer } from "../links/join-server.js";
import { type Peer, PeerBook } from "../links/peers.js";
import { renewalHandlers, renewIfDue } from "../links/renewal.js";
import { StreamReceiver } from "../links/stream-receiver.js";
import { adopt } from "../pair/adopt.js";
import { Pair, type PairHost } from "../pair/pair.js";
import { PairRecords } from "../pair/record.js";
import { ownVersion } from "../version.js";
import { Agent } from "./agent.js";
import { startApiServer } from "./api-server.js";
import type { AgentService } from "./api-types.js";
import { EventLog } from "./events.js";
import { endLeftGates } from "./leftovers.js";
import { createLog, RecentLines } from "./log.js";
import { AgentMetrics } from "./metrics.js";
import { notifyReady, notifyStopping } from "./notify.js";
import { Pairs } from "./pairs.js";
import { pairPaths } from "./paths.js";
import { peerMethods, peerUploads } from "./peer-methods.js";
import { peerHandlers, peerUploadHandlers } from "./peer-service.js";
import { PeerClients } from "./peers.js";
import { agentParts, peerServiceParts } from "./wiring-agent.js";
import { pairParts } from "./wiring-pair.js";
import { receiveEpoch } from "./wiring-stream.js";

export interface AgentSettings {
  configFile: string;
  stateDir: string;
  runDir: string;
}

/** Runs until SIGTERM or SIGINT. */
export async function runAgent(settings: AgentSettings): Promise<void> {
  const config = loadAgentConfig(settings, process.env);
  // Before the start: a signal that comes while pairs are adopted must end the agent in order, too.
  const asked = new Promise<void>((resolve) => {
    process.once("SIGTERM", resolve);
    process.once("SIGINT", resolve);
  });
  const running = await startAgent(config, systemClock, process.env.FTCTL_FAULT);
  await asked;
  await running.stop();
  // Children that only watch (ftinit's subscribers) must not keep an ended agent alive.
  process.exit(0);
}

interface RunningAgent {
  stop(): Promise<void>;
}

export async function startAgent(
  config: AgentConfig,
  clock: Clock,
  fault: string | undefined,
): Promise<RunningAgent> {
  const recent = new RecentLines();
  const identity = loadIdentity(config.stateDir);
  const log = createLog(identity.host, config.logLevel, recent);
  const faults = faultsFrom(fault);
  const book = new PeerBook({
    stateDir: config.stateDir,
    self: identity.host,
    configured: config.peers,
  });
  const engine = Engine.at(config.dockerSocket, { host: identity.host });
  await mkdir(config.runDir, { recursive: true, mode: 0o755 });
  const clients = new PeerClients({ identity, book, version: ownVersion(), engine, log });
  const pairs = new Pairs();
  const shared = { config, identity, book, engine, clients, clock, faults, log };
  const host: PairHost = {
    name: identity.host,
    clock,
    faults,
    log,
    events: new EventLog(identity.host, clock),
    metrics: new AgentMetrics(),
    records: new PairRecords(join(config.stateDir, "pairs")),
    parts: pairParts(shared),
    peer: (name) => clients.control(name),
    dropped: (pair) => pairs.delete(pair),
    spoolDir: (pair) => pairPaths(config.runDir, pair).out,
  };
  const service = new Agent(host, pairs, agentParts(shared, host, pairs, recent));
  await loadPairs(host, pairs, log);
  const left = await endLeftGates(config.runDir, (pair) => host.records.has(pair), log);
  if (left.length > 0) log.warn({ pairs: left }, "ended gates that belong to no pair");
  await recoverOriginals(engine, pairs, log);
  const links = await startLinks(shared, host, pairs);
  const api = await startApiServer({
    socketPath: join(config.runDir, "agent.sock"),
    service,
    onError: (error) => log.error({ err: error }, "local API"),
  });
  const metrics = await serveMetrics(config.metrics, service);
  await adoptPairs(pairs, log);
  pairs.start();
  const stopWatchdog = await notifyReady();
  const renewal = setInterval(() => void renew(shared, log), limits.renewalCheckIntervalMs);
  void renew(shared, log);
  log.info({ version: ownVersion(), pairs: pairs.all().length }, "agent ready");
  return {
    stop: async () => {
      log.info("agent stops; gates and containers go on");
      clearInterval(renewal);
      stopWatchdog();
      await notifyStopping();
      pairs.stop();
      await api.close();
      metrics?.close();
      await links.stop();
      clients.close();
    },
  };
}

export interface AgentShared {
  config: AgentConfig;
  identity: ReturnType<typeof loadIdentity>;
  book: PeerBook;
  engine: Engine;
  clients: PeerClients;
  clock: Clock;
  faults: ReturnType<typeof faultsFrom>;
  log: Logger;
}

/** Host certificates are renewed by the host that has the authority; it takes effect when the agent starts next. */
async function renew({ config, clock, clients }: AgentShared, log: Logger): Promise<void> {
  const ask = async (request: { certificateRequest: string }) => {
    const answers = clients
      .names()
      .map((name) => clients.client(name).call("renewCertificate", request));
    return Promise.any(answers);
  };
  try {
    const renewed = await renewIfDue({ stateDir: config.stateDir, clock, ask });
    if (renewed) log.info("the host's certificate was renewed; it is used from the next start on");
  } catch (error) {
    log.warn({ err: error }, "the host's certificate is due but could not be renewed");
  }
}

async function startLinks(shared: AgentShared, host: PairHost, pairs: Pairs) {
  const { config, identity, book, faults, log, clock } = shared;
  const self: Peer = {
    host: identity.host,
    address: identity.address,
    controlPort: config.controlPort,
    streamPort: config.streamPort,
  };
  const serviceParts = peerServiceParts(shared);
  const control = await ControlServer.start({
    identity,
    peers: book,
    self,
    address: config.listen ?? identity.address,
    port: config.controlPort,
    version: ownVersion(),
    methods: peerMethods,
    handlers: {
      ...peerHandlers(host, pairs, serviceParts),
      ...renewalHandlers({ stateDir: config.stateDir, peers: book, clock }),
    },
    uploads: peerUploads,
    uploadHandlers: peerUploadHandlers(serviceParts),
    log,
  });
  const stream = await StreamReceiver.start({
    identity,
    peers: book,
    address: config.listen ?? identity.address,
    port: config.streamPort,
    faults,
    log,
    ...receiveEpoch(config.runDir, pairs),
  });
  const joining = hasAuthority(config.stateDir)
    ? await JoinServer.start({ config, identity, peers: book, self, clock, log })
    : undefined;
  return {
    stop: async () => {
      await joining?.stop();
      await stream.stop();
      await control.stop();
    },
  };
}

async function loadPairs(host: PairHost, pairs: Pairs, log: Logger): Promise<void> {
  const { records, broken } = await host.records.load();
  for (const error of broken)
    log.error({ err: error }, "a pair's record is broken; the pair is left alone");
  for (const record of records) {
    const pair = new Pair(host, record, record.role === "primary" ? "starting" : "preparing");
    pair.adopting = true;
    pairs.add(pair);
  }
}

async function adoptPairs(pairs: Pairs, log: Logger): Promise<void> {
  for (const pair of pairs.all()) {
    await pair
      .exclusively(() => adopt(pair))
      .catch((error: unknown) => {
        log.error({ err: error, pair: pair.record.id }, "adopting the pair failed");
        pair.enter("failed", `could not be taken up again: ${String(error)}`);
      })
      .finally(() => {
        pair.adopting = false;
      });
  }
}

/** A crash in the middle of `protect` left the original aside: it comes back. */
async function recoverOriginals(engine: Engine, pairs: Pairs, log: Logger): Promise<void> {
  try {
    const names = await recoverAbandoned(
      engine,
      (id) => pairs.get(id) !== undefined,
      (name) => pairs.all().some(({ record }) => record.name === name),
    );
    for (const name of names) log.warn({ name }, "brought back after an interrupted protect");
  } catch (error) {
    log.error({ err: error }, "looking for interrupted protects failed");
  }
}

async function serveMetrics(
  listen: AgentConfig["metrics"],
  service: AgentService,
): Promise<Server | undefined> {
  if (listen === undefined) return undefined;
  const server = createServer((request, response) => {
    if (request.url !== "/metrics" || request.method !== "GET") {
      response.writeHead(404).end("see /metrics\n");
      return;
    }
    service.metrics().then(
      (text) => response.writeHead(200, { "content-type": "text/plain; version=0.0.4" }).end(text),
      (error: unknown) => response.writeHead(500).end(`${String(error)}\n`),
    );
  });
  server.maxConnections = 16;
  server.requestTimeout = 5_000;
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen(listen.port, listen.address, resolve);
  });
  return server;
}
