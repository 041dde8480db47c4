/** Which earlier pairs are trained again beside new ones. */
import type { Engine, FastWeights } from '../engine/types.ts';
import { pairSamples } from './samples.ts';
import type { Pair } from './types.ts';

/** Earlier pairs that are looked at: hidden states below the cut are kept, so one costs the trained layers and the head. */
const CANDIDATES = 256;

interface Choice {
  readonly count: number;
  /** At most this many more of those with an answer token of `forgotten.loss` or more. */
  readonly forgotten: { readonly count: number; readonly loss: number };
  readonly turn: number;
  readonly weights: FastWeights;
  readonly layers: number;
  readonly signal?: AbortSignal | undefined;
}

/**
 * The `count` pairs that the weights remember worst, and more where more are forgotten, of some that are spread over all and move on with
 * every turn: the answer token with the highest loss decides ("maximally interfered retrieval", arXiv 1908.04742, but before the write).
 */
export async function chooseReplayed(
  engine: Engine,
  earlier: readonly Pair[],
  { count, forgotten, turn, ...options }: Choice,
): Promise<Pair[]> {
  const candidates = spreadOver(earlier, CANDIDATES, turn);
  if (count === 0 || candidates.length <= count) return candidates.slice(0, count);
  const samples = await pairSamples(engine, candidates);
  const { losses } = await engine.evaluate({ samples, ...options });
  return candidates
    .map((pair, i) => ({ pair, worst: Math.max(...losses[i]!) }))
    .sort((a, b) => b.worst - a.worst)
    .filter(({ worst }, i) => i < count || (i < count + forgotten.count && worst >= forgotten.loss))
    .map(({ pair }) => pair);
}

/** At most n pairs, evenly spread and moving on with every turn. */
export function spreadOver(pairs: readonly Pair[], n: number, turn: number): Pair[] {
  if (pairs.length <= n) return [...pairs];
  const step = pairs.length / n;
  return Array.from({ length: n }, (_, i) => pairs[Math.floor(i * step + ((turn * 0.618) % 1) * step) % pairs.length]!);
}
