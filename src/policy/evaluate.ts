/** How good the policy in force is on tasks that it was never trained on. */
import { z } from 'zod';
import type { Engine } from '../engine/types.ts';
import { turnSchema } from '../memory/types.ts';
import { mean } from './advantages.ts';
import type { Environment } from './environment.ts';
import { completionLength } from './gradient.ts';
import { episodeFigures, meansOf, prefixed } from './metrics.ts';
import type { Deltas } from './recorder.ts';
import { type Rollout, type RolloutSettings, rollOutGroups } from './rollout.ts';
import { seedOf } from './seeds.ts';

export interface EvaluationOptions {
  /** Steps that the policy was trained for. */
  readonly step: number;
  readonly tasks: number;
  /** 0 is greedy. */
  readonly temperature: number;
  readonly seed: number;
  readonly rollout: RolloutSettings;
  readonly signal?: AbortSignal | undefined;
  readonly onEpisode?: ((rollout: Rollout) => void) | undefined;
}

/** One episode, as it is shown to a person: a line of `samples.jsonl`. */
export const sampleSchema = z.object({
  /** Steps that the policy was trained for. */
  step: z.int().nonnegative(),
  task: z.string(),
  turns: z.array(turnSchema),
  /** What was written down, word for word. */
  extractions: z.array(z.string()),
  questions: z.array(z.object({ question: z.string(), gold: z.string(), answer: z.string() })),
  reward: z.number(),
});
export type EpisodeSample = z.infer<typeof sampleSchema>;

export interface PolicyEvaluation {
  /** By TRL's names: `eval_reward` and others. */
  readonly metrics: Readonly<Record<string, number>>;
  /** Of every task, in their order: its reward and its figures. */
  readonly episodes: readonly Readonly<Record<string, number>>[];
  readonly samples: readonly EpisodeSample[];
}

const SAMPLES = 3;

export async function evaluatePolicy(
  engine: Engine,
  environment: Environment,
  { step, tasks: count, temperature, seed, rollout, signal, onEpisode }: EvaluationOptions,
): Promise<PolicyEvaluation> {
  const tasks = await Promise.all(Array.from({ length: count }, (_, i) => environment.episode(i, 'held-out')));
  const deltas: Deltas = new Map();
  const options = { seed: seedOf(seed, 'evaluation'), deltas, signal, onEpisode };
  const rollouts = (await rollOutGroups(engine, tasks, 1, { ...rollout, temperature }, options)).flat();
  const figures = rollouts.map(episodeFigures);
  return {
    metrics: {
      eval_reward: mean(rollouts.map(({ reward }) => reward)),
      'eval_completions/mean_length': mean(rollouts.map(completionLength)),
      'eval_completions/clipped_ratio': mean(rollouts.map(({ truncated }) => (truncated ? 1 : 0))),
      ...prefixed('eval_figures/', meansOf(figures)),
    },
    episodes: rollouts.map(({ reward }, i) => ({ reward, ...figures[i] })),
    samples: rollouts.slice(0, SAMPLES).map((rollout) => sampleOf(rollout, step)),
  };
}

function sampleOf({ task, actions, answers, reward }: Rollout, step: number): EpisodeSample {
  return {
    step,
    task: task.id,
    turns: [...task.turns],
    extractions: actions.filter(({ kind }) => kind === 'extraction').map(({ text }) => text),
    questions: task.questions.map(({ text, gold }, i) => ({ question: text, gold, answer: answers[i] ?? '' })),
    reward,
  };
}
