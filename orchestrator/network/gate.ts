/**
 * The agent's end of a gate: starts `ftgate` in a session of its own, so that it outlives the agent; finds one
 * that runs already; speaks its verbs. docs/ARCHITECTURE.md tells what the verbs mean for a frame.
 *
 * Invariant: one `Gate` holds one connection; when that ends the gate counts as gone, whether it died or hung.
 */

import { spawn } from "node:child_process";
import { EventEmitter } from "node:events";
import { closeSync, openSync, readFileSync } from "node:fs";
import { connect, type Socket } from "node:net";
import type { Clock } from "../clock.js";
import { FtError } from "../errors/error.js";
import { limits } from "../limits.js";
import {
  decodeLineValue,
  LineClient,
  type LineEvent,
  type LineFields,
  type LineValue,
} from "./line-client.js";

export type GateMode = "closed" | "hold" | "log" | "open" | "takeover";

export interface LogFiles {
  /** The event log. */
  log: string;
  /** Of a mirror: the frames around it. */
  frames: string;
}

export interface GateOptions {
  pair: string;
  /** Path of the program. */
  program: string;
  controlSocket: string;
  logFile: string;
  containerInterface: string;
  lanInterface: string;
  uplink: string;
  mac: string;
  mtu: number;
  keyFile: string;
  heartbeat: { local: string; peer: string; port: number; intervalMs: number; missLimit: number };
  leaseMs: number;
  heldBytesMax: number;
  queuedBytesMax: number;
  generation: number;
  /** Mode hybrid: TCP, between the addresses of the heartbeats. */
  ship?: { port: number; encrypted: boolean };
  clock: Clock;
}

export interface GateStats {
  mode: GateMode;
  generation: number;
  epoch: number;
  committed: number;
  heldFrames: number;
  heldBytes: number;
  heldOldestUs: number;
  leaseFresh: boolean;
  delayUs: HistogramUs;
  ship?: {
    role: "source" | "mirror";
    up: boolean;
    acked: number;
    end: number;
    logBytes: number;
    freeBytes: number | undefined;
    waits: number;
    delayUs: HistogramUs;
  };
}

export interface HistogramUs {
  count: number;
  avg: number;
  p50: number;
  p99: number;
  max: number;
}

interface GateEvents {
  event: [LineEvent];
  gone: [string];
}

export class Gate extends EventEmitter<GateEvents> {
  private constructor(
    private readonly line: LineClient,
    private readonly subject: string,
  ) {
    super();
    line.on("event", (event) => this.emit("event", event));
    line.on("close", (error) => this.emit("gone", error?.message ?? "closed"));
  }

  /** Takes up the gate that listens on the socket, or starts one. */
  static async open(
    options: GateOptions,
    initPid: number,
  ): Promise<{ gate: Gate; adopted: boolean }> {
    const running = await Gate.connect(options);
    if (running) return { gate: await running.reattach(initPid), adopted: true };
    const started = start(options, initPid);
    const deadlineMs = options.clock.nowMs() + limits.gateCommandTimeoutMs;
    for (;;) {
      // It listens before it has its interfaces: one that cannot get them closes the line, and its end tells why.
      const gate = await Gate.connect(options).catch((error: unknown) => {
        if (!(error instanceof FtError && error.code === "CONTROL_CLOSED")) throw error;
        return undefined;
      });
      if (gate) return { gate, adopted: false };
      const ended = started.ended();
      if (ended !== undefined) throw notStarted(options, ended);
      if (options.clock.nowMs() > deadlineMs) {
        throw notStarted(options, `it did not answer within ${limits.gateCommandTimeoutMs} ms`);
      }
      await options.clock.sleep(5);
    }
  }

