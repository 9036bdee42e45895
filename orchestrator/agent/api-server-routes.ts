/**
 * The routes of the local API.
 *
 *   GET  /v1/info                       AgentInfo
 *   POST /v1/check                      CheckRequest → CheckResult[]
 *   GET  /v1/pairs                      PairView[]
 *   GET  /v1/pairs/<ref>                PairView
 *   GET  /v1/pairs/<ref>/inspect        everything known
 *   GET  /v1/pairs/<ref>/logs?lines=N   string[]
 *   POST /v1/protect                    ProtectRequest → JSON lines (StreamLine<PairView>)
 *   POST /v1/{unprotect,switchover,failover}   PairRequest → JSON lines
 *   GET  /v1/events?follow=1&after=SEQ&pair=REF    JSON lines (FtEvent)
 *   GET  /metrics                       Prometheus text
 *
 * An operation goes on when its client leaves: half a protect is worse than one that nobody watches.
 * Following events ends with its client.
 */
import type { IncomingMessage, ServerResponse } from "node:http";
import { setImmediate } from "node:timers/promises";
import { z } from "zod";
import { parsePolicyValue } from "../../policies/load.js";
import { asFtError, ExitCode, FtError } from "../errors/error.js";
import { LineWriter, readBody, requestInvalid, sendJson, sendText } from "./api-server-http.js";
import type { AgentService, Progress, StreamLine } from "./api-types.js";

const REF = /^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}$/;
const LOG_LINES_MAX = 10_000;
const LOG_LINES_DEFAULT = 200;

const ref = z.string().regex(REF, "expected the name or id of a container or pair");
const checkFields = { container: ref, standby: ref.optional(), policy: z.unknown().optional() };
const checkBody = z.strictObject(checkFields);
const protectBody = z.strictObject({ ...checkFields, policyName: ref.optional() });
const pairBody = z.strictObject({ pair: ref, force: z.boolean().optional() });

interface Exchange {
  request: IncomingMessage;
  response: ServerResponse;
  url: URL;
  service: AgentService;
}
type Handler = (exchange: Exchange, reference: string) => Promise<void>;
interface Route {
  method: "GET" | "POST";
  path: RegExp;
  handle: Handler;
}

const ROUTES: readonly Route[] = [
  get(/^\/v1\/info$/, async ({ service }) => service.info()),
  get(/^\/v1\/pairs$/, async ({ service }) => service.list()),
  get(/^\/v1\/pairs\/([^/]+)$/, async ({ service }, pair) => service.find(pair)),
  get(/^\/v1\/pairs\/([^/]+)\/inspect$/, async ({ service }, pair) => service.inspect(pair)),
  get(/^\/v1\/pairs\/([^/]+)\/logs$/, async ({ service, url }, pair) =>
    service.logs(pair, integer(url, "lines", LOG_LINES_DEFAULT, 1, LOG_LINES_MAX)),
  ),
  { method: "POST", path: /^\/v1\/check$/, handle: check },
  { method: "POST", path: /^\/v1\/protect$/, handle: protect },
  pairOperation("unprotect"),
  pairOperation("switchover"),
  pairOperation("failover"),
  { method: "GET", path: /^\/v1\/events$/, handle: events },
  {
    method: "GET",
    path: /^\/metrics$/,
    handle: async ({ service, response }) =>
      sendText(response, "text/plain; version=0.0.4; charset=utf-8", await service.metrics()),
  },
];

/** Finds and runs the route; what it throws is for the caller to send. */
export async function route(
  request: IncomingMessage,
  response: ServerResponse,
  service: AgentService,
): Promise<void> {
  const url = parseUrl(request.url);
  const matching = ROUTES.filter(({ path }) => path.test(url.pathname));
  const chosen = matching.find(({ method }) => method === request.method);
  if (chosen === undefined) throw noRoute(request, matching.length > 0);
  const reference = decode(chosen.path.exec(url.pathname)?.[1] ?? "", url);
  await chosen.handle({ request, response, url, service }, reference);
}

function get(path: RegExp, answer: (exchange: Exchange, pair: string) => Promise<unknown>): Route {
  return {
    method: "GET",
    path,
    handle: async (exchange, pair) => sendJson(exchange.response, await answer(exchange, pair)),
  };
}

