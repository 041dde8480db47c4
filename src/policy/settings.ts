/** All that a training depends on beside the model and the environment. */
import { z } from 'zod';
import { TmemError } from '../engine/errors.ts';
import { LOSS_TYPES } from './objective.ts';

const count = z.int().positive();
const size = z.int().nonnegative();
const share = z.number().min(0).lt(1);

export const rolloutSchema = z.strictObject({
  write: z.enum(['weights', 'explicit']).default('weights'),
  recipe: z.string().default('default'),
  budget: count.default(1024),
  extractUnderDelta: z.boolean().default(true),
  chunkTurns: count.default(1),
  earlierTurns: size.default(1),
  secondLook: z.boolean().default(false),
  format: z.enum(['json', 'lines']).default('json'),
  examples: size.optional(),
  note: z.boolean().default(true),
  grammar: z.boolean().default(false),
  temperature: z.number().positive().default(1),
  maxTokens: count.default(256),
  maxCompletionLength: count.default(1024),
  maxActions: count.default(256),
  answerTokens: count.default(48),
  parallel: count.default(8),
});

export const settingsSchema = z.strictObject({
  steps: count.default(40),
  /** Tasks of a step, and episodes of each. */
  batch: count.default(4),
  group: z.int().min(2).default(8),
  seed: size.default(1),

  rank: count.default(8),
  layers: count.default(8),
  targets: z.array(z.string()).min(1).optional(),

  scaleRewards: z.enum(['group', 'batch', 'none']).default('group'),
  lossType: z.enum(LOSS_TYPES).default('dapo'),
  epsilon: share.default(0.2),
  /** Default `epsilon`. */
  epsilonHigh: z.number().nonnegative().optional(),
  beta: z.number().nonnegative().default(0),
  /** Updates on the episodes of a step. */
  iterations: count.default(1),
  gradientAccumulation: count.default(1),
  maskTruncated: z.boolean().default(false),

  lr: z.number().positive().default(5e-4),
  warmupSteps: size.default(0),
  beta1: share.default(0.9),
  beta2: share.default(0.999),
  eps: z.number().positive().default(1e-8),
  weightDecay: z.number().nonnegative().default(0),
  /** 0: the gradient is not clipped. */
  maxGradNorm: z.number().nonnegative().default(1),

  /** Passes over the best extractions before the first step; 0: none. Episodes are sampled of so many tasks for it. */
  warmStart: z
    .strictObject({ epochs: size.default(0), tasks: count.default(16), lr: z.number().positive().default(5e-4) })
    .prefault({}),

  /** Steps between two evaluations on held-out tasks (0: before and after only), and tasks of one. 0 tasks: none at all. */
  evalEvery: size.default(10),
  evalTasks: size.default(32),
  /** 0 is greedy. */
  evalTemperature: z.number().nonnegative().default(0),

  rollout: rolloutSchema.prefault({}),
});
export type TrainSettings = z.output<typeof settingsSchema>;
export type TrainSettingsInput = z.input<typeof settingsSchema>;

/**
 * `laptop`: what two cores can do; at temperature 1 a small model says little that makes sense. `paper`: the paper's figures; which of a batch
 * and a group it counts, it does not say.
 */
const RECIPES: Readonly<Record<string, TrainSettingsInput>> = {
  laptop: { lr: 3e-3, rollout: { temperature: 0.5 } },
  paper: {
    ...{ steps: 200, batch: 64, group: 8, lr: 1e-6 },
    rollout: { recipe: 'paper', budget: 4096, maxTokens: 1024, maxCompletionLength: 16_384 },
  },
};

export const policyRecipes = Object.keys(RECIPES);

/** A recipe with some settings of one's own. @throws TmemError `usage` for an unknown recipe or a setting that makes no sense. */
export function trainSettings(recipe: string, own: TrainSettingsInput = {}): TrainSettings {
  const base = RECIPES[recipe];
  if (!base)
    throw new TmemError('usage', `There is no policy recipe "${recipe}"; use one of ${policyRecipes.join(', ')}.`);
  const merged = { ...base, ...defined(own), rollout: { ...base.rollout, ...defined(own.rollout ?? {}) } };
  const parsed = settingsSchema.safeParse(merged);
  if (parsed.success) return parsed.data;
  const { path, message } = parsed.error.issues[0]!;
  throw new TmemError('usage', `The setting ${path.join('.')} cannot be used: ${message}.`);
}

function defined<T extends object>(object: T): Partial<T> {
  return Object.fromEntries(Object.entries(object).filter(([, value]) => value !== undefined)) as Partial<T>;
}
