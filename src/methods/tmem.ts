/**
 * TMEM (arXiv 2606.04536) as this project makes it, its agent-side variants, and explicit memory alone. The loop, and what of it is not
 * the paper's, is in agent/episode.ts; the write in memory/write.ts. Here:
 * - The recipe is the default one. For ablations a name may be followed by settings, such as `tmem:recipe=paper+init=random`: see `getTmem`.
 * - `tmem` does not know the question while it reads. `tmem-aware` does, as in the paper's benchmarks: the extraction sees it, and the memory
 *   is made for it alone.
 * - The question is answered from theta0 + Delta with m in the context, in the form that all methods share; by `tmem-weights` without m, by
 *   `tmem-retrieve` with the nearest five pairs beside m. `explicit` is the same loop with Delta = 0.
 * - `tmem-recall` asks theta0 + Delta the bare question, nine times if it is not sure, and shows what it is surest of, if it is, to theta0, which answers in the form that is
 *   asked for: pairs are whole sentences, and so are the answers of what was trained on them. Where the ledger has a pair that says the same, the
 *   day on which that was said stands beside it.
 * - `tmem-hybrid` does so with the turns themselves as explicit memory, with dates (memory/dates.ts): it shows the turns nearest to the question,
 *   looked for in their context and by the pairs that were made from them, too (as documents are by the queries that a model expects for them:
 *   Nogueira et al., arXiv 1904.08375), and of the five nearest pairs those whose turn is not among them: read beside its turn, a pair was
 *   answered from in its place. `tmem-hybrid-text` shows the same without what the weights say. Read by theta0 + Delta it was answered worse
 *   (LOG.md).
 *
 * An engine has one Delta in force: no other of these methods may be open on it between the reading and the answers.
 */
import { isDeepStrictEqual } from 'node:util';
import { z } from 'zod';
import { answerQuestion } from '../agent/answer.ts';
import { Episode } from '../agent/episode.ts';
import { TmemError, throwIfAborted } from '../engine/errors.ts';
import { ABSTAIN } from '../memory/confidence.ts';
import { withDatesOf } from '../memory/dates.ts';
import { noteOf, standingPairs } from '../memory/ledger.ts';
import { dice, nearestInOrder } from '../memory/nearest.ts';
import { contentWords } from '../memory/recall.ts';
import { getRecipe, type Recipe } from '../memory/recipe.ts';
import { spellDay } from '../memory/spell-time.ts';
import type { Pair, Turn, Writer } from '../memory/types.ts';
import { writePairs } from '../memory/write.ts';
import { ANSWER_TOKENS, answerFrom, bytesOf, mostThatFit, taskOf } from './common.ts';
import { fill, RECOLLECTION } from './prompts.ts';
import { SHOWN } from './rag.ts';
import { Turns } from './turns.ts';
import type { Method, MethodOptions, MethodSpec } from './types.ts';

/** How often the weights are asked, at the most. */
const TRIES = 9;
/** Share of their words that two sentences have in common which say the same. */
const SAME = 0.8;

interface Variant {
  readonly aware?: boolean;
  /** Delta = 0. */
  readonly explicitOnly?: boolean;
  readonly useExplicit?: boolean;
  readonly retrieve?: number;
  /** The turns are kept, too, and those nearest to a question are shown beside it. */
  readonly turns?: boolean;
  /**
   * `weights` (default): theta0 + Delta answers. `recollection`: it is asked the bare question first, and theta0 answers with what it said, if it
   * was sure of it, among what is shown. `text`: theta0 answers.
   */
  readonly by?: 'weights' | 'recollection' | 'text';
  /** Default: the default recipe. */
  readonly recipe?: Recipe;
  /** In the place of the budget that all methods have. */
  readonly budget?: number;
}

/** What was read, and the memory that came of it; how a question is answered from it is up to a variant. */
interface Reading {
  readonly options: MethodOptions;
  readonly episode: Episode;
  readonly said: Turn[];
  /** What the weights said to questions since the last turn: variants that answer from one reading ask the same ones. */
  readonly recalled: Map<string, Promise<string | undefined>>;
}

