/**
 * Calls to one peer. Keeps one connection open, notices within about a second when the peer is silent
 * (HTTP/2 pings), reconnects with bounded back-off, and tells its owner when the state changes.
 *
 * Calls are never repeated by themselves: a call whose answer was lost may have been carried out.
 */
import type { Readable } from "node:stream";
import {
  Client,
  type ClientWritableStream,
  connectivityState,
  credentials,
  type ServiceError,
  status,
} from "@grpc/grpc-js";
import type { Logger } from "pino";
import type { z } from "zod";
import { FtError } from "../errors/error.js";
import { limits } from "../limits.js";
import {
  CONTROL_PROTOCOL,
  decodeReply,
  encodeMessage,
  rpc,
  type Speaker,
  speakerMetadata,
  speakerOf,
  uploadName,
  validate,
  versionMismatch,
} from "./control-wire.js";
import { type Identity, secureContextOf } from "./identity.js";
import { type HelloReply, helloReplySchema, type Methods, type Uploads } from "./methods.js";
import type { Peer } from "./peers.js";
import { foreignName, peerUnreachable } from "./tls-listener.js";

export type PeerConnection =
  | { state: "connecting" }
  | { state: "connected"; version: string; protocol: number }
  | { state: "unreachable"; error: FtError };

export interface ControlClientOptions<M extends Methods, U extends Uploads> {
  identity: Identity;
  peer: Peer;
  version: string;
  protocol?: number;
  methods: M;
  uploads: U;
  log: Logger;
  /** After each change; not before the constructor has returned. */
  onState?: (connection: PeerConnection) => void;
  /** The peer's first answer on a new connection: who it is and whom it knows. */
  onHello?: (reply: HelloReply) => void;
}

interface CallOptions {
  timeoutMs?: number;
  signal?: AbortSignal;
}

export class ControlClient<M extends Methods, U extends Uploads> {
  readonly peer: Peer;
  readonly #options: ControlClientOptions<M, U>;
  readonly #speaker: Speaker;
  #client: Client;
  #connection: PeerConnection = { state: "connecting" };
  #closed = false;
  #refused: FtError | undefined;

  constructor(options: ControlClientOptions<M, U>) {
    this.peer = options.peer;
    this.#options = options;
    this.#speaker = { version: options.version, protocol: options.protocol ?? CONTROL_PROTOCOL };
    this.#client = this.#open();
  }

  get connection(): PeerConnection {
    return this.#connection;
  }

