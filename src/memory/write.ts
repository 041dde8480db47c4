/**
 * The guarded write: train fast weights on pairs, quiz them, then commit or go back to the weights before. The paper trains B on the
 * newest pairs alone; what is added here, and why, is in `recipe.ts` and LOG.md (replay and anchors against forgetting, A from
 * whitened keys against spill, a gate against everything else).
 */
import { randomUUID } from 'node:crypto';
import { scaleB, stack } from '../engine/adapter/fast-weights.ts';
import { TmemError, throwIfAborted } from '../engine/errors.ts';
import type { Engine, FastWeights } from '../engine/types.ts';
import { ownAnswers } from './anchors.ts';
import type { Checkpoints } from './checkpoints.ts';
import { withWordings } from './expand.ts';
import { ordinaryAnswersChanged } from './gate.ts';
import { contradictions, standingPairs, supersededBy, unsupported } from './ledger.ts';
import { ORDINARY } from './ordinary.ts';
import { paraphrase } from './paraphrase.ts';
import { type Question, quiz, score } from './quiz.ts';
import { normalise } from './recall.ts';
import type { Recipe } from './recipe.ts';
import { spreadOver } from './replay.ts';
import { type Trained, trainWrite } from './train-write.ts';
import type { MemoryState, Pair, QuizResult, WriteEvent, WriteRecord } from './types.ts';

/** A write that leaves fewer of its own pairs recalled has taught nothing. */
const LEAST_RECALL = 0.25;
/** A write of which more pairs than this are not what their source says was not made by an extraction. */
const MOST_UNSUPPORTED = 0.5;
/** Earlier pairs that are asked, and the share of those right before that must still be. */
const EARLIER = { asked: 8, kept: 0.5 };
/** What B of a write is multiplied with, one after the other, until the gate lets it pass: Delta is linear in B. */
const BACK_OFF = [1, 0.8, 0.6];

export interface WriteOptions {
  /** Where the training is kept while it runs, and goes on from. */
  readonly checkpoints?: Checkpoints | undefined;
  readonly signal?: AbortSignal;
  readonly onEvent?: (event: WriteEvent) => void;
}

/**
 * One write on top of `state`. Afterwards the engine has the returned state's weights in force; when it throws, those of `state`.
 * @throws TmemError `aborted` when the signal fires.
 */
