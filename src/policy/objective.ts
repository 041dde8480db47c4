/**
 * GRPO's objective (arXiv 2402.03300): for every token min(r A, clip(r) A) - beta KL, with r = pi / pi_old, as TRL's GRPOTrainer computes it.
 * The engine takes the gradient of -sum w log p, so each token's w is the derivative of what is maximised by log p at its present value:
 * r A where the ratio is not clipped and 0 where it is, and beta (pi_ref / pi - 1) of the KL term.
 */

export interface ObjectiveSettings {
  /** The ratio counts from 1 - epsilon to 1 + epsilonHigh. */
  readonly epsilon: number;
  readonly epsilonHigh: number;
  /** Weight of the KL divergence from the reference. 0: none, and no reference is asked. */
  readonly beta: number;
}

export interface TokenTerms {
  readonly loss: number;
  /** w of the token, before it is shared out over the batch. */
  readonly weight: number;
  readonly clipped: 'low' | 'high' | undefined;
  /** Schulman's k3 estimate of KL(pi, pi_ref): x - log x - 1 of x = pi_ref / pi, which is never negative. */
  readonly kl: number;
}

/** Of one token; all three probabilities are natural logarithms. */
export function tokenTerms(
  token: { readonly advantage: number; readonly logProb: number; readonly old: number; readonly reference?: number },
  { epsilon, epsilonHigh, beta }: ObjectiveSettings,
): TokenTerms {
  const { advantage, logProb, old, reference = logProb } = token;
  const ratio = Math.exp(logProb - old);
  const bounded = Math.min(Math.max(ratio, 1 - epsilon), 1 + epsilonHigh);
  const low = ratio < 1 - epsilon && advantage < 0;
  const high = ratio > 1 + epsilonHigh && advantage > 0;
  const toReference = Math.exp(reference - logProb);
  const kl = toReference - (reference - logProb) - 1;
  return {
    loss: -Math.min(ratio * advantage, bounded * advantage) + beta * kl,
    weight: (low || high ? 0 : ratio * advantage) + beta * (toReference - 1),
    clipped: low ? 'low' : high ? 'high' : undefined,
    kl,
  };
}

/**
 * How the tokens' losses become one, by TRL's names:
 * - `grpo`: mean over a completion's tokens, then over completions;
 * - `bnpo`: mean over the tokens of a micro-batch;
 * - `dr_grpo`: sum over all tokens, by completions times the greatest length of one;
 * - `dapo`: mean over the tokens of the whole step.
 * A completion is here a whole episode: all tokens of its actions.
 */
export const LOSS_TYPES = ['grpo', 'bnpo', 'dr_grpo', 'dapo'] as const;
export type LossType = (typeof LOSS_TYPES)[number];

/**
 * What a token of each completion of a micro-batch is multiplied with.
 * @param lengths tokens of each completion that count: 0 of one that is masked
 */
export function lossFactors(
  type: LossType,
  lengths: readonly number[],
  batch: {
    readonly microBatches: number;
    /** Tokens of all completions of the step, those that are masked as well. */
    readonly tokens: number;
    readonly maxCompletionLength: number;
  },
): number[] {
  const n = lengths.length;
  const sum = lengths.reduce((a, b) => a + b, 0);
  switch (type) {
    case 'grpo':
      return lengths.map((length) => 1 / (Math.max(length, 1) * n * batch.microBatches));
    case 'bnpo':
      return lengths.map(() => 1 / (Math.max(sum, 1) * batch.microBatches));
    case 'dr_grpo':
      return lengths.map(() => 1 / (n * batch.maxCompletionLength * batch.microBatches));
    case 'dapo':
      return lengths.map(() => 1 / Math.max(batch.tokens, 1));
  }
}
