/**
 * The local API: HTTP over a unix socket. Who may open the socket may do everything, so the file's owner
 * and mode are the access control; there is no other.
 *
 * Invariants:
 *   - At most one agent listens on a path: a socket that answers is never taken away from its owner.
 *   - The socket file never exists with a mode wider than `mode`.
 */
import { chmod, chown, lstat, mkdir, unlink } from "node:fs/promises";
import { createServer, type Server } from "node:http";
import { connect } from "node:net";
import { dirname } from "node:path";
import { ExitCode, FtError } from "../errors/error.js";
import { limits } from "../limits.js";
import { sendError } from "./api-server-http.js";
import { route } from "./api-server-routes.js";
import type { AgentService } from "./api-types.js";

export interface ApiServerOptions {
  /** `<run dir>/agent.sock` */
  socketPath: string;
  service: AgentService;
  /** Group that may use the socket; default: the agent's own. */
  gid?: number | undefined;
  mode?: number | undefined;
  /** Told of errors that are bugs (answered with 500 INTERNAL). */
  onError?: ((error: unknown) => void) | undefined;
}

export interface ApiServer {
  /** Stops listening, ends followers, removes the socket. */
  close(): Promise<void>;
}

const HEADERS_BYTES_MAX = 16 * 1024;
const HEADERS_TIMEOUT_MS = 5_000;
const REQUEST_TIMEOUT_MS = 30_000;
const PROBE_TIMEOUT_MS = 1_000;
/** The longest path that fits `sockaddr_un`. */
const SOCKET_PATH_BYTES_MAX = 107;

export async function startApiServer(options: ApiServerOptions): Promise<ApiServer> {
  const { socketPath } = options;
  refuseLongPath(socketPath);
  await mkdir(dirname(socketPath), { recursive: true, mode: 0o750 });
  await removeStaleSocket(socketPath);
  const server = makeServer(options);
  await listen(server, socketPath);
  await chmod(socketPath, options.mode ?? 0o660);
  if (options.gid !== undefined) await chown(socketPath, process.getuid?.() ?? 0, options.gid);
  return { close: () => closeServer(server) };
}

function makeServer({ service, onError }: ApiServerOptions): Server {
  const server = createServer(
    {
      maxHeaderSize: HEADERS_BYTES_MAX,
      headersTimeout: HEADERS_TIMEOUT_MS,
      requestTimeout: REQUEST_TIMEOUT_MS,
      connectionsCheckingInterval: 1_000,
    },
    (request, response) => {
      response.on("error", () => response.destroy());
      route(request, response, service).catch((error: unknown) => {
        if (!(error instanceof FtError)) onError?.(error);
        sendError(response, error, `request ${request.method} ${request.url}`);
      });
    },
  );
  server.maxConnections = limits.localConnectionsMax;
  server.on("clientError", (_error, socket) => {
    if (socket.writable) socket.end("HTTP/1.1 400 Bad Request\r\nconnection: close\r\n\r\n");
    else socket.destroy();
  });
  return server;
}

async function listen(server: Server, socketPath: string): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    // bind() makes the file during this call, so the mask holds for it and for nothing else.
    const before = process.umask(0o177);
    try {
      server.listen(socketPath, () => {
        server.off("error", reject);
        resolve();
      });
    } finally {
      process.umask(before);
    }
  }).catch((error: NodeJS.ErrnoException) => {
    throw error.code === "EADDRINUSE"
      ? alreadyRunning(socketPath)
      : cannotListen(socketPath, error);
  });
}

/** Removes a socket that nobody answers on; leaves everything else alone and says so. */
async function removeStaleSocket(socketPath: string): Promise<void> {
  const info = await lstat(socketPath).catch((error: NodeJS.ErrnoException) => {
    if (error.code === "ENOENT") return undefined;
    throw cannotListen(socketPath, error);
  });
  if (info === undefined) return;
  if (!info.isSocket()) {
    throw cannotListen(socketPath, new Error("a file that is not a socket is in the way"));
  }
  if (await answers(socketPath)) throw alreadyRunning(socketPath);
  await unlink(socketPath);
}

function answers(socketPath: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(socketPath);
    const finish = (alive: boolean) => {
      socket.destroy();
      resolve(alive);
    };
    socket.setTimeout(PROBE_TIMEOUT_MS, () => finish(true));
    socket.once("connect", () => finish(true));
    socket.once("error", (error: NodeJS.ErrnoException) => finish(error.code !== "ECONNREFUSED"));
  });
}

function closeServer(server: Server): Promise<void> {
  return new Promise((resolve) => {
    server.close(() => resolve());
    server.closeAllConnections();
  });
}

function refuseLongPath(socketPath: string): void {
  if (Buffer.byteLength(socketPath) <= SOCKET_PATH_BYTES_MAX) return;
  throw cannotListen(
    socketPath,
    new Error(`the path is longer than ${SOCKET_PATH_BYTES_MAX} bytes, the most a socket can have`),
  );
}

function alreadyRunning(socketPath: string): FtError {
  return new FtError({
    code: "AGENT_ALREADY_RUNNING",
    subject: `socket ${socketPath}`,
    message: "another agent answers on this socket",
    hint: "Only one agent runs on a host: systemctl status ftctl-agent.",
    exitCode: ExitCode.refused,
  });
}

function cannotListen(socketPath: string, cause: Error): FtError {
  return new FtError({
    code: "AGENT_SOCKET_UNUSABLE",
    subject: `socket ${socketPath}`,
    message: `the local API cannot listen here: ${cause.message}`,
    cause,
  });
}
