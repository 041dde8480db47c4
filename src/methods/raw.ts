/**
 * The rivals of question-answer pairs in the ablation of TMEM (arXiv 2606.04536): text itself is trained. `raw` trains the turns, with their
 * dates and speakers; `trained-summary` trains a summary of every section of them, which the model writes.
 *
 * What differs, and why:
 * - A text is trained as the answer to a neutral prompt with its number and date, so that the same writes as those of `tmem` do it, under
 *   the chat template: section by section, with replay and anchors. A turn of more than 250 tokens is several texts.
 * - A summary has at most 250 tokens; the paper does not say how long its summaries are.
 * - The recipe is the default one without its gate and its wordings: both are made for questions. A write that diverges is still left out.
 * - There is no explicit memory: what is compared is what the weights alone take from text.
 */
import { countTokens, transcript, transcriptLine } from '../agent/context.ts';
import { throwIfAborted } from '../engine/errors.ts';
import { type ChatMessage, complete } from '../engine/types.ts';
import { standingPairs } from '../memory/ledger.ts';
import { getRecipe, type Recipe } from '../memory/recipe.ts';
import { spellTime } from '../memory/spell-time.ts';
import { emptyMemory, originOf, type Pair, type Turn } from '../memory/types.ts';
import { writePairs } from '../memory/write.ts';
import { answerFrom, bytesOf, checkBudget, piecesOf } from './common.ts';
import { fill, RAW, SUMMARY, summaryDirective } from './prompts.ts';
import { Sections } from './sections.ts';
import type { MethodOptions, MethodSpec } from './types.ts';

/** As long as the parts that `tmem` extracts from. */
const TEXT_TOKENS = 250;

interface Supervision {
  /** Tokens that are looked at for a section. */
  readonly length: (turns: readonly Turn[]) => Promise<number>;
  /** What is trained of it: texts, each with the turn that it begins with. */
  readonly texts: (turns: readonly Turn[]) => Promise<{ readonly text: string; readonly turn: Turn }[]>;
}

function spec(name: string, description: string, supervise: (options: MethodOptions) => Supervision): MethodSpec {
  return {
    ...{ name, description, source: 'arXiv 2606.04536, ablation', aware: false },
    async open(options) {
      const { engine, budget, signal } = options;
      const recipe: Recipe = { ...getRecipe('default'), name, gate: false, expand: [], paraphrased: 0 };
      const { length, texts } = supervise(options);
      checkBudget(options, await length([]));
      let state = emptyMemory(engine.model.fingerprint);
      let count = 0;
      await engine.setFastWeights(null);
      const sections = new Sections({
        fits: async (turns) => (await length(turns)) <= budget,
        async take(turns) {
          const pairs = (await texts(turns)).map(({ text, turn }) => pairOf(text, turn, count++));
          ({ state } = await writePairs(engine, state, pairs, recipe, { signal }));
        },
      });
      return {
        async observe(turn) {
          throwIfAborted(signal);
          for (const piece of await piecesOf(engine, turn, TEXT_TOKENS)) await sections.add(piece);
        },
        async settle() {
          throwIfAborted(signal);
          await sections.flush();
        },
        answer: (question) => answerFrom(options, '', question, { fastWeights: true }),
        kept: async () => ({
          text: '',
          items: standingPairs(state.writes).length,
          weights: bytesOf(state.weights),
        }),
      };
    },
  };
}

function pairOf(text: string, turn: Turn, index: number): Pair {
  const { time } = turn;
  const values = { n: String(index + 1), date: time ? spellTime(time) : '' };
  return {
    ...{ id: `text-${index + 1}`, instruction: fill(time ? RAW.dated : RAW.instruction, values) },
    ...{ output: text, source: text, turn: index, origin: originOf(turn) },
    ...(time === undefined ? {} : { time }),
  };
}

export const raw = spec('raw', 'Raw-text fine-tuning: fast weights trained on the turns themselves.', ({ engine }) => ({
  length: async (turns) => (await engine.tokenize(transcript(turns), { plain: true })).length,
  texts: async (turns) => turns.map((turn) => ({ text: transcriptLine(turn), turn })),
}));

export const trainedSummary = spec(
  'trained-summary',
  'Fast weights trained on summaries of what was read.',
  ({ engine, signal }) => {
    const prompt = (turns: readonly Turn[]): ChatMessage[] => [
      { role: 'system', content: SUMMARY.system },
      { role: 'user', content: [SUMMARY.section, transcript(turns), '', summaryDirective(TEXT_TOKENS)].join('\n') },
    ];
    return {
      length: (turns) => countTokens(engine, prompt(turns)),
      async texts(turns) {
        const request = { prompt: prompt(turns), maxTokens: TEXT_TOKENS, fastWeights: false, signal };
        const text = (await complete(engine, request)).text.trim();
        return text === '' ? [] : [{ text, turn: turns[0]! }];
      },
    };
  },
);
