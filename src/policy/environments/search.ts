/**
 * Multi-objective search (tasks/search, after MEM1, arXiv 2506.15841) as an environment: every search is an ordinary action, what it
 * finds is taken into memory, and the reward is the mean F1 over the questions. The last fifth of the tasks is held out.
 */
import { randomSource } from '../../engine/training/random.ts';
import { scoreAnswers } from '../../tasks/scoring/search.ts';
import { playSearch } from '../../tasks/search/environment.ts';
import { type SearchDetails, search } from '../../tasks/search.ts';
import type { Environment } from '../environment.ts';
import { seedOf } from '../seeds.ts';
import { oneOf, splitAt } from './conversations.ts';

export interface SearchOptions {
  readonly data: string;
  readonly corpus?: string | undefined;
  readonly objectives?: number | undefined;
}

export async function searchEnvironment({ data, corpus, objectives }: SearchOptions): Promise<Environment> {
  const samples = await search.read(data, { corpus, objectives });
  const train = splitAt(samples, data);
  return {
    name: search.name,
    episode(seed, split) {
      const random = randomSource(seedOf(search.name, split, seed));
      const sample = oneOf(split === 'train' ? samples.slice(0, train) : samples.slice(train), random);
      const { question, reference, details } = sample.questions[0]!;
      const { merged, corpus: documents } = details as SearchDetails;
      const references = merged.parts.map(({ answers }) => answers);
      const scores = (answers: readonly string[]) => scoreAnswers(answers[0] ?? '', references);
      return {
        ...{ id: `${sample.id}-${split}-${seed}`, turns: [], questions: [{ text: question, gold: reference }] },
        async play(agent, signal) {
          const { text } = await playSearch(agent, merged, documents, { signal });
          return [text];
        },
        reward: (answers) => scores(answers).f1 / references.length,
        figures: (answers) => ({ exact: scores(answers).em / references.length }),
      };
    },
  };
}
