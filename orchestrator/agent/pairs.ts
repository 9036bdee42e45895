/** The pairs of this host, by id, name or prefix; and the clock that makes each look around. */
import { ExitCode, FtError, invariant } from "../errors/error.js";
import { limits } from "../limits.js";
import type { Pair } from "../pair/pair.js";

export class Pairs {
  private readonly byId = new Map<string, Pair>();
  private ticking: NodeJS.Timeout | undefined;
  private asking: NodeJS.Timeout | undefined;

  all(): Pair[] {
    return [...this.byId.values()];
  }

  get(id: string): Pair | undefined {
    return this.byId.get(id);
  }

  add(pair: Pair): void {
    invariant(!this.byId.has(pair.record.id), "a pair is added once");
    this.byId.set(pair.record.id, pair);
  }

  delete(id: string): void {
    this.byId.get(id)?.close();
    this.byId.delete(id);
  }

  /** By name, id prefix or container id prefix. */
  find(ref: string): Pair {
    const exact = this.all().filter(({ record }) => record.name === ref || record.id === ref);
    const matches =
      exact.length > 0
        ? exact
        : this.all().filter(
            ({ record }) =>
              ref.length > 0 &&
              (record.id.startsWith(ref) ||
                (record.containerId !== "" && record.containerId.startsWith(ref))),
          );
    if (matches.length === 1) return matches[0]!;
    if (matches.length === 0) {
      throw new FtError({
        code: "NOT_FOUND",
        subject: `container ${ref}`,
        message: "no protected container of that name or id on this host",
        hint: "`ftctl ls` lists what is protected; `ftctl protect` protects a container.",
        exitCode: ExitCode.notFound,
      });
    }
    throw new FtError({
      code: "AMBIGUOUS",
      subject: `container ${ref}`,
      message: `matches ${matches.map(({ record }) => record.name).join(", ")}`,
      hint: "Give the name, or more of the id.",
      exitCode: ExitCode.usage,
    });
  }

  start(): void {
    this.ticking = setInterval(() => {
      for (const pair of this.all()) void pair.tick();
    }, limits.pairTickMs);
    let round = 0;
    this.asking = setInterval(() => {
      round += 1;
      // Where all is well the heartbeats tell what changes; asking is only to be sure.
      const everybody = round % limits.settledPeerStatusRounds === 0;
      for (const pair of this.all()) if (everybody || !pair.settled) void pair.refreshPeer();
    }, limits.peerStatusIntervalMs);
  }

  stop(): void {
    clearInterval(this.ticking);
    clearInterval(this.asking);
    for (const pair of this.all()) pair.close();
  }
}
