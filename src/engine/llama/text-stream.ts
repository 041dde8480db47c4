/** Turns token bytes into text as it becomes certain: whole characters only, and nothing that may still become a stop string. */
export class TextStream {
  #decoder = new TextDecoder();
  #stops: readonly string[];
  /** Text given out so far, and text held back because a stop string may begin in it. */
  #given = '';
  #held = '';
  stopped = false;

  constructor(stops: readonly string[] = []) {
    this.#stops = stops.filter((s) => s.length > 0);
  }

  /** @returns text that is certain now. */
  push(bytes: Uint8Array): string {
    if (this.stopped) return '';
    return this.#release(this.#decoder.decode(bytes, { stream: true }), false);
  }

  /** @returns what was still held back. */
  end(): string {
    if (this.stopped) return '';
    return this.#release(this.#decoder.decode(), true);
  }

  get text(): string {
    return this.#given;
  }

  #release(text: string, final: boolean): string {
    this.#held += text;
    const cut = this.#firstStop();
    let out: string;
    if (cut !== undefined) {
      this.stopped = true;
      out = this.#held.slice(0, cut);
      this.#held = '';
    } else {
      const keep = final ? 0 : this.#possibleStop();
      out = this.#held.slice(0, this.#held.length - keep);
      this.#held = this.#held.slice(this.#held.length - keep);
    }
    this.#given += out;
    return out;
  }

  /** Where the stop string begins that is complete first (of several, the longest): the same however the text comes in. */
  #firstStop(): number | undefined {
    const found = this.#stops
      .map((s) => ({ from: this.#held.indexOf(s), length: s.length }))
      .filter(({ from }) => from >= 0)
      .sort((a, b) => a.from + a.length - (b.from + b.length) || b.length - a.length);
    return found[0]?.from;
  }

  /** Length of the longest end of the held text that begins a stop string. */
  #possibleStop(): number {
    for (let n = Math.min(this.#held.length, Math.max(0, ...this.#stops.map((s) => s.length - 1))); n > 0; n--) {
      const tail = this.#held.slice(-n);
      if (this.#stops.some((s) => s.startsWith(tail))) return n;
    }
    return 0;
  }
}