  /** Undefined when nobody listens. */
  private static async connect(
    options: Pick<GateOptions, "pair" | "controlSocket">,
  ): Promise<Gate | undefined> {
    const socket = await dial(options.controlSocket);
    if (!socket) return undefined;
    const subject = `gate of pair ${options.pair}`;
    const line = new LineClient(socket, socket, {
      subject,
      timeoutMs: limits.gateCommandTimeoutMs,
    });
    const hello = await line.request("hello");
    if (hello.text("pair") !== options.pair) {
      line.close();
      throw new FtError({
        code: "GATE_NOT_STARTED",
        subject,
        message: `the gate at ${options.controlSocket} belongs to pair ${hello.text("pair")}`,
      });
    }
    if (hello.text("program") !== "ftgate" || hello.number("protocol") !== 1) {
      line.close();
      throw new FtError({
        code: "VERSION_MISMATCH",
        subject,
        message: "the running gate speaks another protocol",
        hint: "It is of another version of ftctl: unprotect the container and protect it again.",
      });
    }
    return new Gate(line, subject);
  }

  get gone(): boolean {
    return this.line.closed;
  }

  /** From now on events are emitted; the present state comes first, as if it had just become so. */
  async subscribe(): Promise<void> {
    await this.line.request("subscribe");
  }

  async mode(name: GateMode, generation: number, epoch?: number): Promise<void> {
    await this.line.request("mode", { name, generation, epoch });
  }

  async commit(epoch: number): Promise<{ frames: number; bytes: number; heldFrames: number }> {
    const reply = await this.line.request("commit", { epoch });
    return {
      frames: reply.number("released_frames"),
      bytes: reply.number("released_bytes"),
      heldFrames: reply.number("held_frames"),
    };
  }

  /** One end of the stream that the event log takes; docs/ship-format.md. */
  async log(role: "source" | "mirror" | "none", files: LogFiles): Promise<void> {
    const mirror = role === "mirror" ? { frames: files.frames } : {};
    await this.line.request("log", { role, path: files.log, ...mirror });
  }

  async trim(epoch: number): Promise<void> {
    await this.line.request("trim", { epoch });
  }

  async garp(ip: string, count: number): Promise<void> {
    await this.line.request("garp", { ip, count });
  }

  async attach(pid: number): Promise<void> {
    await this.line.request("attach", { pid });
  }

  /** The container may have been started anew since the gate was; does nothing when it was not. */
  private async reattach(initPid: number): Promise<Gate> {
    try {
      if (initPid > 0) await this.attach(initPid);
      return this;
    } catch (error) {
      this.line.close();
      throw error;
    }
  }

  async beat(fields: { app: string; lan: boolean; epoch: number }): Promise<void> {
    await this.line.request("beat", { agent: 1, ...fields } as Record<string, LineValue>);
  }

  /** File that counts the container's CPU time; goes into the heartbeats as progress. */
  async cpu(path: string): Promise<void> {
    await this.line.request("cpu", { path });
  }

  async stats(): Promise<GateStats> {
    return statsOf(await this.line.request("stats"));
  }

  /** Ends the gate and removes its interfaces. Afterwards its addresses are free for the next one. */
  async quit(): Promise<void> {
    this.removeAllListeners("gone");
    const ended = new Promise<void>((resolve) => this.line.once("close", () => resolve()));
    await this.line.request("quit");
    const impatience = setTimeout(() => this.line.close(), limits.gateCommandTimeoutMs);
    await ended;
    clearTimeout(impatience);
  }

  /** Ends a gate that nobody holds a connection to; false when none listens there. */
  static async quitAt(pair: string, controlSocket: string): Promise<boolean> {
    const gate = await Gate.connect({ pair, controlSocket });
    await gate?.quit();
    return gate !== undefined;
  }

  /** Lets go; the gate goes on by itself. */
  release(): void {
    this.removeAllListeners();
    this.line.close();
  }

  override toString(): string {
    return this.subject;
  }
}

function statsOf(reply: LineFields): GateStats {
  return {
    mode: reply.text("mode") as GateMode,
    generation: reply.number("generation"),
    epoch: reply.number("epoch"),
    committed: reply.number("committed"),
    heldFrames: reply.number("held_frames"),
    heldBytes: reply.number("held_bytes"),
    heldOldestUs: reply.number("held_oldest_us"),
    leaseFresh: reply.flag("lease_fresh"),
    delayUs: histogramOf(reply, "delay"),
    ...shipOf(reply),
  };
}