  async call<K extends keyof M & string>(
    name: K,
    request: z.input<M[K]["request"]>,
    options: CallOptions = {},
  ): Promise<z.output<M[K]["reply"]>> {
    const spec = this.#options.methods[name]!;
    const subject = `${name} on host ${this.peer.host}`;
    validate(request, spec.request, subject);
    const bytes = encodeMessage(request, subject);
    const reply = await this.#unary(
      name,
      bytes,
      options.timeoutMs ?? spec.timeoutMs,
      options.signal,
    );
    return decodeReply(reply, spec.reply, subject) as z.output<M[K]["reply"]>;
  }

  /** Sends a header and then all of `body`; if `body` fails, the call is cancelled and its error thrown. */
  async upload<K extends keyof U & string>(
    name: K,
    header: z.input<U[K]["header"]>,
    body: Readable,
    options: CallOptions = {},
  ): Promise<z.output<U[K]["reply"]>> {
    const spec = this.#options.uploads[name]!;
    const subject = `${name} to host ${this.peer.host}`;
    validate(header, spec.header, subject);
    const timeoutMs = options.timeoutMs ?? spec.timeoutMs;
    const { promise, resolve, reject } = withResolvers<Buffer>();
    const { path, requestSerialize, responseDeserialize } = rpc(uploadName(name), true);
    const call = this.#client.makeClientStreamRequest(
      path,
      requestSerialize,
      responseDeserialize,
      speakerMetadata(this.#speaker),
      { deadline: Date.now() + timeoutMs },
      (error, reply) => (error ? reject(this.#failure(error, name)) : resolve(reply as Buffer)),
    );
    const stop = cancelOn(options.signal, call);
    // The answer may come before all is written, when the peer refuses or is lost.
    const ended = new AbortController();
    const answered = () => {
      ended.abort();
      body.destroy();
    };
    promise.then(answered, answered);
    try {
      await writeAll(call, encodeMessage(header, subject), body, ended.signal);
    } catch (error) {
      if (!ended.signal.aborted) {
        call.cancel();
        body.destroy();
        throw error;
      }
    }
    const reply = await promise.finally(stop);
    return decodeReply(reply, spec.reply, subject) as z.output<U[K]["reply"]>;
  }

  close(): void {
    this.#closed = true;
    this.#client.close();
  }

  #unary(name: string, bytes: Buffer, timeoutMs: number, signal?: AbortSignal): Promise<Buffer> {
    return new Promise((resolve, reject) => {
      const { path, requestSerialize, responseDeserialize } = rpc(name, false);
      const call = this.#client.makeUnaryRequest(
        path,
        requestSerialize,
        responseDeserialize,
        bytes,
        speakerMetadata(this.#speaker),
        { deadline: Date.now() + timeoutMs },
        (error, reply) => {
          stop();
          if (error) reject(this.#failure(error, name));
          else resolve(reply as Buffer);
        },
      );
      const stop = cancelOn(signal, call);
    });
  }

  #open(): Client {
    const { peer, identity } = this.#options;
    const ssl = credentials.createFromSecureContext(secureContextOf(identity), {
      checkServerIdentity: (_name, certificate) => {
        const wrong = foreignName(peer.host, certificate.subject?.CN);
        this.#refused = wrong as FtError | undefined;
        return wrong;
      },
    });
    const client = new Client(target(peer), ssl, channelOptions(peer));
    queueMicrotask(() => this.#watch(client));
    return client;
  }

  /** Follows one channel: asks it to connect whenever it is idle, replaces it when it hangs. */
  #watch(client: Client): void {
    let hanging: NodeJS.Timeout | undefined;
    const channel = client.getChannel();
    const step = () => {
      clearTimeout(hanging);
      if (this.#closed || client !== this.#client) return;
      const now = channel.getConnectivityState(true);
      if (now === connectivityState.READY) void this.#hello();
      else {
        if (now === connectivityState.TRANSIENT_FAILURE || this.#connection.state === "connected") {
          this.#lost("the connection failed");
        }
        // gRPC sets no bound to a connection attempt, and TCP repeats its first packet ever more rarely.
        hanging = setTimeout(() => this.#reopen(client), limits.controlConnectTimeoutMs);
        hanging.unref();
      }
      channel.watchConnectivityState(now, Number.POSITIVE_INFINITY, (error) => {
        if (error === undefined) step();
      });
    };
    step();
  }

  #reopen(hung: Client): void {
    if (this.#closed || hung !== this.#client) return;
    this.#lost(`no connection in ${limits.controlConnectTimeoutMs} ms`);
    this.#client = this.#open();
    hung.close();
  }

  #lost(why: string): void {
    this.#change({ state: "unreachable", error: this.#unreachable(why) });
  }

  async #hello(): Promise<void> {
    const request = encodeMessage({ host: this.#options.identity.host }, "hello");
    try {
      const bytes = await this.#unary("hello", request, limits.controlCallTimeoutMs);
      const reply = decodeReply(bytes, helloReplySchema, `hello to host ${this.peer.host}`);
      this.#change({ state: "connected", version: reply.version, protocol: reply.protocol });
      this.#options.onHello?.(reply);
    } catch (error) {
      const known = error instanceof FtError ? error : this.#unreachable((error as Error).message);
      this.#change({ state: "unreachable", error: known });
    }
  }

  #change(connection: PeerConnection): void {
    if (this.#closed) return;
    const before = this.#connection;
    this.#connection = connection;
    if (before.state === connection.state) return;
    this.#options.log.info({ peer: this.peer.host, ...connection }, `peer ${connection.state}`);
    this.#options.onState?.(connection);
  }

  #failure(error: ServiceError, name: string): FtError {
    const subject = `${name} on host ${this.peer.host}`;
    switch (error.code) {
      case status.DEADLINE_EXCEEDED:
        return new FtError({
          code: "PEER_TIME_OUT",
          subject,
          message: `no answer in time: ${error.details}`,
          hint: "It may have been carried out all the same; see `ftctl status` there.",
          exitCode: 124,
          cause: error,
        });
      case status.FAILED_PRECONDITION:
        return versionMismatch(this.peer.host, this.#speaker, speakerOf(error.metadata));
      case status.UNIMPLEMENTED:
        return new FtError({
          code: "METHOD_UNKNOWN",
          subject,
          message: "the peer does not know this method",
          hint: "Install the same version of ftctl on both hosts.",
          cause: error,
        });
      case status.RESOURCE_EXHAUSTED:
        return new FtError({
          code: "MESSAGE_TOO_LARGE",
          subject,
          message: error.details,
          cause: error,
        });
      case status.CANCELLED:
        return new FtError({
          code: "CANCELLED",
          subject,
          message: "the call was cancelled",
          cause: error,
        });
      default:
        return this.#unreachable(error.details, error);
    }
  }

  #unreachable(details: string, cause?: Error): FtError {
    if (this.#refused !== undefined) return this.#refused;
    const reason = new Error(details.replace(/^.*Last error: /, ""), { cause });
    return peerUnreachable(this.peer, this.peer.controlPort, reason);
  }
}

function target(peer: Peer): string {
  const host = peer.address.includes(":") ? `[${peer.address}]` : peer.address;
  return `${peer.address.includes(":") ? "ipv6" : "ipv4"}:${host}:${peer.controlPort}`;
}

function channelOptions(peer: Peer) {
  return {
    "grpc.ssl_target_name_override": peer.host,
    "grpc.default_authority": peer.host,
    "grpc.keepalive_time_ms": limits.controlKeepaliveMs,
    "grpc.keepalive_timeout_ms": limits.controlKeepaliveTimeoutMs,
    "grpc.keepalive_permit_without_calls": 1,
    "grpc.initial_reconnect_backoff_ms": limits.controlReconnectMsMin,
    "grpc.max_reconnect_backoff_ms": limits.controlReconnectMsMax,
    "grpc.client_idle_timeout_ms": 2 ** 31 - 1,
    "grpc.max_receive_message_length": limits.controlMessageBytesMax + 1_024,
    "grpc.max_send_message_length": limits.controlMessageBytesMax,
    "grpc.enable_retries": 0,
    "grpc.enable_http_proxy": 0,
    "grpc.use_local_subchannel_pool": 1,
    "grpc.enable_channelz": 0,
    "grpc.service_config_disable_resolution": 1,
  };
}

function cancelOn(signal: AbortSignal | undefined, call: { cancel(): void }): () => void {
  const cancel = () => call.cancel();
  if (signal?.aborted) cancel();
  signal?.addEventListener("abort", cancel, { once: true });
  return () => signal?.removeEventListener("abort", cancel);
}

async function writeAll(
  call: ClientWritableStream<Buffer>,
  header: Buffer,
  body: Readable,
  ended: AbortSignal,
): Promise<void> {
  await write(call, header, ended);
  for await (const chunk of body) {
    const bytes = Buffer.isBuffer(chunk) ? chunk : Buffer.from(chunk as string);
    for (let start = 0; start < bytes.length; start += limits.imageChunkBytes) {
      if (ended.aborted) return;
      await write(call, bytes.subarray(start, start + limits.imageChunkBytes), ended);
    }
  }
  await write(call, Buffer.alloc(0), ended);
  call.end();
}

/** Resolves when the message has been taken, or when the call has ended. */
function write(
  call: ClientWritableStream<Buffer>,
  bytes: Buffer,
  ended: AbortSignal,
): Promise<void> {
  return new Promise((resolve) => {
    const done = () => {
      ended.removeEventListener("abort", done);
      resolve();
    };
    ended.addEventListener("abort", done, { once: true });
    call.write(bytes, done);
  });
}

interface Resolvers<T> {
  promise: Promise<T>;
  resolve: (value: T) => void;
  reject: (error: Error) => void;
}

function withResolvers<T>(): Resolvers<T> {
  let resolve!: Resolvers<T>["resolve"];
  let reject!: Resolvers<T>["reject"];
  const promise = new Promise<T>((res, rej) => {
    resolve = res;
    reject = rej;
  });
  return { promise, resolve, reject };
}
