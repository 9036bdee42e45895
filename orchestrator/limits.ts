/**
 * Every bound of the orchestrator that is not in a policy: time-outs, retries, queue lengths. Nothing waits
 * or grows without one of these or a policy field.
 */
export const limits = {
  /** gRPC calls between agents that only read or change a little state. */
  controlCallTimeoutMs: 5_000,
  /** Calls that create containers or run preflight on the peer. */
  controlSlowCallTimeoutMs: 120_000,
  imageTransferTimeoutMs: 600_000,
  /** One request on the local API socket. */
  localRequestBytesMax: 1 << 20,
  localConnectionsMax: 64,
  /** One line on a control socket of a C program. */
  controlLineBytesMax: 4_096,
  gateCommandTimeoutMs: 2_000,
  gateRestartsMax: 5,
  gateRestartWindowMs: 60_000,
  dumpTimeoutMs: 10_000,
  /** The first checkpoint ships every file. */
  firstDumpTimeoutMs: 120_000,
  storeCommandTimeoutMs: 10_000,
  storeMaterializeTimeoutMs: 30_000,
  restoreTimeoutMs: 30_000,
  /** One epoch on the stream; larger is refused before a byte is stored. */
  epochBytesMax: 8 * 2 ** 30,
  streamIdleTimeoutMs: 30_000,
  streamHandshakeTimeoutMs: 5_000,
  streamReconnectMsMin: 20,
  streamReconnectMsMax: 1_000,
  eventsKeptMax: 2_000,
  eventSubscribersMax: 64,
  joinTokenLifetimeMs: 15 * 60_000,
  joinAttemptsPerMinuteMax: 10,
  dockerCallTimeoutMs: 60_000,
  dockerStopTimeoutSeconds: 10,
} as const;
