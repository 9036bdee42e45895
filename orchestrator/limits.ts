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
  imageBytesMax: 64 * 2 ** 30,
  imageChunkBytes: 256 << 10,
  /** One request or reply between agents. */
  controlMessageBytesMax: 4 << 20,
  /** A silent peer is noticed after at most the sum of these two. */
  controlKeepaliveMs: 500,
  controlKeepaliveTimeoutMs: 700,
  /** TCP, TLS and HTTP/2; a lost first packet costs a second, so two tries fit. */
  controlConnectTimeoutMs: 2_500,
  controlReconnectMsMin: 100,
  controlReconnectMsMax: 1_000,
  /** Open TCP connections on one listening port, whether or not their handshake is done. */
  linkConnectionsMax: 128,
  /** One request on the local API socket. */
  localRequestBytesMax: 1 << 20,
  localConnectionsMax: 64,
  /** One line on a control socket of a C program. */
  controlLineBytesMax: 4_096,
  gateCommandTimeoutMs: 2_000,
  dumpTimeoutMs: 10_000,
  /** For a native child to clean up after its stdin was closed. */
  childEndTimeoutMs: 5_000,
  /** Of a files-only transfer before the first checkpoint; what is left goes into that. */
  presyncPartsMax: 1_000,
  /** Of an event log: threads that are recorded, and its size in segments of 1 MiB. */
  logLanes: 128,
  logSegments: 512,
  logCommandTimeoutMs: 5_000,
  /** What is noted of the writable files before a replay, in case it has to be made again: names, and contents of small ones. */
  markedFilesMax: 20_000,
  markedBytesMax: 32 * 2 ** 20,
  markedFileBytesMax: 4 * 2 ** 20,
  /** Of a whole replay, and of its connections' being handed over after it. */
  replayTimeoutMs: 60_000,
  replayPollMs: 2,
  /** How often it is looked whether the process that replays is still there. */
  replayLivesMs: 100,
  replayAttemptsMax: 3,
  /** `onDivergence: retry` goes on trying for so long. */
  replayAttemptsOnRetryMax: 10,
  handoverTimeoutMs: 10_000,
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
  /** Read from the socket and not yet in the file; then the sender is made to wait. */
  streamBufferedBytesMax: 4 << 20,
  streamChunkBytes: 256 << 10,
  streamReplyTimeoutMs: 15_000,
  streamEpochsInFlightMax: 4,
  eventsKeptMax: 2_000,
  eventSubscribersMax: 64,
  joinTokenLifetimeMs: 15 * 60_000,
  joinAttemptsPerMinuteMax: 10,
  joinTimeoutMs: 10_000,
  joinMessageBytesMax: 64 << 10,
  dockerCallTimeoutMs: 60_000,
  dockerStopTimeoutSeconds: 10,
  /** Copying a container's writable layer beside it. */
  layerCopyTimeoutMs: 600_000,
  /** From the start of a container until its ftinit answers. */
  initAnswerTimeoutMs: 10_000,
  /** An exit sooner than this after a start counts as a crash loop. */
  crashLoopWindowMs: 10_000,
  /** Between two looks at a peer that is not heard. */
  peerStatusIntervalMs: 1_000,
  /** How soon the peer agent must answer when its gate fell silent. */
  askPeerTimeoutMs: 60,
  /** If it has not answered so soon, a takeover is prepared. */
  prepareAfterMs: 10,
  reprotectRetryMs: 2_000,
  restoreAttemptsMax: 3,
  /** A restarted agent takes its pairs up again; what is just being started anew beside it makes that fail. */
  adoptAttemptsMax: 3,
  adoptAgainMs: 500,
  /** `restore: auto`: an application with so much memory runs before all of it is there. docs/SPECIFICATION.md: measured. */
  lazyRestoreBytesMin: 64 * 1024 * 1024,
  /** Until nothing of a restored application's memory is missing. */
  fillTimeoutMs: 120_000,
  takeoverAttemptsMax: 3,
  takeoverRetryMs: 200,
  pairTickMs: 400,
  /** Of a pair that is well, only every so many rounds of `peerStatusIntervalMs`. */
  settledPeerStatusRounds: 5,
  renewalCheckIntervalMs: 24 * 3_600_000,
  /** From the start of a protected container to its first committed epoch. */
  protectTimeoutMs: 120_000,
  protectStandbySilentMs: 10_000,
  failedStepPauseMs: 500,
} as const;
