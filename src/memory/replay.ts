/** Which earlier pairs are trained again beside new ones. */
import type { Engine, FastWeights } from '../engine/types.ts';
import { pairSamples } from './samples.ts';
import type { Pair } from './types.ts';

/** Earlier pairs that are looked at: hidden states below the cut are kept, so one costs the trained layers and the head. */
const CANDIDATES = 256;

interface Looking {
  readonly turn: number;
  readonly layers: number;
  readonly signal?: AbortSignal | undefined;
}

/** At most `count` pairs with an answer token of this loss or more. */
interface Forgotten {
  readonly count: number;
  readonly loss: number;
}

/**
 * The `count` pairs that the weights remember worst, and more where more are forgotten, of some that are spread over all and move on with
 * every turn: the answer token with the highest loss decides ("maximally interfered retrieval", arXiv 1908.04742, but before the write).
 */
export async function replayedPairs(
  engine: Engine,
  earlier: readonly Pair[],
  weights: FastWeights,
  { count, forgotten, ...looking }: Looking & { readonly count: number; readonly forgotten: Forgotten },
): Promise<Pair[]> {
  const candidates = spreadOver(earlier, CANDIDATES, looking.turn);
  if (count === 0 || candidates.length <= count) return candidates.slice(0, count);
  const worst = await worstFirst(engine, candidates, weights, looking);
  return worst
    .filter(({ loss }, i) => i < count || (i < count + forgotten.count && loss >= forgotten.loss))
    .map(({ pair }) => pair);
}

/** Those of the same candidates that the weights do not say any more, worst first. */
export async function forgottenPairs(
  engine: Engine,
  earlier: readonly Pair[],
  weights: FastWeights,
  { count, loss: limit, ...looking }: Looking & Forgotten,
): Promise<Pair[]> {
  const worst = await worstFirst(engine, spreadOver(earlier, CANDIDATES, looking.turn), weights, looking);
  return worst
    .filter(({ loss }) => loss >= limit)
    .slice(0, count)
    .map(({ pair }) => pair);
}

async function worstFirst(engine: Engine, pairs: readonly Pair[], weights: FastWeights, { layers, signal }: Looking) {
  const samples = await pairSamples(engine, pairs);
  const { losses } = await engine.evaluate({ samples, weights, layers, signal });
  return pairs.map((pair, i) => ({ pair, loss: Math.max(...losses[i]!) })).sort((a, b) => b.loss - a.loss);
}

/** At most n pairs, evenly spread and moving on with every turn. */
export function spreadOver(pairs: readonly Pair[], n: number, turn: number): Pair[] {
  if (pairs.length <= n) return [...pairs];
  const step = pairs.length / n;
  return Array.from({ length: n }, (_, i) => pairs[Math.floor(i * step + ((turn * 0.618) % 1) * step) % pairs.length]!);
}
