/** The documents of a user, searched by their words and, with an embedder, by their vectors, too. */
import { z } from 'zod';
import { parseLine } from '../../agent/jsonl.ts';
import { TmemError } from '../../engine/errors.ts';
import { fuse, TextIndex, VectorIndex } from '../../methods/retrieval.ts';
import { textOf } from '../json-array.ts';
import type { PlayOptions } from '../types.ts';

const documentSchema = z.object({ title: z.string().optional(), text: z.string().min(1) });
export type SearchedDocument = z.infer<typeof documentSchema>;

/** Documents of each list that are fused. */
const FUSED = 50;

export class Corpus {
  readonly #documents: readonly SearchedDocument[];
  readonly #words = new TextIndex();
  /** Made when an embedder is first searched with. */
  #vectors: Promise<VectorIndex> | undefined;

  constructor(documents: readonly SearchedDocument[]) {
    this.#documents = documents;
    this.#words.add(documents.map(whole));
  }

  /**
   * JSONL of documents `{id?, title?, text}`. All of them and their index are held in memory.
   * @throws TmemError `missing` when the file cannot be read, `usage` naming the line that is wrong.
   */
  static async read(file: string): Promise<Corpus> {
    const documents: SearchedDocument[] = [];
    let number = 0;
    for await (const line of linesOf(file)) {
      number++;
      if (line.trim() !== '') documents.push(parseLine(line, documentSchema, `${file} line ${number}`));
    }
    if (documents.length === 0)
      throw new TmemError('usage', `${file} is empty; it must hold documents, one JSON object a line.`);
    return new Corpus(documents);
  }

  /**
   * The k documents nearest to a query, best first: by BM25, with an embedder fused with cosine similarity by
   * reciprocal rank.
   */
  async search(query: string, k: number, { embedder, signal }: PlayOptions): Promise<SearchedDocument[]> {
    const byWords = this.#words.search(query, embedder ? FUSED : k);
    const hits = embedder ? fuse([byWords, await this.#byVector(query, embedder, signal)]) : byWords;
    return hits.slice(0, k).map(({ index }) => this.#documents[index]!);
  }

  async #byVector(query: string, embedder: NonNullable<PlayOptions['embedder']>, signal: AbortSignal | undefined) {
    this.#vectors ??= embedder.embed(this.#documents.map(whole), { signal }).then((vectors) => {
      const index = new VectorIndex();
      index.add(vectors);
      return index;
    });
    // An attempt that failed is not kept.
    const index = await this.#vectors.catch((error) => {
      this.#vectors = undefined;
      throw error;
    });
    const [vector] = await embedder.embed([query], { query: true, signal });
    return index.search(vector!, FUSED);
  }
}

/** The whole document as it is indexed. */
function whole({ title, text }: SearchedDocument): string {
  return title ? `${title}\n${text}` : text;
}

/** Lines as they come: a corpus may be larger than the longest string that there can be. */
async function* linesOf(file: string): AsyncGenerator<string> {
  let rest = '';
  for await (const chunk of textOf(file, 'documents')) {
    const lines = (rest + chunk).split(/\r?\n/);
    rest = lines.pop()!;
    yield* lines;
  }
  if (rest) yield rest;
}
