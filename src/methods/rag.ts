/**
 * Plain retrieval: the turns are kept as they are, and those nearest to a question are shown beside it. `bm25` finds them by their words
 * alone; `rag` by their words and by a text embedding, and by their words alone when there is no embedder (turns.ts).
 *
 * What was chosen, as there is no one such method: 10 chunks are shown, fewer where the budget has no room for them, in the order in which
 * they were said.
 */
import type { Embedder } from '../engine/types.ts';
import { answerFrom, mostThatFit } from './common.ts';
import { Turns } from './turns.ts';
import type { Method, MethodOptions, MethodSpec } from './types.ts';

export const SHOWN = 10;

async function openRetrieval(options: MethodOptions, embedder: Embedder | undefined): Promise<Method> {
  const turns = new Turns(options, { embedder });
  return {
    observe: (turn) => turns.observe(turn),
    settle: () => turns.settle(),
    async answer(question) {
      const found = await turns.nearest(question, SHOWN);
      const shown = await mostThatFit(options, question, found, (indices) => turns.layOut(indices));
      return answerFrom(options, shown, question);
    },
    kept: async () => ({ text: turns.chunks.join('\n'), items: turns.chunks.length, weights: 0 }),
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
