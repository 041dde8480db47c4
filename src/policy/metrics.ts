/** What is told of a step, under the names that TRL's GRPOTrainer logs, as one line of `metrics.jsonl`. */
import { z } from 'zod';
import { plainWords } from '../tasks/scoring/text.ts';
import { type Advantages, mean } from './advantages.ts';
import { completionLength } from './gradient.ts';
import type { Rollout } from './rollout.ts';

/** `step` counts from 1; step 0 is the policy before the first one. */
export const metricsSchema = z.object({ step: z.int().nonnegative() }).catchall(z.number());
export type Metrics = z.infer<typeof metricsSchema>;

/** Those that a clock decides: all others are the same for the same seed. */
export const CLOCK_METRICS = ['step_time', 'tokens_per_second'] as const;

/** Of the episodes of a step, by group. */
export function rolloutMetrics(groups: readonly (readonly Rollout[])[], advantages: Advantages) {
  const rollouts = groups.flat();
  const lengths = rollouts.map(completionLength);
  const ended = lengths.filter((_, i) => !rollouts[i]!.truncated);
  return {
    reward: mean(rollouts.map(({ reward }) => reward)),
    reward_std: advantages.rewardStd,
    frac_reward_zero_std: advantages.zeroStd,
    'completions/mean_length': mean(lengths),
    'completions/min_length': Math.min(...lengths),
    'completions/max_length': Math.max(...lengths),
    'completions/clipped_ratio': 1 - ended.length / rollouts.length,
    'completions/mean_terminated_length': mean(ended),
    ...prefixed('figures/', meansOf(rollouts.map(episodeFigures))),
  };
}

/** Tokens of prompts and answers of all actions. */
export function tokensOf(rollouts: readonly Rollout[]): number {
  return rollouts
    .flatMap(({ actions }) => actions)
    .reduce((n, { prompt, answer }) => n + prompt.length + answer.length, 0);
}

/** What an episode gives beside the reward: the figures of its task, and how much of what is asked was written down. */
export function episodeFigures({ task, actions, answers }: Rollout): Record<string, number> {
  const figures = { ...task.figures?.(answers) };
  const extractions = actions.filter(({ kind }) => kind === 'extraction');
  if (extractions.length === 0) return figures;
  const kept = new Set(extractions.flatMap(({ text }) => plainWords(text)));
  // Of the words of each right answer.
  const extracted = task.questions.map(({ gold }) => mean(plainWords(gold).map((word) => (kept.has(word) ? 1 : 0))));
  return { ...figures, extracted: mean(extracted) };
}

/** By name, over those that have it. */
export function meansOf(all: readonly Readonly<Record<string, number>>[]): Record<string, number> {
  const names = [...new Set(all.flatMap((figures) => Object.keys(figures)))];
  return Object.fromEntries(names.map((name) => [name, mean(all.flatMap((figures) => figures[name] ?? []))]));
}

export function prefixed(prefix: string, values: Readonly<Record<string, number>>): Record<string, number> {
  return Object.fromEntries(Object.entries(values).map(([name, value]) => [prefix + name, value]));
}