async function check({ request, response, service }: Exchange): Promise<void> {
  const body = await readBody(request, checkBody);
  validatePolicy(body.policy);
  sendJson(response, await service.check(body));
}

async function protect({ request, response, service }: Exchange): Promise<void> {
  const body = await readBody(request, protectBody);
  validatePolicy(body.policy);
  await stream(response, `container ${body.container}`, (progress) =>
    service.protect(body, progress),
  );
}

function pairOperation(verb: "unprotect" | "switchover" | "failover"): Route {
  return {
    method: "POST",
    path: new RegExp(`^/v1/${verb}$`),
    handle: async ({ request, response, service }) => {
      const body = await readBody(request, pairBody);
      await stream<unknown>(response, `pair ${body.pair}`, (progress) =>
        service[verb](body, progress),
      );
    },
  };
}

/** A policy that is malformed is refused before anything starts. */
function validatePolicy(policy: unknown): void {
  if (policy !== undefined && policy !== null) parsePolicyValue(policy, "in the request");
}

/** Any number of progress lines, then exactly one result or error. */
async function stream<T>(
  response: ServerResponse,
  subject: string,
  run: (progress: (progress: Progress) => void) => Promise<T>,
): Promise<void> {
  const lines = new LineWriter(response);
  let last: StreamLine<T>;
  try {
    const result = await run((progress) => lines.offer({ kind: "progress", progress }));
    last = { kind: "result", result };
  } catch (thrown) {
    last = { kind: "error", error: asFtError(thrown, subject).toJSON() };
  }
  // A client that has left cannot be told; the operation's events tell the rest of the world.
  await lines.write(last).catch(() => {});
  lines.end();
}

async function events({ response, url, service }: Exchange): Promise<void> {
  const pair = url.searchParams.get("pair") ?? undefined;
  if (pair !== undefined && !REF.test(pair)) throw requestInvalid(url.pathname, "pair: no name");
  const after = integer(url, "after", 0, 0, Number.MAX_SAFE_INTEGER);
  if (url.searchParams.get("follow") !== "1") {
    const kept = service.eventsKept(pair).filter(({ seq }) => seq > after);
    const lines = new LineWriter(response);
    for (const event of kept) await lines.write(event);
    return lines.end();
  }
  const gone = new AbortController();
  response.once("close", () => gone.abort());
  const source = service.events(after, pair, gone.signal)[Symbol.asyncIterator]();
  let next = source.next();
  // A refusal (too many readers) comes at once: it still gets a status of its own.
  await Promise.race([next, setImmediate()]);
  const lines = new LineWriter(response);
  try {
    for (let item = await next; !item.done; item = await next) {
      await lines.write(item.value);
      next = source.next();
    }
  } catch (error) {
    if (!gone.signal.aborted) throw error;
  } finally {
    gone.abort();
    lines.end();
  }
}

function integer(url: URL, name: string, fallback: number, min: number, max: number): number {
  const text = url.searchParams.get(name);
  if (text === null) return fallback;
  const value = Number(text);
  if (/^\d{1,16}$/.test(text) && value >= min && value <= max) return value;
  throw requestInvalid(url.pathname, `${name}: expected a number from ${min} to ${max}`);
}

function parseUrl(text: string | undefined): URL {
  try {
    if (text?.startsWith("/")) return new URL(`http://agent${text}`);
  } catch {
    // Falls through: told below like any other bad target.
  }
  throw requestInvalid("request", "the target is no path");
}

function decode(text: string, url: URL): string {
  try {
    const decoded = decodeURIComponent(text);
    if (decoded === "" || REF.test(decoded)) return decoded;
  } catch {
    // Falls through: told below like any other bad name.
  }
  throw requestInvalid(url.pathname.slice(0, 200), "expected the name or id of a pair");
}

function noRoute(request: IncomingMessage, otherMethod: boolean): FtError {
  const subject = `request ${request.method} ${(request.url ?? "").slice(0, 200)}`;
  return otherMethod
    ? new FtError({
        code: "METHOD_NOT_ALLOWED",
        subject,
        message: "this path exists, but not for this method",
        exitCode: ExitCode.usage,
      })
    : new FtError({
        code: "ROUTE_UNKNOWN",
        subject,
        message: "there is no such path in this version of the local API",
        hint: "ftctl and its agent may be of different versions: see `ftctl version`.",
        exitCode: ExitCode.notFound,
      });
}