function histogramOf(reply: LineFields, name: string): HistogramUs {
  const of = (what: string) => reply.numberOr(`${name}_${what}`, 0);
  return {
    count: of("count"),
    avg: of("us_avg"),
    p50: of("us_p50"),
    p99: of("us_p99"),
    max: of("us_max"),
  };
}

function shipOf(reply: LineFields): Pick<GateStats, "ship"> {
  const role = reply.textOr("ship", "none");
  if (role !== "source" && role !== "mirror") return {};
  const acked = reply.number("log_acked");
  return {
    ship: {
      role,
      up: reply.flag("ship_up"),
      acked,
      end: reply.numberOr("log_end", acked),
      logBytes: reply.number("log_bytes"),
      freeBytes: reply.numberOr("log_free_bytes", undefined),
      waits: reply.numberOr("log_waits", 0),
      delayUs: histogramOf(reply, "ship_delay"),
    },
  };
}

/** `ended` tells how the program ended, if it did. */
function start(options: GateOptions, initPid: number): { ended(): string | undefined } {
  let ended: string | undefined;
  const log = openSync(options.logFile, "a", 0o600);
  try {
    const child = spawn(options.program, gateArguments(options, initPid), {
      detached: true,
      stdio: ["ignore", log, log],
    });
    child.on("error", (error) => {
      ended = `${options.program} could not be run: ${error.message}`;
    });
    child.on("exit", (status, signal) => {
      ended = `it ended at once, ${signal === null ? `status ${status}` : `killed by ${signal}`}`;
    });
    child.unref();
  } finally {
    closeSync(log);
  }
  return { ended: () => ended };
}

export function gateArguments(options: GateOptions, initPid: number): string[] {
  const { heartbeat } = options;
  const fields: Record<string, string | number> = {
    pair: options.pair,
    control: options.controlSocket,
    "netns-pid": initPid,
    "container-if": options.containerInterface,
    mac: options.mac,
    mtu: options.mtu,
    uplink: options.uplink,
    "lan-if": options.lanInterface,
    "key-file": options.keyFile,
    "heartbeat-local": `${heartbeat.local}:${heartbeat.port}`,
    "heartbeat-peer": `${heartbeat.peer}:${heartbeat.port}`,
    "heartbeat-ms": heartbeat.intervalMs,
    "miss-limit": heartbeat.missLimit,
    "lease-ms": options.leaseMs,
    "held-bytes-max": options.heldBytesMax,
    "queued-bytes-max": options.queuedBytesMax,
    generation: options.generation,
    ...(options.ship === undefined
      ? {}
      : {
          "ship-local": `${heartbeat.local}:${options.ship.port}`,
          "ship-peer": `${heartbeat.peer}:${options.ship.port}`,
        }),
  };
  const flags = options.ship?.encrypted === false ? ["--ship-plain"] : [];
  const named = Object.entries(fields).flatMap(([name, value]) => [`--${name}`, String(value)]);
  return [...named, ...flags];
}

function dial(path: string): Promise<Socket | undefined> {
  return new Promise((resolve, reject) => {
    const socket = connect(path);
    socket.once("connect", () => {
      socket.removeAllListeners("error");
      resolve(socket);
    });
    socket.once("error", (error: NodeJS.ErrnoException) => {
      if (error.code === "ENOENT" || error.code === "ECONNREFUSED") resolve(undefined);
      else reject(error);
    });
  });
}

function notStarted(options: GateOptions, message: string): FtError {
  return new FtError({
    code: "GATE_NOT_STARTED",
    subject: `gate of pair ${options.pair}`,
    message,
    hint: "The last lines of its log say why.",
    log: options.logFile,
    quoted: lastLines(options.logFile, 3),
  });
}

function lastLines(path: string, count: number): string[] {
  try {
    const lines = readFileSync(path, "utf8").trimEnd().split("\n").slice(-count);
    return lines.filter((line) => line !== "").map(plain);
  } catch {
    return []; // no log: the error names the file anyway
  }
}

/** `fail` lines are percent-coded for machines. */
function plain(line: string): string {
  try {
    return decodeLineValue(line);
  } catch {
    return line;
  }
}
