/** An event log of the benchmark's own, for a container that is recorded and not protected. */
import { join } from "node:path";
import { limits } from "../../orchestrator/limits.js";
import { checkoutRoot } from "../lab/layout.js";
import type { Host, Hosts } from "../runner/hosts.js";

/** On the host's tmpfs, as an agent would have it. */
const folder = "/run/ftbench-log";
const inContainer = "/.ftbench";
/** The trimmer ends by itself if nobody ends it. */
const trimsMax = 3_000;
const LANES = { at: 2 * 4096, bytes: 128 };
const HEADER = { mode: 64, lost: 124, owner: 128 };

export class LocalLog {
  private constructor(
    private readonly hosts: Hosts,
    private readonly host: Host,
  ) {}

  static async make(hosts: Hosts, host: Host): Promise<LocalLog> {
    const log = new LocalLog(hosts, host);
    await log.#sh(
      `rm -rf ${folder}; mkdir -p ${folder}; ${ftlog} create ${folder}/events ${limits.logLanes} ${limits.logSegments}; chmod 666 ${folder}/events`,
    );
    return log;
  }

  readonly dockerArgs = [
    ...["-v", `${folder}:${inContainer}/log`],
    ...["-v", `${join(checkoutRoot(), "build/lib/libftrec.so")}:${inContainer}/libftrec.so:ro`],
    ...["-e", `LD_PRELOAD=${inContainer}/libftrec.so`, "-e", `FTREC_LOG=${inContainer}/log/events`],
  ];

  /** Forgets what was recorded, several times a second, until the file is removed. */
  async keepTrimmed(): Promise<void> {
    const loop = `for i in $(seq ${trimsMax}); do [ -f ${folder}/events ] || exit 0; ${ftlog} trim ${folder}/events; sleep 0.2; done`;
    await this.#sh(`setsid sh -c '${loop}' >/dev/null 2>&1 </dev/null &`);
  }

  /** Of all lanes, since the beginning. */
  async bytes(): Promise<number> {
    const lanes = await this.#read(LANES.at, LANES.bytes * limits.logLanes);
    let sum = 0;
    for (let at = 0; at < lanes.length; at += LANES.bytes) sum += Number(lanes.readBigUInt64LE(at));
    return sum;
  }

  /** A library that did not load would make a fine figure. */
  async mustRecord(): Promise<void> {
    const header = await this.#read(0, 168);
    const [mode, lost, owner] = [HEADER.mode, HEADER.lost, HEADER.owner].map((at) =>
      header.readUInt32LE(at),
    );
    if (mode !== 1 || lost !== 0 || owner === 0) {
      throw new Error(
        `the application is not recorded: mode ${mode}, lost ${lost}, owner ${owner}`,
      );
    }
  }

  async remove(): Promise<undefined> {
    await this.#sh(`rm -rf ${folder}`);
  }

  async #read(at: number, bytes: number): Promise<Buffer> {
    const command = `dd if=${folder}/events bs=4096 count=${Math.ceil((at + bytes) / 4096)} status=none | base64 -w0`;
    const all = Buffer.from(await this.#sh(command), "base64");
    return all.subarray(at, at + bytes);
  }

  async #sh(script: string): Promise<string> {
    const result = await this.hosts.exec(this.host, ["sh", "-ec", script]);
    if (result.exitCode !== 0) throw new Error(`event log on ${this.host}: ${result.stderr}`);
    return result.stdout;
  }
}

const ftlog = join(checkoutRoot(), "build/bin/ftlog");
