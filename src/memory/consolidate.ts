/** Many writes as one: all pairs that hold, trained together on fresh fast weights of one size. */
import { TmemError } from '../engine/errors.ts';
import type { Engine } from '../engine/types.ts';
import { standingPairs } from './ledger.ts';
import type { Recipe } from './recipe.ts';
import type { MemoryState, Pair, WriteRecord } from './types.ts';
import { type WriteOptions, writePairs } from './write.ts';

/** Passes over all pairs: what a shard learns of a few pairs, one LoRA has to learn of many. */
const EPOCHS = 60;

/**
 * Appends a record that holds no new pairs, and puts the new weights in the place of the old ones. Explicit memory stays.
 * @param rank of the new weights. Default: the recipe's.
 * @throws TmemError `usage` when there is nothing to consolidate, `refused` when the gate does not let it pass; the engine then has the
 * weights of `state` in force.
 */
export async function consolidate(
  engine: Engine,
  state: MemoryState,
  recipe: Recipe,
  { rank = recipe.rank, ...options }: WriteOptions & { readonly rank?: number | undefined } = {},
): Promise<{ state: MemoryState; record: WriteRecord }> {
  const pairs = standingPairs(state.writes);
  if (pairs.length === 0) throw new TmemError('usage', 'There is nothing in the weights to consolidate.');
  return writeTogether(engine, state, pairs, { ...recipe, rank }, options);
}

/** The same for given pairs, as a rebuild needs it. */
export async function writeTogether(
  engine: Engine,
  state: MemoryState,
  pairs: readonly Pair[],
  recipe: Recipe,
  options: WriteOptions,
): Promise<{ state: MemoryState; record: WriteRecord }> {
  const fresh: MemoryState = { ...state, writes: [], weights: null };
  const whole: Recipe = { ...recipe, rankPerPair: 0, epochs: Math.max(EPOCHS, recipe.epochs), paraphrased: 0 };
  try {
    const { state: after, record } = await writePairs(engine, fresh, [...pairs], whole, options);
    if (record.verdict === 'refused') throw new TmemError('refused', `Not consolidated: ${record.reason}.`);
    // All that it held is forgotten: what takes the place of everything is nothing.
    if (record.verdict === 'empty') await engine.setFastWeights(null);
    const consolidated = { rank: recipe.rank, pairs: pairs.map(({ id }) => id) };
    const appended: WriteRecord = { ...record, verdict: 'committed', pairs: [], consolidated };
    return {
      state: { ...state, weights: after.weights, writes: [...state.writes, appended] },
      record: appended,
    };
  } catch (error) {
    await engine.setFastWeights(state.weights);
    throw error;
  }
}
