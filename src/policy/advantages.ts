/** Advantages relative to a group (GRPO, arXiv 2402.03300), scaled as TRL's GRPOTrainer does (`scale_rewards`). */

/** `group`: by the deviation of each group; `batch`: by that of all rewards; `none`: not at all (Dr. GRPO, arXiv 2503.20783). */
export type ScaleRewards = 'group' | 'batch' | 'none';

export interface Advantages {
  /** By group and episode. */
  readonly values: readonly (readonly number[])[];
  /** Mean of the deviations that were looked at: of each group, or of the batch. */
  readonly rewardStd: number;
  /** Share of groups whose rewards are all the same, so that nothing can be learned from them. */
  readonly zeroStd: number;
}

/** Keeps the quotient finite; TRL's value. */
const EPS = 1e-4;
/** Below this a deviation counts as 0, as torch.isclose takes it. */
const CLOSE = 1e-8;

/** @param rewards by group and episode */
export function groupAdvantages(rewards: readonly (readonly number[])[], scale: ScaleRewards): Advantages {
  const whole = sampleDeviation(rewards.flat());
  const deviations = rewards.map((group) => (scale === 'batch' ? whole : sampleDeviation(group)));
  const values = rewards.map((group, g) => {
    const centre = mean(group);
    const by = scale === 'none' ? 1 : deviations[g]! + EPS;
    return group.map((reward) => (reward - centre) / by);
  });
  return {
    values,
    rewardStd: mean(deviations),
    zeroStd: deviations.filter((deviation) => deviation <= CLOSE).length / rewards.length,
  };
}

export function mean(values: ArrayLike<number>): number {
  let sum = 0;
  for (let i = 0; i < values.length; i++) sum += values[i]!;
  return values.length === 0 ? 0 : sum / values.length;
}

/** With n - 1, as torch.std; 0 of a single value. */
function sampleDeviation(values: readonly number[]): number {
  if (values.length < 2) return 0;
  const centre = mean(values);
  return Math.sqrt(values.reduce((sum, x) => sum + (x - centre) ** 2, 0) / (values.length - 1));
}
