/** Typed client of the local API. One method a route; every call ends with its signal at the latest. */
import { FtError } from "../errors/error.js";
import { callJson, callLines, callText, lost } from "./api-client-http.js";
import type {
  AgentInfo,
  CheckRequest,
  CheckResult,
  FtEvent,
  PairRequest,
  PairView,
  Progress,
  ProtectRequest,
  StreamLine,
} from "./api-types.js";

export interface OperationOptions {
  signal?: AbortSignal | undefined;
  onProgress?: ((progress: Progress) => void) | undefined;
}

export interface EventsQuery {
  follow: boolean;
  after?: number | undefined;
  pair?: string | undefined;
  signal?: AbortSignal | undefined;
}

export class AgentClient {
  constructor(readonly socketPath: string) {}

  info(signal?: AbortSignal): Promise<AgentInfo> {
    return this.get("/v1/info", signal);
  }

  check(request: CheckRequest, signal?: AbortSignal): Promise<CheckResult[]> {
    return callJson(this.socketPath, { method: "POST", path: "/v1/check", body: request, signal });
  }

  list(signal?: AbortSignal): Promise<PairView[]> {
    return this.get("/v1/pairs", signal);
  }

  find(ref: string, signal?: AbortSignal): Promise<PairView> {
    return this.get(pairPath(ref), signal);
  }

  inspect(ref: string, signal?: AbortSignal): Promise<Record<string, unknown>> {
    return this.get(`${pairPath(ref)}/inspect`, signal);
  }

  logs(ref: string, lines: number, signal?: AbortSignal): Promise<string[]> {
    return this.get(`${pairPath(ref)}/logs?lines=${lines}`, signal);
  }

  metrics(signal?: AbortSignal): Promise<string> {
    return callText(this.socketPath, { method: "GET", path: "/metrics", signal });
  }

  protect(request: ProtectRequest, options: OperationOptions = {}): Promise<PairView> {
    return this.operation("/v1/protect", request, options);
  }

  unprotect(request: PairRequest, options: OperationOptions = {}): Promise<{ name: string }> {
    return this.operation("/v1/unprotect", request, options);
  }

  switchover(request: PairRequest, options: OperationOptions = {}): Promise<PairView> {
    return this.operation("/v1/switchover", request, options);
  }

  failover(request: PairRequest, options: OperationOptions = {}): Promise<PairView> {
    return this.operation("/v1/failover", request, options);
  }

  /** Without `follow`, what is kept; with it, what is kept and then what happens, until the signal. */
  events(query: EventsQuery): AsyncGenerator<FtEvent> {
    const search = new URLSearchParams();
    if (query.follow) search.set("follow", "1");
    if (query.after !== undefined) search.set("after", String(query.after));
    if (query.pair !== undefined) search.set("pair", query.pair);
    const { signal } = query;
    return callLines(this.socketPath, { method: "GET", path: `/v1/events?${search}`, signal });
  }

  private get<T>(path: string, signal: AbortSignal | undefined): Promise<T> {
    return callJson(this.socketPath, { method: "GET", path, signal });
  }

  private async operation<T>(
    path: string,
    body: unknown,
    { signal, onProgress }: OperationOptions,
  ): Promise<T> {
    const call = { method: "POST", path, body, signal } as const;
    for await (const line of callLines<StreamLine<T>>(this.socketPath, call)) {
      if (line.kind === "progress") onProgress?.(line.progress);
      else if (line.kind === "error") throw FtError.fromJSON(line.error);
      else return line.result;
    }
    throw lost(this.socketPath);
  }
}

function pairPath(ref: string): string {
  return `/v1/pairs/${encodeURIComponent(ref)}`;
}
