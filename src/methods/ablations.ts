/**
 * The ablations of TMEM (arXiv 2606.04536) as lists of methods. Answers come from the weights alone, so that the explicit memory does not
 * hide what differs.
 */
import { TmemError } from '../engine/errors.ts';

const each = (key: string, values: readonly (string | number)[], recipe = 'default') =>
  values.map((value) => `tmem-weights:recipe=${recipe}+${key}=${value}`);

export const ABLATIONS: Readonly<Record<string, readonly string[]>> = {
  /** What is trained: pairs, summaries, the text itself. */
  supervision: ['tmem-weights', 'trained-summary', 'raw'],
  init: [...each('init', ['svd', 'random'], 'paper'), ...each('init', ['keys', 'svd', 'random'])],
  /** A frozen, or trained beside B. */
  a: ['svd', 'random'].flatMap((init) => each('trainsA', ['no', 'yes'], `paper+init=${init}`)),
  budget: each('budget', [512, 1024, 2048, 4096]),
  rank: each('rank', [2, 6, 16, 48]),
  layers: each('layers', [1, 2, 4, 8]),
  epochs: each('epochs', [5, 12, 24, 48]),
};

/** @throws TmemError `usage` naming the ablations. */
export function ablation(name: string): readonly string[] {
  const found = ABLATIONS[name];
  if (found) return found;
  throw new TmemError('usage', `There is no ablation "${name}"; choose one of ${Object.keys(ABLATIONS).join(', ')}.`);
}
