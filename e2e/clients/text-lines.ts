/** Incremental splitter of text into lines. */
export class TextLines {
  readonly #ending: string;
  readonly #lineBytesMax: number;
  #text = "";

  constructor(ending: string, lineBytesMax: number) {
    this.#ending = ending;
    this.#lineBytesMax = lineBytesMax;
  }

  /** The lines that the chunk completes; throws when what is left is too long to be the start of one. */
  *push(chunk: Buffer): Generator<string> {
    this.#text += chunk.toString("latin1");
    for (;;) {
      const end = this.#text.indexOf(this.#ending);
      if (end < 0) break;
      const line = this.#text.slice(0, end);
      this.#text = this.#text.slice(end + this.#ending.length);
      yield line;
    }
    if (this.#text.length > this.#lineBytesMax) throw new Error("a reply without an end of line");
  }
}
