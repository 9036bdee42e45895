/** HTTP over the agent's unix socket, with bounded answers and errors that say what to do. */
import { type ClientRequest, type IncomingMessage, request } from "node:http";
import { asFtError, FtError, type FtErrorJson } from "../errors/error.js";

export interface Call {
  method: "GET" | "POST";
  path: string;
  body?: unknown;
  signal?: AbortSignal | undefined;
}

const ANSWER_BYTES_MAX = 64 * 2 ** 20;
const LINE_BYTES_MAX = 4 * 2 ** 20;

export async function callJson<T>(socketPath: string, call: Call): Promise<T> {
  const text = await callText(socketPath, call);
  try {
    return JSON.parse(text) as T;
  } catch (cause) {
    throw strange(socketPath, "its answer is not JSON", cause);
  }
}

export async function callText(socketPath: string, call: Call): Promise<string> {
  const response = await open(socketPath, call);
  return readAll(response, socketPath, call);
}

/** JSON lines as they come. Ends when the agent ends the answer; throws when the connection breaks. */
export async function* callLines<T>(socketPath: string, call: Call): AsyncGenerator<T> {
  const response = await open(socketPath, call);
  response.setEncoding("utf8");
  let rest = "";
  try {
    for await (const chunk of response as AsyncIterable<string>) {
      const lines = (rest + chunk).split("\n");
      rest = lines.pop() as string;
      if (rest.length > LINE_BYTES_MAX) throw strange(socketPath, "it sent a line without end");
      for (const line of lines) yield parseLine<T>(line, socketPath);
    }
  } catch (error) {
    throw broken(error, socketPath, call);
  } finally {
    response.destroy();
  }
  if (rest !== "") throw lost(socketPath);
}

function parseLine<T>(line: string, socketPath: string): T {
  try {
    return JSON.parse(line) as T;
  } catch (cause) {
    throw strange(socketPath, "it sent a line that is not JSON", cause);
  }
}

/** Resolves with a response of status 200; an error of the agent is thrown as it was there. */
async function open(socketPath: string, call: Call): Promise<IncomingMessage> {
  call.signal?.throwIfAborted();
  const response = await send(socketPath, call);
  if (response.statusCode === 200) return response;
  const text = await readAll(response, socketPath, call);
  throw errorFrom(text, response.statusCode ?? 0, socketPath);
}

function send(socketPath: string, call: Call): Promise<IncomingMessage> {
  const body = call.body === undefined ? undefined : JSON.stringify(call.body);
  return new Promise((resolve, reject) => {
    const sent: ClientRequest = request(
      {
        socketPath,
        method: call.method,
        path: call.path,
        agent: false,
        headers: {
          host: "agent",
          ...(body === undefined
            ? {}
            : { "content-type": "application/json", "content-length": Buffer.byteLength(body) }),
        },
        ...(call.signal === undefined ? {} : { signal: call.signal }),
      },
      resolve,
    );
    sent.once("error", (error) => reject(broken(error, socketPath, call)));
    sent.end(body);
  });
}

async function readAll(response: IncomingMessage, socketPath: string, call: Call): Promise<string> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  try {
    for await (const chunk of response as AsyncIterable<Buffer>) {
      bytes += chunk.length;
      if (bytes > ANSWER_BYTES_MAX) throw strange(socketPath, "its answer is too large");
      chunks.push(chunk);
    }
  } catch (error) {
    throw broken(error, socketPath, call);
  }
  return Buffer.concat(chunks).toString("utf8");
}

function errorFrom(text: string, status: number, socketPath: string): FtError {
  try {
    const json = JSON.parse(text) as FtErrorJson;
    if (typeof json.code === "string" && typeof json.message === "string") {
      return FtError.fromJSON(json);
    }
  } catch {
    // Falls through: an answer that is no error of ours.
  }
  return strange(socketPath, `it answered with HTTP status ${status}`);
}

function broken(error: unknown, socketPath: string, call: Call): unknown {
  if (error instanceof FtError) return error;
  // The reason of the caller's own signal, such as a time-out, is told by the caller.
  if (call.signal?.aborted) return call.signal.reason;
  const { code } = error as NodeJS.ErrnoException;
  if (code === "ECONNRESET" || code === "EPIPE") return lost(socketPath);
  if (code?.startsWith("HPE_")) return strange(socketPath, "it does not speak HTTP", error);
  if (code === undefined) return asFtError(error, `agent at ${socketPath}`);
  return unreachableAgent(socketPath, error as NodeJS.ErrnoException);
}

function unreachableAgent(socketPath: string, error: NodeJS.ErrnoException): FtError {
  const why: Record<string, [message: string, hint: string]> = {
    ENOENT: [
      "no agent runs on this host: its socket does not exist",
      "Start it with `systemctl start ftctl-agent` or `ftctl agent`, or give its socket with --socket.",
    ],
    ECONNREFUSED: [
      "no agent answers: its socket is left over from one that has ended",
      "Start it again: `systemctl restart ftctl-agent`. Its log: journalctl -u ftctl-agent.",
    ],
    EACCES: [
      "this user may not open the agent's socket",
      "Run ftctl as root, or as a member of the socket's group.",
    ],
  };
  const [message, hint] = why[error.code ?? ""] ?? [
    `the agent cannot be reached: ${error.message}`,
    "Is it running? `systemctl status ftctl-agent`",
  ];
  return new FtError({
    code: "AGENT_UNREACHABLE",
    subject: `agent at ${socketPath}`,
    message,
    hint,
    cause: error,
  });
}

export function lost(socketPath: string): FtError {
  return new FtError({
    code: "AGENT_LOST",
    subject: `agent at ${socketPath}`,
    message: "the agent went away before its answer was complete",
    hint: "What was asked may go on or be undone when the agent is back: see `ftctl events` and `ftctl ls`.",
  });
}

function strange(socketPath: string, what: string, cause?: unknown): FtError {
  return new FtError({
    code: "AGENT_ANSWER_INVALID",
    subject: `agent at ${socketPath}`,
    message: `this is not an agent, or one of another version: ${what}`,
    hint: "Compare `ftctl version` with the agent's log.",
    cause,
  });
}
