/** A stream of turns as sections, each as long as a context has room for. */
import { cut } from '../agent/split.ts';
import type { Turn } from '../memory/types.ts';

/**
 * Collects turns while they fit, and hands them over when the next one does not. A turn that does not fit alone is cut behind a sentence,
 * else behind a word; its pieces all have its time and speaker. The order is kept and nothing is lost.
 */
export class Sections {
  readonly #fits: (turns: readonly Turn[]) => Promise<boolean>;
  readonly #take: (turns: readonly Turn[]) => Promise<void>;
  #turns: Turn[] = [];

  /** `fits` must be true for the beginning of all that it is true for. */
  constructor(options: {
    readonly fits: (turns: readonly Turn[]) => Promise<boolean>;
    readonly take: (turns: readonly Turn[]) => Promise<void>;
  }) {
    this.#fits = options.fits;
    this.#take = options.take;
  }

  async add(turn: Turn): Promise<void> {
    for (let rest = turn; ; ) {
      if (await this.#fits([...this.#turns, rest])) {
        this.#turns.push(rest);
        return;
      }
      if (this.#turns.length > 0) {
        await this.flush();
        continue;
      }
      const [content, remainder] = await cut(rest.content, (content) => this.#fits([{ ...rest, content }]));
      this.#turns.push({ ...rest, content });
      if (remainder === '') return;
      rest = { ...rest, content: remainder };
    }
  }

  /** Hands over what has not been handed over yet, if there is some. */
  async flush(): Promise<void> {
    if (this.#turns.length === 0) return;
    await this.#take(this.#turns);
    this.#turns = [];
  }
}
