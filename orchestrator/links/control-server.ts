/**
 * The control port: serves the registry's methods to the peers. Connections are accepted by our own TLS
 * listener (1.3 only, known hosts only) and handed to the gRPC server, so no call of a stranger is parsed.
 */
import { PassThrough } from "node:stream";
import { pipeline } from "node:stream/promises";
import type { TLSSocket } from "node:tls";
import {
  Server,
  ServerCredentials,
  type ServerReadableStream,
  type ServerUnaryCall,
  type sendUnaryData,
  status,
} from "@grpc/grpc-js";
import type { Logger } from "pino";
import { asFtError, FtError, invariant } from "../errors/error.js";
import { limits } from "../limits.js";
import {
  CONTROL_PROTOCOL,
  decodeMessage,
  encodeReply,
  rpc,
  type Speaker,
  speakerMetadata,
  speakerOf,
  uploadName,
  validate,
} from "./control-wire.js";
import type { Identity } from "./identity.js";
import {
  type CallContext,
  type Handlers,
  helloReplySchema,
  helloRequestSchema,
  type MethodSpec,
  type Methods,
  type UploadHandlers,
  type UploadSpec,
  type Uploads,
} from "./methods.js";
import type { Peer, PeerBook } from "./peers.js";
import { listenForPeers, type TlsListener } from "./tls-listener.js";

export interface ControlServerOptions<M extends Methods, U extends Uploads> {
  identity: Identity;
  peers: PeerBook;
  /** How others reach this host: told in `hello`, so that all hosts get to know each other. */
  self: Peer;
  address: string;
  port: number;
  version: string;
  protocol?: number;
  methods: M;
  handlers: Handlers<M>;
  uploads: U;
  uploadHandlers: UploadHandlers<U>;
  log: Logger;
}

type AnyCall = ServerUnaryCall<Buffer, Buffer> | ServerReadableStream<Buffer, Buffer>;
type Handler = (request: unknown, context: CallContext) => Promise<unknown>;

export class ControlServer {
  static async start<M extends Methods, U extends Uploads>(
    options: ControlServerOptions<M, U>,
  ): Promise<ControlServer> {
    const server = new ControlServer(options as unknown as ControlServerOptions<Methods, Uploads>);
    await server.#listen();
    return server;
  }

  readonly #options: ControlServerOptions<Methods, Uploads>;
  readonly #speaker: Speaker;
  readonly #grpc: Server;
  #listener: TlsListener | undefined;

