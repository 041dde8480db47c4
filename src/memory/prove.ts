/** Evidence that a pair is forgotten: what the model thinks of its answer, against a model that never saw it. */

import { compareWeights } from '../engine/adapter/fast-weights.ts';
import type { Engine, FastWeights } from '../engine/types.ts';
import { meanLogProb } from './gate.ts';
import type { Pair } from './types.ts';

export interface Proof {
  readonly pair: Pair;
  /** Mean log-probability of a token of its answer: before and after forgetting, of the model that never saw it, and at Delta = 0. */
  readonly before: number;
  readonly after: number;
  readonly never: number;
  readonly base: number;
}

export interface Weights {
  readonly before: FastWeights | null;
  readonly after: FastWeights | null;
  /** Made from the whole ledger without the pairs. */
  readonly never: FastWeights | null;
}

/** Afterwards the weights of `after` are in force. `same`: they are those of the model that never saw the pairs, to the bit. */
export async function prove(
  engine: Engine,
  pairs: readonly Pair[],
  { before, after, never }: Weights,
  signal?: AbortSignal,
): Promise<{ same: boolean; deviation: number; proofs: Proof[] }> {
  const ask = (fastWeights: boolean) =>
    Promise.all(pairs.map((p) => meanLogProb(engine, p.instruction, p.output, fastWeights, signal)));
  const base = await ask(false);
  const found: number[][] = [];
  for (const weights of [before, never, after]) {
    await engine.setFastWeights(weights);
    found.push(await ask(true));
  }
  const [had, would, has] = found as [number[], number[], number[]];
  const proofs = pairs.map((pair, i) => ({ pair, before: had[i]!, after: has[i]!, never: would[i]!, base: base[i]! }));
  return { ...compareWeights(never, after), proofs };
}
