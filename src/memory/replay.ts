/** Which earlier pairs are trained again beside new ones. */
import type { Engine, FastWeights } from '../engine/types.ts';
import { pairSamples } from './samples.ts';
import type { Pair } from './types.ts';

/** Earlier pairs that are looked at for each one that is replayed: the cost of looking grows with them. */
const CANDIDATES = 4;

interface Choice {
  readonly count: number;
  readonly turn: number;
  readonly weights: FastWeights;
  readonly layers: number;
  readonly signal?: AbortSignal | undefined;
}

/**
 * The `count` pairs that the weights remember worst, of some that are spread over all and move on with every turn: the answer token with the
 * highest loss decides ("maximally interfered retrieval", arXiv 1908.04742, but before the write).
 */
export async function chooseReplayed(
  engine: Engine,
  earlier: readonly Pair[],
  { count, turn, ...options }: Choice,
): Promise<Pair[]> {
  const candidates = spreadOver(earlier, count * CANDIDATES, turn);
  if (candidates.length <= count) return candidates;
  const samples = await pairSamples(engine, candidates);
  const { losses } = await engine.evaluate({ samples, ...options });
  return candidates
    .map((pair, i) => ({ pair, worst: Math.max(...losses[i]!) }))
    .sort((a, b) => b.worst - a.worst)
    .slice(0, count)
    .map(({ pair }) => pair);
}

/** At most n pairs, evenly spread and moving on with every turn. */
export function spreadOver(pairs: readonly Pair[], n: number, turn: number): Pair[] {
  if (pairs.length <= n) return [...pairs];
  const step = pairs.length / n;
  return Array.from({ length: n }, (_, i) => pairs[Math.floor(i * step + ((turn * 0.618) % 1) * step) % pairs.length]!);
}
