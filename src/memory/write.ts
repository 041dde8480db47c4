/**
 * The guarded write: train fast weights on pairs, quiz them, then commit or go back to the weights before. The paper trains B on the
 * newest pairs alone; what is added here, and why, is in `recipe.ts` and LOG.md (replay and anchors against forgetting, A from
 * whitened keys against spill, a gate against everything else).
 */
import { randomUUID } from 'node:crypto';
import { TmemError, throwIfAborted } from '../engine/errors.ts';
import { complete, type Engine, type FastWeights, type Sample } from '../engine/types.ts';
import { asSamples, type OwnAnswer, ownAnswers } from './anchors.ts';
import { scaleB, stack } from './fast-weights.ts';
import { ordinaryAnswersChanged } from './gate.ts';
import { ORDINARY, ordinarySamples } from './ordinary.ts';
import { normalise, recalls } from './recall.ts';
import type { Recipe } from './recipe.ts';
import type { MemoryState, Pair, WriteEvent, WriteRecord } from './types.ts';

/** A write that leaves fewer of its own pairs recalled has taught nothing. */
const LEAST_RECALL = 0.25;
const MOST_RANK = 64;
/** Earlier pairs that are looked at for each one that is replayed: the cost of looking grows with them. */
const REPLAY_CANDIDATES = 4;
/** What B of a write is multiplied with, one after the other, until the gate lets it pass: Delta is linear in B. */
const BACK_OFF = [1, 0.8, 0.6];

export interface WriteOptions {
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
  pairs: Pair[],
  recipe: Recipe,
  options: WriteOptions = {},
): Promise<{ state: MemoryState; record: WriteRecord }> {
  const start = performance.now();
  const { signal, onEvent = () => {} } = options;
  const loss: number[] = [];
  const finish = (weights: FastWeights | null, verdict: WriteRecord['verdict'], recalled: number, reason?: string) => {
    const record: WriteRecord = {
      id: randomUUID(),
      time: new Date().toISOString(),
      pairs,
      recipe: recipe.name,
      layers: recipe.layers,
      verdict,
      ...(reason === undefined ? {} : { reason }),
      loss,
      recalled,
      ms: Math.round(performance.now() - start),
    };
    onEvent({ type: 'verdict', record });
    return { state: { ...state, weights, writes: [...state.writes, record] }, record };
  };
  if (pairs.length === 0) return finish(state.weights, 'empty', 0);

  const earlier = standingPairs(state.writes, pairs);
  const candidates = spreadOver(earlier, recipe.replay * REPLAY_CANDIDATES, state.writes.length);
  const prompts = rotate(ORDINARY, recipe.anchors, state.writes.length).map((o) => o.instruction);
  const anchors = prompts.length > 0 ? await ownAnswers(engine, prompts, signal) : [];
  const replayed = Math.min(candidates.length, recipe.replay);
  onEvent({ type: 'write-start', pairs: pairs.length, replayed, anchors: anchors.length });
  try {
    let trained: Trained;
    try {
      trained = await trainWrite(
        engine,
        state,
        pairs,
        { earlier, candidates, replayed, anchors },
        recipe,
        options,
        loss,
      );
    } catch (error) {
      if (!(error instanceof TmemError) || error.code !== 'failed') throw error;
      await engine.setFastWeights(state.weights);
      return finish(state.weights, 'refused', 0, error.message);
    }
    let recalled = 0;
    let reason: string | undefined;
    for (const factor of recipe.gate && recipe.mode === 'shard' ? BACK_OFF : [1]) {
      const weights = stack(trained.frozen, factor === 1 ? trained.weights : scaleB(trained.weights, factor));
      await engine.setFastWeights(weights);
      const [right, changed] = await Promise.all([
        quiz(engine, pairs, options),
        recipe.gate ? ordinaryAnswersChanged(engine, options) : undefined,
      ]);
      throwIfAborted(signal);
      recalled = right;
      const tooFew = recipe.gate && recalled < pairs.length * LEAST_RECALL;
      reason = tooFew ? `only ${recalled} of ${pairs.length} pairs were recalled` : changed;
      if (reason === undefined) return finish(weights, 'committed', recalled);
      // A smaller Delta recalls less: where it already recalls too little, backing off cannot help.
      if (tooFew) break;
    }
    await engine.setFastWeights(state.weights);
    return finish(state.weights, 'refused', recalled, reason);
  } catch (error) {
    await engine.setFastWeights(state.weights);
    throw error;
  }
}

interface Trained {
  readonly weights: FastWeights;
  /** What they were trained on top of. */
  readonly frozen: FastWeights | null;
}

