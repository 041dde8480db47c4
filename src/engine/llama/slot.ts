import type { Memory, Native } from '../native/library.ts';
import type { Token } from '../types.ts';

let cells = 0;

/** One sequence of the KV cache and what it holds. A cell may belong to several sequences that begin alike. */
export class Slot {
  readonly sequence: number;
  /** Which fast weights it was computed under; KV of other weights is never reused. */
  version = 0;
  busy = false;
  lastUse = 0;
  readonly #f: Native;
  readonly #memory: Memory;
  /** Tokens whose keys and values are cached, in order, and their cells by numbers of our own. */
  readonly #tokens: Token[] = [];
  readonly #cells: number[] = [];

  constructor(native: Native, memory: Memory, sequence: number) {
    this.#f = native;
    this.#memory = memory;
    this.sequence = sequence;
  }

  get tokens(): readonly Token[] {
    return this.#tokens;
  }

  get length(): number {
    return this.#tokens.length;
  }

  /** A token was decoded. */
  push(token: Token): void {
    this.#tokens.push(token);
    this.#cells.push(cells++);
  }

  /** Keeps the first n tokens; what was decoded behind them, drafts too, is gone. */
  truncate(n: number): void {
    if (n > 0 || this.length > 0) this.#f.memoryRemove(this.#memory, this.sequence, n, -1);
    this.#tokens.length = n;
    this.#cells.length = n;
  }

  /** Holds the first n tokens of another sequence, and nothing else. */
  share(other: Slot, n: number): void {
    this.truncate(0);
    if (n > 0) this.#f.memoryCopy(this.#memory, other.sequence, this.sequence, 0, n);
    for (let i = 0; i < n; i++) {
      this.#tokens.push(other.#tokens[i]!);
      this.#cells.push(other.#cells[i]!);
    }
  }

  /** It holds nothing, as all was forgotten at once. */
  reset(): void {
    this.#tokens.length = 0;
    this.#cells.length = 0;
    this.version = 0;
    this.lastUse = 0;
  }

  /** Cells that sequences fill together, of each so many first ones: those that they share count once. */
  static filled(held: Iterable<readonly [Slot, number]>): number {
    const all = new Set<number>();
    for (const [slot, n] of held) for (let i = 0; i < n; i++) all.add(slot.#cells[i]!);
    return all.size;
  }
}