export async function writePairs(
  engine: Engine,
  state: MemoryState,
  given: readonly Pair[],
  recipe: Recipe,
  options: WriteOptions = {},
): Promise<{ state: MemoryState; record: WriteRecord }> {
  const start = performance.now();
  const { signal, onEvent = () => {} } = options;
  const loss: number[] = [];
  let pairs = [...given];
  let results: readonly QuizResult[] = [];
  const finish = (weights: FastWeights | null, verdict: WriteRecord['verdict'], reason?: string) => {
    const superseded = verdict === 'committed' ? supersededBy(state.writes, pairs) : [];
    const record: WriteRecord = {
      id: randomUUID(),
      time: new Date().toISOString(),
      pairs,
      recipe: recipe.name,
      layers: recipe.layers,
      verdict,
      ...(reason === undefined ? {} : { reason }),
      ...(superseded.length > 0 && { superseded }),
      ...(results.length > 0 && { quiz: [...results] }),
      loss,
      recalled: score(results, 'pair').right,
      ms: Math.round(performance.now() - start),
    };
    onEvent({ type: 'verdict', record });
    return { state: { ...state, weights, writes: [...state.writes, record] }, record };
  };
  if (pairs.length === 0) return finish(state.weights, 'empty');
  const flaw = recipe.gate ? flawOf(pairs) : undefined;
  if (flaw) return finish(state.weights, 'refused', flaw);

  const earlier = standingPairs(state.writes, pairs);
  const prompts = rotate(ORDINARY, recipe.anchors, state.writes.length).map((o) => o.instruction);
  const anchors = prompts.length > 0 ? await ownAnswers(engine, prompts, signal) : [];
  onEvent({ type: 'write-start', pairs: pairs.length, anchors: anchors.length });
  try {
    pairs = await withWordings(engine, pairs, recipe.expand, signal);
    const questions: Question[] = await questionsFor(engine, state, pairs, earlier, recipe, signal);
    let trained: Trained;
    try {
      trained = await trainWrite(engine, state, { pairs, earlier, anchors }, recipe, options, loss);
    } catch (error) {
      if (!(error instanceof TmemError) || error.code !== 'failed') throw error;
      await engine.setFastWeights(state.weights);
      return finish(state.weights, 'refused', error.message);
    }
    let reason: string | undefined;
    for (const factor of recipe.gate && recipe.mode === 'shard' ? BACK_OFF : [1]) {
      const weights = stack(trained.frozen, factor === 1 ? trained.weights : scaleB(trained.weights, factor));
      await engine.setFastWeights(weights);
      const [answers, changed] = await Promise.all([
        quiz(engine, questions, options),
        recipe.gate ? ordinaryAnswersChanged(engine, options) : undefined,
      ]);
      throwIfAborted(signal);
      results = answers;
      const { right } = score(answers, 'pair');
      const tooFew = recipe.gate && right < pairs.length * LEAST_RECALL;
      const { right: kept, asked } = score(answers, 'earlier');
      const lost = recipe.gate && kept < asked * EARLIER.kept;
      reason = tooFew
        ? `only ${right} of ${pairs.length} pairs were recalled`
        : lost
          ? `only ${kept} of ${asked} earlier pairs were still recalled`
          : changed;
      if (reason === undefined) return finish(weights, 'committed');
      // A smaller Delta recalls less: where it already recalls too little, backing off cannot help.
      if (tooFew) break;
    }
    await engine.setFastWeights(state.weights);
    return finish(state.weights, 'refused', reason);
  } catch (error) {
    await engine.setFastWeights(state.weights);
    throw error;
  }
}

/** What is wrong with the pairs themselves, or undefined. */
function flawOf(pairs: readonly Pair[]): string | undefined {
  const [against] = contradictions(pairs);
  if (against) return `two pairs answer "${against[0].instruction}" differently`;
  const { length } = unsupported(pairs);
  return length > pairs.length * MOST_UNSUPPORTED
    ? `${length} of ${pairs.length} pairs do not say what their source says`
    : undefined;
}

/** The pairs, each in other words, too, and some earlier ones that were recalled when they were last asked. */
async function questionsFor(
  engine: Engine,
  state: MemoryState,
  pairs: readonly Pair[],
  earlier: readonly Pair[],
  recipe: Recipe,
  signal: AbortSignal | undefined,
): Promise<Question[]> {
  const own = pairs.map((pair): Question => ({ kind: 'pair', pair }));
  if (!recipe.gate) return own;
  const reworded = await Promise.all(
    spreadOver(pairs, recipe.paraphrased, state.writes.length).map(async (pair) => {
      const trained = new Set(pair.also?.map(({ instruction }) => normalise(instruction)));
      const ways = trained.size > 0 ? 4 : 2;
      const questions = await paraphrase(engine, pair.instruction, { ways, signal });
      const unseen = questions.filter((question) => !trained.has(normalise(question)));
      return unseen.map((question): Question => ({ kind: 'paraphrase', pair, question }));
    }),
  );
  const last = new Map<string, boolean>();
  for (const { quiz: asked = [] } of state.writes)
    for (const { kind, pair, ok } of asked) if (kind !== 'paraphrase') last.set(pair, ok);
  const known = earlier.filter((pair) => last.get(pair.id));
  const before = spreadOver(known, EARLIER.asked, state.writes.length);
  return [...own, ...reworded.flat(), ...before.map((pair): Question => ({ kind: 'earlier', pair }))];
}

function rotate<T>(items: readonly T[], n: number, turn: number): T[] {
  if (items.length === 0) return [];
  return Array.from({ length: Math.min(n, items.length) }, (_, i) => items[(turn * n + i) % items.length]!);
}
