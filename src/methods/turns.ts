/**
 * The turns as they were said, found again by their words (BM25: Robertson and Zaragoza 2009) and, with an embedder, by their vectors, too,
 * fused by reciprocal rank (Cormack et al., SIGIR 2009). A chunk is a turn with its date and speaker, or a piece of a long one.
 */
import { transcriptLine } from '../agent/context.ts';
import { throwIfAborted } from '../engine/errors.ts';
import type { Embedder } from '../engine/types.ts';
import type { Turn } from '../memory/types.ts';
import { checkBudget, chunkTokens, piecesOf } from './common.ts';
import { fuse, type Hit, TextIndex, VectorIndex } from './retrieval.ts';
import type { MethodOptions, Question } from './types.ts';

/** Of each list that is fused. */
const FUSED = 50;

export class Turns {
  readonly #options: MethodOptions;
  readonly #embedder: Embedder | undefined;
  readonly #limit: number;
  readonly #chunks: string[] = [];
  readonly #words = new TextIndex();
  readonly #vectors = new VectorIndex();

  /** @throws TmemError `usage` for a budget that has no room for chunks. */
  constructor(options: MethodOptions, embedder: Embedder | undefined) {
    this.#options = options;
    this.#embedder = embedder;
    this.#limit = chunkTokens(options);
    checkBudget(options, this.#limit);
  }

  get chunks(): readonly string[] {
    return this.#chunks;
  }

  async observe(turn: Turn): Promise<void> {
    const { engine, signal } = this.#options;
    throwIfAborted(signal);
    this.#chunks.push(...(await piecesOf(engine, turn, this.#limit)).map(transcriptLine));
  }

  /** What was observed can be found from then on. */
  async settle(): Promise<void> {
    const { signal } = this.#options;
    throwIfAborted(signal);
    const fresh = this.#chunks.slice(this.#words.size);
    if (fresh.length === 0) return;
    if (this.#embedder) this.#vectors.add(await this.#embedder.embed(fresh, { signal }));
    this.#words.add(fresh);
  }

  /** Indices of the n chunks nearest to a question, best first. */
  async nearest({ query, text }: Question, n: number): Promise<number[]> {
    const wanted = query ?? text;
    const byWords = this.#words.search(wanted, FUSED);
    let found: readonly Hit[] = byWords;
    if (this.#embedder) {
      const [vector] = await this.#embedder.embed([wanted], { query: true, signal: this.#options.signal });
      found = fuse([byWords, this.#vectors.search(vector!, FUSED)]);
    }
    return found.slice(0, n).map(({ index }) => index);
  }

  /** Chunks in the order in which they were said. */
  layOut(indices: readonly number[]): string {
    return indices
      .toSorted((a, b) => a - b)
      .map((i) => this.#chunks[i]!)
      .join('\n');
  }
}