  private constructor(options: ControlServerOptions<Methods, Uploads>) {
    this.#options = options;
    this.#speaker = { version: options.version, protocol: options.protocol ?? CONTROL_PROTOCOL };
    this.#grpc = new Server({
      "grpc.max_receive_message_length": limits.controlMessageBytesMax,
      "grpc.max_send_message_length": limits.controlMessageBytesMax + 1_024,
      "grpc.max_concurrent_streams": 64,
      "grpc.enable_channelz": 0,
    });
    this.#register();
  }

  get port(): number {
    invariant(this.#listener !== undefined, "a started server listens");
    return this.#listener.port;
  }

  async stop(): Promise<void> {
    await this.#listener?.close();
    this.#grpc.forceShutdown();
  }

  async #listen(): Promise<void> {
    const { identity, peers, address, port, log } = this.#options;
    const injector = this.#grpc.createConnectionInjector(ServerCredentials.createInsecure());
    const onPeer = (socket: TLSSocket) => {
      if (socket.alpnProtocol !== "h2") return void socket.destroy();
      injector.injectConnection(socket);
    };
    this.#listener = await listenForPeers({
      identity,
      peers,
      address,
      port,
      alpn: "h2",
      log,
      onPeer,
    });
  }

  #register(): void {
    const { methods, handlers, uploads, uploadHandlers } = this.#options;
    const hello: MethodSpec = {
      request: helloRequestSchema,
      reply: helloReplySchema,
      timeoutMs: limits.controlCallTimeoutMs,
    };
    this.#addMethod("hello", hello, () => this.#hello());
    for (const [name, spec] of Object.entries(methods)) {
      this.#addMethod(name, spec, handlers[name] as Handler);
    }
    for (const [name, spec] of Object.entries(uploads)) {
      this.#addUpload(name, spec, uploadHandlers[name] as UploadHandlers<Uploads>[string]);
    }
  }

  async #hello() {
    const { identity, peers, self } = this.#options;
    return { host: identity.host, ...this.#speaker, peers: [self, ...peers.list()] };
  }

  #addMethod(name: string, spec: MethodSpec, handler: Handler): void {
    const handle = (call: ServerUnaryCall<Buffer, Buffer>, callback: sendUnaryData<Buffer>) =>
      this.#answer(name, call, callback, async (context) => {
        const request = decodeMessage(call.request, spec.request, `request ${name}`);
        return validate(await handler(request, context), spec.reply, `reply to ${name}`);
      });
    const { path } = rpc(name, false);
    const added = this.#grpc.register(path, handle, passBytes, passBytes, "unary");
    invariant(added, `method ${name} is defined once`);
  }

  #addUpload(name: string, spec: UploadSpec, handler: UploadHandlers<Uploads>[string]): void {
    const handle = (call: ServerReadableStream<Buffer, Buffer>, callback: sendUnaryData<Buffer>) =>
      this.#answer(name, call, callback, async (context) => {
        const reply = await receiveUpload(name, spec, call, handler, context);
        return validate(reply, spec.reply, `reply to ${name}`);
      });
    const { path } = rpc(uploadName(name), true);
    const added = this.#grpc.register(path, handle, passBytes, passBytes, "clientStream");
    invariant(added, `upload ${name} is defined once`);
  }

  /** Checks who speaks, runs the work, and turns whatever comes of it into one reply. */
  #answer(
    name: string,
    call: AnyCall,
    callback: sendUnaryData<Buffer>,
    work: (context: CallContext) => Promise<unknown>,
  ): void {
    const peer = peerOf(call);
    const theirs = speakerOf(call.metadata);
    call.sendMetadata(speakerMetadata(this.#speaker));
    if (theirs?.protocol !== this.#speaker.protocol) {
      this.#options.log.warn({ peer, theirs, ours: this.#speaker }, "peer speaks another protocol");
      const trailer = speakerMetadata(this.#speaker);
      callback({
        code: status.FAILED_PRECONDITION,
        details: "VERSION_MISMATCH",
        metadata: trailer,
      });
      return;
    }
    const abort = new AbortController();
    call.on("cancelled", () => abort.abort(new Error("the caller went away")));
    work({ peer, signal: abort.signal })
      .then((ok) => encodeReply({ ok: ok ?? null }, name))
      .catch((thrown: unknown) => {
        const error = asFtError(thrown, `method ${name}`);
        this.#options.log.info({ peer, method: name, err: error }, "a peer's call failed");
        return encodeReply({ error: error.toJSON() }, name);
      })
      .then(
        (bytes) => callback(null, bytes),
        (error: Error) => callback({ code: status.INTERNAL, details: error.message }),
      );
  }
}

const passBytes = (bytes: Buffer): Buffer => bytes;

function peerOf(call: AnyCall): string {
  const host = call.getAuthContext()?.sslPeerCertificate?.subject?.CN;
  invariant(typeof host === "string", "the listener admits only hosts with a certificate");
  return host;
}

/**
 * The first message is the header, the others are the body, an empty one is its end; the handler sees the
 * body as one Readable.
 */
async function receiveUpload(
  name: string,
  spec: UploadSpec,
  call: ServerReadableStream<Buffer, Buffer>,
  handler: UploadHandlers<Uploads>[string],
  context: CallContext,
): Promise<unknown> {
  const messages = call[Symbol.asyncIterator]() as AsyncIterator<Buffer>;
  const first = await messages.next();
  if (first.done) throw emptyUpload(name);
  const header = decodeMessage(first.value, spec.header, `header of ${name}`);
  const body = new PassThrough({ highWaterMark: 2 * limits.imageChunkBytes });
  const copied = pipeline(bounded(name, spec.bytesMax, messages, context.signal), body);
  const handled = handler(header, body, context);
  try {
    const [reply] = await Promise.all([handled, copied]);
    return reply;
  } catch (error) {
    body.destroy(error as Error);
    await Promise.allSettled([handled, copied]);
    throw error;
  }
}

async function* bounded(
  name: string,
  bytesMax: number,
  messages: AsyncIterator<Buffer>,
  signal: AbortSignal,
): AsyncGenerator<Buffer> {
  let bytes = 0;
  const cancelled = new Promise<never>((_resolve, reject) => {
    signal.addEventListener("abort", () => reject(signal.reason), { once: true });
  });
  cancelled.catch(() => {});
  for (;;) {
    const next = await Promise.race([messages.next(), cancelled]);
    signal.throwIfAborted();
    // A cancelled call can end its stream just like a finished one: only the empty message means whole.
    if (next.done) throw brokenOff(name);
    if (next.value.length === 0) return;
    bytes += next.value.length;
    if (bytes > bytesMax) throw tooLarge(name, bytesMax);
    yield next.value;
  }
}

function emptyUpload(name: string): FtError {
  return new FtError({
    code: "BAD_MESSAGE",
    subject: `upload ${name}`,
    message: "the upload ended before its header",
  });
}

function brokenOff(name: string): FtError {
  return new FtError({
    code: "UPLOAD_INCOMPLETE",
    subject: `upload ${name}`,
    message: "the upload broke off before its end",
  });
}

function tooLarge(name: string, bytesMax: number): FtError {
  return new FtError({
    code: "MESSAGE_TOO_LARGE",
    subject: `upload ${name}`,
    message: `the upload is larger than ${bytesMax} bytes`,
  });
}
