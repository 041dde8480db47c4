/**
 * Multi-objective search as in MEM1 (arXiv 2506.15841): several questions of HotpotQA and NQ merged into one, whose
 * answers are searched for in a corpus over several turns. See search/merge.ts and search/environment.ts for what
 * differs.
 *
 * The scores are sums over the merged questions, as MEM1 reports them: they go up to their number and not to 1.
 */
import { dirname, join } from 'node:path';
import { TmemError } from '../engine/errors.ts';
import { scoreAnswers } from './scoring/search.ts';
import { Corpus } from './search/corpus.ts';
import { laidOut, nextAction, PROMPTS, playSearch } from './search/environment.ts';
import { type MergedQuestion, mergeQuestions, readQuestions } from './search/merge.ts';
import type { Benchmark, BenchmarkQuestion } from './types.ts';

const DEFAULT_OBJECTIVES = 2;
const CORPUS = 'corpus.jsonl';

export interface SearchDetails {
  readonly merged: MergedQuestion;
  readonly corpus: Corpus;
}

export const search: Benchmark = {
  name: 'search',
  description: 'Multi-objective search: several questions at once, answered by searching a corpus',
  metric: 'em',
  summed: true,
  prompts: PROMPTS,
  needsJudge: false,

  /** A sample a merged question, with nothing to read before it is played. */
  async read(file, { samples, seed = 0, objectives = DEFAULT_OBJECTIVES, corpus: documents } = {}) {
    const singles = await readQuestions(file);
    const tasks = mergeQuestions(singles, { objectives, seed }).slice(0, samples);
    const corpus = await Corpus.read(documents ?? join(dirname(file), CORPUS)).catch((error) => {
      if (!(error instanceof TmemError) || error.code !== 'missing' || documents !== undefined) throw error;
      const problem = `There is no ${CORPUS} beside ${file}`;
      throw new TmemError(
        'missing',
        `${problem}; name the documents to search by --corpus, a JSONL of {title?, text}.`,
        {
          cause: error,
        },
      );
    });
    return tasks.map((merged, i) => {
      const question = questionOf(merged, corpus, `${objectives}-${i + 1}`);
      return { id: question.id, turns: [], questions: [question] };
    });
  },

  play(method, _sample, { details }, options) {
    const { merged, corpus } = details as SearchDetails;
    return playSearch(method, merged, corpus, options);
  },

  async score({ details }, answer) {
    const { parts } = (details as SearchDetails).merged;
    return scoreAnswers(
      answer,
      parts.map(({ answers }) => answers),
    );
  },
};

function questionOf(merged: MergedQuestion, corpus: Corpus, id: string): BenchmarkQuestion {
  const { parts } = merged;
  const details: SearchDetails = { merged, corpus };
  return {
    id,
    question: laidOut(merged),
    ask: nextAction(merged, 1),
    reference: parts.map(({ answers }) => answers[0]).join('; '),
    category: `${parts.length} ${parts.length === 1 ? 'question' : 'questions'}`,
    details,
  };
}
