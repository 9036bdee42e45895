/** Undoes what was done, last first, when a later step fails. */
import { asFtError, FtError } from "../errors/error.js";

export class Rollback {
  readonly #undos: { what: string; undo: () => Promise<void> }[] = [];

  /** `what` reads as in "could not …": `start the original container again`. */
  add(what: string, undo: () => Promise<void>): void {
    this.#undos.push({ what, undo });
  }

  /** Carries out every undo, also after one has failed; throws if any did. Afterwards there is nothing to undo. */
  async unwind(subject: string): Promise<void> {
    const failures: FtError[] = [];
    const left: string[] = [];
    for (const { what, undo } of this.#undos.splice(0).reverse()) {
      try {
        await undo();
      } catch (error) {
        failures.push(asFtError(error, subject));
        left.push(what);
      }
    }
    if (failures.length === 0) return;
    throw new FtError({
      code: "UNDO_FAILED",
      subject,
      message: `could not ${left.join("; could not ")}`,
      hint: "Do it by hand; docker ps -a shows what is there.",
      quoted: failures.map((failure) => failure.message),
      cause: failures[0],
    });
  }

  /** Runs `work`; if it throws, unwinds and throws what it threw, with what could not be undone quoted. */
  async guard<T>(subject: string, work: () => Promise<T>): Promise<T> {
    try {
      return await work();
    } catch (thrown) {
      const error = asFtError(thrown, subject);
      try {
        await this.unwind(subject);
      } catch (undo) {
        const left = asFtError(undo, subject);
        throw new FtError({
          ...error.toJSON(),
          message: `${error.message}; and ${left.message}`,
          hint: left.hint,
          quoted: [...error.quoted, ...left.quoted],
          cause: error,
        });
      }
      throw error;
    }
  }
}
