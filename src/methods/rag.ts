/**
 * Plain retrieval: the turns are kept as they are, and those nearest to a question are shown beside it. `bm25` finds them by their words
 * (Robertson and Zaragoza 2009); `rag` by their words and by a text embedding, fused by reciprocal rank (Cormack et al., SIGIR 2009), and
 * by their words alone when there is no embedder.
 *
 * What was chosen, as there is no one such method:
 * - A chunk is a turn with its date and speaker, or a piece of a long one.
 * - 10 chunks are shown, fewer where the budget has no room for them, in the order in which they were said.
 * - From each list, the first 50 are fused.
 */
import { transcriptLine } from '../agent/context.ts';
import { throwIfAborted } from '../engine/errors.ts';
import type { Embedder } from '../engine/types.ts';
import { answerFrom, checkBudget, chunkTokens, mostThatFit, piecesOf } from './common.ts';
import { fuse, type Hit, TextIndex, VectorIndex } from './retrieval.ts';
import type { Method, MethodOptions, MethodSpec } from './types.ts';

const SHOWN = 10;
const FUSED = 50;

async function openRetrieval(options: MethodOptions, embedder: Embedder | undefined): Promise<Method> {
  const { engine, signal } = options;
  const limit = chunkTokens(options);
  checkBudget(options, limit);
  const chunks: string[] = [];
  const words = new TextIndex();
  const vectors = new VectorIndex();
  const find = async (query: string): Promise<Hit[]> => {
    const byWords = words.search(query, FUSED);
    if (!embedder) return byWords;
    const [vector] = await embedder.embed([query], { query: true, signal });
    return fuse([byWords, vectors.search(vector!, FUSED)]);
  };
  return {
    async observe(turn) {
      throwIfAborted(signal);
      chunks.push(...(await piecesOf(engine, turn, limit)).map(transcriptLine));
    },
    async settle() {
      throwIfAborted(signal);
      const fresh = chunks.slice(words.size);
      if (fresh.length === 0) return;
      if (embedder) vectors.add(await embedder.embed(fresh, { signal }));
      words.add(fresh);
    },
    async answer(question) {
      const found = (await find(question.query ?? question.text)).slice(0, SHOWN).map(({ index }) => index);
      const layOut = (indices: readonly number[]) =>
        indices
          .toSorted((a, b) => a - b)
          .map((i) => chunks[i]!)
          .join('\n');
      return answerFrom(options, await mostThatFit(options, question, found, layOut), question);
    },
    kept: async () => ({ text: chunks.join('\n'), items: chunks.length, weights: 0 }),
  };
}

export const rag: MethodSpec = {
  name: 'rag',
  description: 'Plain retrieval: the turns nearest to the question, by BM25 and text embeddings.',
  source: 'SIGIR 2009, Cormack, Clarke and Buettcher',
  aware: false,
  embeds: true,
  open: (options) => openRetrieval(options, options.embedder),
};

export const bm25: MethodSpec = {
  name: 'bm25',
  description: 'Plain retrieval: the turns nearest to the question, by BM25.',
  source: 'Robertson and Zaragoza 2009',
  aware: false,
  open: (options) => openRetrieval(options, undefined),
};
