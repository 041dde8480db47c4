/** Finding texts: by their words (BM25), by their vectors, and by both. */
import { DatabaseSync, type StatementSync } from 'node:sqlite';

export interface Hit {
  /** Place of the text in the order in which they were added, counted from 0. */
  readonly index: number;
  /** The more the better; comparable within one search. */
  readonly score: number;
}

/** The constant of reciprocal rank fusion in Cormack, Clarke and Buettcher (SIGIR 2009). */
const FUSION = 60;

/** BM25 (k1 1.2, b 0.75) over stems (Porter's), by FTS5 of SQLite, in memory. */
export class TextIndex {
  readonly #insert: StatementSync;
  readonly #search: StatementSync;
  #size = 0;

  constructor() {
    const database = new DatabaseSync(':memory:');
    database.exec(`CREATE VIRTUAL TABLE texts USING fts5(text, tokenize = 'porter unicode61 remove_diacritics 2')`);
    this.#insert = database.prepare('INSERT INTO texts(rowid, text) VALUES (?, ?)');
    this.#search = database.prepare(
      'SELECT rowid, bm25(texts) AS cost FROM texts WHERE texts MATCH ? ORDER BY cost, rowid LIMIT ?',
    );
  }

  /** How many texts there are. */
  get size(): number {
    return this.#size;
  }

  add(texts: readonly string[]): void {
    for (const text of texts) this.#insert.run(this.#size++, text);
  }

  /** The k texts that share most with the words of the query, best first; those that share none are left out. */
  search(query: string, k: number): Hit[] {
    // Every word in quotes: what is an operator to FTS5 is a word like others.
    const words = new Set(query.match(/[\p{L}\p{M}\p{N}]+/gu) ?? []);
    if (words.size === 0) return [];
    const rows = this.#search.all([...words].map((word) => `"${word}"`).join(' OR '), k);
    return rows.map(({ rowid, cost }) => ({ index: Number(rowid), score: -Number(cost) }));
  }
}

/** Cosine similarity over vectors of length 1, all of which are looked at. */
export class VectorIndex {
  readonly #vectors: Float32Array[] = [];

  add(vectors: readonly Float32Array[]): void {
    this.#vectors.push(...vectors);
  }

  replace(index: number, vector: Float32Array): void {
    this.#vectors[index] = vector;
  }

  /** The k nearest, best first. */
  search(query: Float32Array, k: number): Hit[] {
    return this.#vectors
      .map((vector, index) => ({ index, score: vector.reduce((sum, x, i) => sum + x * query[i]!, 0) }))
      .sort((a, b) => b.score - a.score || a.index - b.index)
      .slice(0, k);
  }
}

/** Reciprocal rank fusion: what stands at rank r of a list, counted from 1, gains 1 / (60 + r). Best first. */
export function fuse(rankings: readonly (readonly Hit[])[]): Hit[] {
  const scores = new Map<number, number>();
  for (const ranking of rankings)
    for (const [i, { index }] of ranking.entries()) scores.set(index, (scores.get(index) ?? 0) + 1 / (FUSION + i + 1));
  return [...scores].map(([index, score]) => ({ index, score })).sort((a, b) => b.score - a.score || a.index - b.index);
}
