/**
 * Epochs accepted as standby, one after the other, until a takeover begins.
 *
 * Invariant T1: once `stop` has returned, no commit is under way and none will be: what a takeover finds in the store is what
 * it restores.
 */
import { FtError } from "../errors/error.js";

export class Acceptance {
  private open = false;
  private committing: Promise<unknown> = Promise.resolve();

  constructor(private readonly subject: string) {}

  start(): void {
    this.open = true;
  }

  /** Runs a commit, one after the other; refused (`STALE_GENERATION`) as soon as a takeover has begun. */
  run<T>(commit: () => Promise<T>): Promise<T> {
    const next = this.committing.then(() => {
      if (!this.open) {
        throw new FtError({
          code: "STALE_GENERATION",
          subject: this.subject,
          message: "this host is taking over: no more epochs are accepted",
        });
      }
      return commit();
    });
    this.committing = next.catch(() => {});
    return next;
  }

  /** No epoch is acknowledged from here on; the one in flight is waited for. */
  async stop(): Promise<void> {
    this.open = false;
    await this.committing;
  }
}