/** All of a variant that takes part in its reading, all else left as it is by default. */
const asItReads = ({ aware = false, explicitOnly = false, recipe = getRecipe('default'), budget }: Variant) => ({
  ...{ aware, explicitOnly, recipe, budget },
});

async function openReading(options: MethodOptions, variant: Variant): Promise<Reading> {
  const { engine } = options;
  const { aware, explicitOnly, recipe, budget = options.budget } = asItReads(variant);
  const write: Writer = (state, pairs, step) => writePairs(engine, state, pairs, recipe, step);
  const episode = await Episode.open({
    ...{ engine, write, budget, method: explicitOnly ? 'explicit' : 'tmem' },
    ...(aware && { task: taskOf(true, options), questionAware: true }),
  });
  return { options, episode, said: [], recalled: new Map() };
}

/** @throws TmemError `usage` for a budget that has no room for the turns that the variant keeps. */
function answering(reading: Reading, variant: Variant): Method {
  const { options, episode, said, recalled } = reading;
  const { engine, signal } = options;
  const { explicitOnly = false, useExplicit = true, retrieve = 0, by = 'weights' } = variant;
  const turns = variant.turns ? new Turns(options, { embedder: options.embedder, inContext: true }) : undefined;
  let kept = 0;
  const keepTurns = async () => {
    if (!turns) return;
    for (; kept < said.length; kept++) await turns.observe(withDatesOf(said[kept]!));
    await turns.settle();
    const about = standingPairs(episode.snapshot.state.writes);
    await turns.describe(about.map((pair) => ({ turn: pair.turn, text: noteOf(pair) })));
  };
  const recollect = async (query: string): Promise<string | undefined> => {
    const asked = { useExplicit: false, abstain: ABSTAIN, tries: TRIES, maxTokens: ANSWER_TOKENS, signal };
    const { state } = episode.snapshot;
    if (!state.weights) return undefined;
    const { answer, abstained } = await answerQuestion(engine, state, query, asked);
    return abstained ? undefined : answer;
  };
  const recollectOnce = (query: string) => {
    const asked = recalled.get(query) ?? recollect(query);
    recalled.set(query, asked);
    return asked;
  };
  return {
    async observe(turn) {
      throwIfAborted(signal);
      await episode.observe(turn, { signal });
      recalled.clear();
      said.push(turn);
    },
    async settle() {
      throwIfAborted(signal);
      if (await episode.write({ signal })) recalled.clear();
      await keepTurns();
    },
    async answer(question) {
      const { text, maxTokens = ANSWER_TOKENS } = question;
      const { state } = episode.snapshot;
      if (by === 'weights') {
        const asked = { maxTokens, useExplicit, retrieve, signal };
        const { answer, tokens } = await answerQuestion(engine, state, text, asked);
        return { text: answer, contextTokens: tokens };
      }
      const query = question.query ?? text;
      const standing = standingPairs(state.writes);
      const pairs = nearestInOrder(standing, query, retrieve);
      const recollected = by === 'recollection' ? await recollectOnce(query) : undefined;
      const recollection = recollected === undefined ? '' : recollectionOf(recollected, standing);
      const layOut = (found: readonly number[]) => {
        const facts = pairs.filter(({ turn }) => !turns?.covers(found, turn)).map(noteOf);
        const texts = [useExplicit ? state.explicit : '', ...facts, turns?.layOut(found) ?? '', recollection];
        return texts.filter(Boolean).join('\n');
      };
      const shown = turns
        ? await mostThatFit(options, question, await turns.nearest(question, SHOWN), layOut)
        : layOut([]);
      return answerFrom(options, shown, question);
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
    async as(name) {
      const other = tmemVariant(name)?.variant;
      if (!other || !isDeepStrictEqual(asItReads(other), asItReads(variant))) return undefined;
      const method = answering(reading, other);
      await method.settle();
      return method;
    },
  };
}

/** What was recalled, with the day on which the pair was said that says the same. */
function recollectionOf(answer: string, pairs: readonly Pair[]): string {
  const said = new Set(contentWords(answer));
  const time = pairs.findLast(({ output }) => dice(said, new Set(contentWords(output))) >= SAME)?.time;
  if (time === undefined) return fill(RECOLLECTION.plain, { answer });
  return fill(RECOLLECTION.dated, { answer, day: spellDay(time) });
}

function specOf(name: string, { description, variant }: Described): MethodSpec {
  return {
    ...{ name, description, source: 'arXiv 2606.04536', aware: variant.aware ?? false },
    ...(variant.turns && { embeds: true }),
    open: async (options) => answering(await openReading(options, variant), variant),
  };
}

interface Described {
  readonly description: string;
  readonly variant: Variant;
}

const VARIANTS: Readonly<Record<string, Described>> = {
  tmem: { description: 'TMEM: fast weights trained on pairs, and a short explicit memory.', variant: {} },
  'tmem-aware': {
    description: "TMEM as in the paper's benchmarks: the extraction sees the question.",
    variant: { aware: true },
  },
  'tmem-weights': { description: 'TMEM answering from the weights alone.', variant: { useExplicit: false } },
  'tmem-retrieve': { description: 'TMEM with the five nearest pairs beside the question.', variant: { retrieve: 5 } },
  'tmem-recall': {
    description:
      'TMEM recollecting: what the weights say to the bare question is shown to the base model, beside the explicit memory.',
    variant: { by: 'recollection' },
  },
  'tmem-hybrid': {
    description:
      'TMEM with the turns themselves as explicit memory: what the weights say to the bare question, the nearest turns and pairs, read by the base model.',
    variant: { retrieve: 5, turns: true, useExplicit: false, by: 'recollection' },
  },
  'tmem-hybrid-text': {
    description:
      'The text of tmem-hybrid, answered by the base model: what the weights add to it is what tmem-hybrid has more.',
    variant: { retrieve: 5, turns: true, useExplicit: false, by: 'text' },
  },
  explicit: {
    description: 'The loop of TMEM with its explicit memory alone: Delta = 0.',
    variant: { explicitOnly: true },
  },
};

export const tmemMethods: readonly MethodSpec[] = Object.entries(VARIANTS).map(([name, described]) =>
  specOf(name, described),
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
 * One of the variants, or one with settings of its own as `NAME:KEY=VALUE+KEY=VALUE`: recipe, init, trainsA, rank, layers, epochs, and budget. A
 * rank is then that of every write, however many pairs it has.
 * @throws TmemError `usage` naming the settings there are; undefined when the name is not that of a variant.
 */
export function getTmem(whole: string): MethodSpec | undefined {
  const described = tmemVariant(whole);
  return described && specOf(whole, described);
}

function tmemVariant(whole: string): Described | undefined {
  const [name, ...given] = whole.split(':');
  const found = VARIANTS[name!];
  if (!found || given.length === 0) return found;
  const settings = given.join(':');
  const entries = settings.split('+').map((entry) => entry.split('=').map((part) => part.trim()));
  const parsed = settingsSchema.safeParse(Object.fromEntries(entries));
  if (!parsed.success || entries.some((entry) => entry.length !== 2)) {
    const keys = Object.keys(settingsSchema.shape).join(', ');
    throw new TmemError(
      'usage',
      `"${settings}" are no settings of ${name}; give KEY=VALUE, separated by +, of ${keys}.`,
    );
  }
  const { recipe, budget, rank, ...rest } = parsed.data;
  const changes = Object.fromEntries(Object.entries(rest).filter(([, value]) => value !== undefined));
  return {
    description: `${found.description} Settings: ${settings}.`,
    variant: {
      ...found.variant,
      recipe: { ...getRecipe(recipe), ...changes, ...(rank !== undefined && { rank, rankPerPair: 0 }) },
      ...(budget !== undefined && { budget }),
    },
  };
}
