/**
 * TMEM (arXiv 2606.04536) as this project makes it, its agent-side variants, and explicit memory alone. The loop, and what of it is not
 * the paper's, is in agent/episode.ts; the write in memory/write.ts. Here:
 * - The recipe is the default one. For ablations a name may be followed by settings, such as `tmem:recipe=paper+init=random`: see `tmemWith`.
 * - `tmem` does not know the question while it reads. `tmem-aware` does, as in the paper's benchmarks: the extraction sees it, and the memory
 *   is made for it alone.
 * - The question is answered from theta0 + Delta with m in the context, in the form that all methods share; by `tmem-weights` without m, by
 *   `tmem-retrieve` with the nearest five pairs beside m. `explicit` is the same loop with Delta = 0.
 * - `tmem-hybrid` has the turns themselves as explicit memory: beside the five nearest pairs it shows the turns that `rag` would show, to
 *   theta0 + Delta.
 *
 * An engine has one Delta in force: no other of these methods may be open on it between the reading and the answers.
 */
import { z } from 'zod';
import { answerQuestion } from '../agent/answer.ts';
import { Episode } from '../agent/episode.ts';
import { TmemError, throwIfAborted } from '../engine/errors.ts';
import { noteOf, standingPairs } from '../memory/ledger.ts';
import { nearestPairs } from '../memory/nearest.ts';
import { getRecipe, type Recipe } from '../memory/recipe.ts';
import type { Writer } from '../memory/types.ts';
import { writePairs } from '../memory/write.ts';
import { ANSWER_TOKENS, answerFrom, bytesOf, mostThatFit, taskOf } from './common.ts';
import { SHOWN } from './rag.ts';
import { Turns } from './turns.ts';
import type { MethodSpec } from './types.ts';

interface Variant {
  readonly aware?: boolean;
  /** Delta = 0. */
  readonly explicitOnly?: boolean;
  readonly useExplicit?: boolean;
  readonly retrieve?: number;
  /** The turns are kept, too, and those nearest to a question are shown beside it. */
  readonly turns?: boolean;
  /** Default: the default recipe. */
  readonly recipe?: Recipe;
  /** In the place of the budget that all methods have. */
  readonly budget?: number;
}

function spec(name: string, description: string, variant: Variant = {}): MethodSpec {
  const { aware = false, explicitOnly = false, useExplicit = true, retrieve = 0 } = variant;
  const keepsTurns = variant.turns ?? false;
  const recipe = variant.recipe ?? getRecipe('default');
  return {
    ...{ name, description, source: 'arXiv 2606.04536', aware, ...(keepsTurns && { embeds: true }) },
    async open(options) {
      const { engine, signal } = options;
      const budget = variant.budget ?? options.budget;
      const write: Writer = (state, pairs, step) => writePairs(engine, state, pairs, recipe, step);
      const episode = await Episode.open({
        ...{ engine, write, budget, method: explicitOnly ? 'explicit' : 'tmem' },
        ...(aware && { task: taskOf(true, options), questionAware: true }),
      });
      const turns = keepsTurns ? new Turns(options, options.embedder) : undefined;
      return {
        async observe(turn) {
          throwIfAborted(signal);
          await episode.observe(turn, { signal });
          await turns?.observe(turn);
        },
        async settle() {
          throwIfAborted(signal);
          await episode.write({ signal });
          await turns?.settle();
        },
        async answer(question) {
          const { text, maxTokens = ANSWER_TOKENS } = question;
          if (turns) {
            const pairs = standingPairs(episode.snapshot.state.writes);
            const near = new Set(nearestPairs(pairs, question.query ?? text, retrieve).map(({ pair }) => pair));
            const facts = pairs.filter((pair) => near.has(pair)).map(noteOf);
            const layOut = (found: readonly number[]) => [...facts, turns.layOut(found)].join('\n');
            const shown = await mostThatFit(options, question, await turns.nearest(question, SHOWN), layOut);
            return answerFrom(options, shown, question, { fastWeights: true });
          }
          const asked = { maxTokens, useExplicit, retrieve, signal };
          const { answer, tokens } = await answerQuestion(engine, episode.snapshot.state, text, asked);
          return { text: answer, contextTokens: tokens };
        },
        async kept() {
          const { explicit, weights, writes } = episode.snapshot.state;
          const lines = (useExplicit ? explicit : '').split('\n').filter(Boolean);
          const pairs = standingPairs(writes);
          const shown = retrieve > 0 ? pairs.map(noteOf) : [];
          return {
            text: [...(turns?.chunks ?? []), ...lines, ...shown].join('\n'),
            items: explicitOnly ? lines.length : pairs.length,
            weights: bytesOf(weights),
          };
        },
      };
    },
  };
}

const VARIANTS: Readonly<Record<string, readonly [description: string, variant: Variant]>> = {
  tmem: ['TMEM: fast weights trained on pairs, and a short explicit memory.', {}],
  'tmem-aware': ["TMEM as in the paper's benchmarks: the extraction sees the question.", { aware: true }],
  'tmem-weights': ['TMEM answering from the weights alone.', { useExplicit: false }],
  'tmem-retrieve': ['TMEM with the five nearest pairs beside the question.', { retrieve: 5 }],
  'tmem-hybrid': [
    'TMEM with the turns themselves as explicit memory: the nearest of them and the nearest pairs beside the question.',
    { retrieve: 5, turns: true, useExplicit: false },
  ],
  explicit: ['The loop of TMEM with its explicit memory alone: Delta = 0.', { explicitOnly: true }],
};

export const tmemMethods: readonly MethodSpec[] = Object.entries(VARIANTS).map(([name, [description, variant]]) =>
  spec(name, description, variant),
);

const count = z.coerce.number().int().positive();
const settingsSchema = z.strictObject({
  recipe: z.string().default('default'),
  init: z.enum(['keys', 'null-space', 'svd', 'random']).optional(),
  rank: count.optional(),
  layers: count.optional(),
  epochs: count.optional(),
  trainsA: z.stringbool().optional(),
  budget: count.optional(),
});

/**
 * One of the variants with settings of its own, as `NAME:KEY=VALUE+KEY=VALUE`: recipe, init, trainsA, rank, layers, epochs, and budget. A rank is
 * then that of every write, however many pairs it has.
 * @throws TmemError `usage` naming the settings there are; undefined when the name is not that of a variant.
 */
export function tmemWith(whole: string): MethodSpec | undefined {
  const [, name = '', given = ''] = /^([^:]+):(.*)$/.exec(whole) ?? [];
  const found = VARIANTS[name];
  if (!found) return undefined;
  const entries = given.split('+').map((entry) => entry.split('=').map((part) => part.trim()));
  const parsed = settingsSchema.safeParse(Object.fromEntries(entries));
  if (!parsed.success || entries.some((entry) => entry.length !== 2)) {
    const keys = Object.keys(settingsSchema.shape).join(', ');
    throw new TmemError('usage', `"${given}" are no settings of ${name}; give KEY=VALUE, separated by +, of ${keys}.`);
  }
  const { recipe, budget, rank, ...rest } = parsed.data;
  const changes = Object.fromEntries(Object.entries(rest).filter(([, value]) => value !== undefined));
  const [description, variant] = found;
  return spec(whole, `${description} Settings: ${given}.`, {
    ...variant,
    recipe: { ...getRecipe(recipe), ...changes, ...(rank !== undefined && { rank, rankPerPair: 0 }) },
    ...(budget !== undefined && { budget }),
  });
}