interface Material {
  /** Earlier pairs whose inputs Delta is kept from. */
  readonly earlier: readonly Pair[];
  /** Earlier pairs of which the weakest are replayed. */
  readonly candidates: readonly Pair[];
  /** How many of them. */
  readonly replayed: number;
  readonly anchors: readonly OwnAnswer[];
}

async function trainWrite(
  engine: Engine,
  state: MemoryState,
  pairs: readonly Pair[],
  material: Material,
  recipe: Recipe,
  options: WriteOptions,
  loss: number[],
): Promise<Trained> {
  const { signal, onEvent = () => {} } = options;
  const { layers } = recipe;
  const rank = Math.max(recipe.rank, Math.min(MOST_RANK, Math.ceil(pairs.length * recipe.rankPerPair)));
  const render = (list: readonly Pair[]) => Promise.all(list.map((p) => engine.renderSample(p.instruction, p.output)));
  const fresh = await render(pairs);
  const samples: Sample[] = [...fresh, ...(await asSamples(engine, material.anchors))];
  const replay = { samples: await render(material.candidates), count: recipe.replay };
  let weights: FastWeights;
  let frozen: FastWeights | undefined;
  if (recipe.mode === 'continue' && state.weights) {
    weights = state.weights;
  } else {
    frozen = state.weights ?? undefined;
    const init =
      recipe.init === 'keys'
        ? {
            kind: 'keys' as const,
            samples: fresh,
            ordinary: await ordinarySamples(engine),
            scale: recipe.scale,
            ridge: recipe.ridge,
          }
        : { kind: recipe.init };
    weights = await engine.initialise({ init, rank, layers, seed: state.writes.length, frozen, signal });
  }
  const totalSteps = recipe.epochs * Math.ceil((samples.length + material.replayed) / recipe.batch);
  const result = await engine.train(
    {
      samples,
      weights,
      frozen,
      optimizer: recipe.optimizer,
      epochs: recipe.epochs,
      batch: recipe.batch,
      stop: {
        samples: pairs.length,
        loss: recipe.stopLoss,
        share: recipe.stopShare,
        patience: recipe.patience || undefined,
      },
      candidates: recipe.candidates,
      replay,
      still: recipe.still > 0 ? { samples: await render(material.earlier), strength: recipe.still } : undefined,
      signal,
    },
    (event) => {
      if (event.type === 'step') loss.push(event.loss);
      onEvent({ type: 'train', event, totalSteps });
    },
  );
  return { weights: result.weights, frozen: frozen ?? null };
}

/** Asks each pair with an empty context. @returns how many answers hold the pair's output. */
async function quiz(
  engine: Engine,
  pairs: readonly Pair[],
  { signal, onEvent = () => {} }: WriteOptions,
): Promise<number> {
  const results = await Promise.all(
    pairs.map(async ({ instruction, output }) => {
      const prompt = [{ role: 'user' as const, content: instruction }];
      // Where every token of the output is the most probable one, it is what greedy decoding says: reading is faster than writing.
      const { tokens, greedy } = await engine.score({ prompt, answer: output, signal });
      const text = greedy.every(Boolean)
        ? output
        : (await complete(engine, { prompt, maxTokens: tokens.length + 12, signal })).text;
      const ok = recalls(text, { instruction, output });
      onEvent({ type: 'quiz', kind: 'pair', question: instruction, answer: text.trim(), ok });
      return ok;
    }),
  );
  return results.filter(Boolean).length;
}

/** Pairs of committed writes that still hold: of several answers to one question the last, and none to what `newer` answer again. */
export function standingPairs(writes: readonly WriteRecord[], newer: readonly Pair[] = []): Pair[] {
  const byQuestion = new Map<string, Pair>();
  for (const write of writes)
    if (write.verdict === 'committed')
      for (const pair of write.pairs) byQuestion.set(normalise(pair.instruction), pair);
  for (const pair of newer) byQuestion.delete(normalise(pair.instruction));
  return [...byQuestion.values()];
}

/** At most n earlier pairs, evenly spread over the ledger and moving on with every write. */
function spreadOver(earlier: readonly Pair[], n: number, turn: number): Pair[] {
  if (earlier.length <= n) return [...earlier];
  const step = earlier.length / n;
  return Array.from(
    { length: n },
    (_, i) => earlier[Math.floor(i * step + ((turn * 0.618) % 1) * step) % earlier.length]!,
  );
}

function rotate<T>(items: readonly T[], n: number, turn: number): T[] {
  if (items.length === 0) return [];
  return Array.from({ length: Math.min(n, items.length) }, (_, i) => items[(turn * n + i) % items.length]!);
}
