/**
 * A warm start by rejection sampling (as in STaR, arXiv 2203.14465): episodes are sampled under the policy in force, and it is trained to
 * repeat the extractions of the best one of every group. Not in the paper, which begins with models that extract well enough: it is for
 * small ones whose groups would all fail.
 */
import { throwIfAborted } from '../engine/errors.ts';
import type { Engine, FastWeights } from '../engine/types.ts';
import { mean } from './advantages.ts';
import type { Environment } from './environment.ts';
import { addGradients, clipByNorm, newAdamW, updateAdamW, zeroGradient } from './optimizer.ts';
import type { Action, Deltas } from './recorder.ts';
import { type Rollout, rollOutGroups } from './rollout.ts';
import { seedOf } from './seeds.ts';
import type { TrainSettings } from './settings.ts';

export interface WarmStart {
  readonly policy: FastWeights;
  /** Extractions that were trained on. */
  readonly kept: number;
  /** Mean over answer tokens before each update. */
  readonly losses: readonly number[];
}

/** Actions of an update. */
const BATCH = 16;

export async function warmStart(
  engine: Engine,
  environment: Environment,
  initial: FastWeights,
  settings: TrainSettings,
  { signal, onEpisode }: { signal?: AbortSignal | undefined; onEpisode?: (rollout: Rollout) => void } = {},
): Promise<WarmStart> {
  const { seed, group, rollout, maxGradNorm } = settings;
  const { tasks: count, epochs, lr } = settings.warmStart;
  const seeds = Array.from({ length: count }, (_, i) => seedOf(seed, 'warm start', i));
  const tasks = await Promise.all(seeds.map((s) => environment.episode(s, 'train')));
  const deltas: Deltas = new Map();
  const options = { seed: seedOf(seed, 'warm start'), deltas, signal, onEpisode };
  const kept = (await rollOutGroups(engine, tasks, group, rollout, options)).flatMap(bestExtractions);
  let policy = initial;
  let optimizer = newAdamW(policy);
  const losses: number[] = [];
  for (let epoch = 0; epoch < epochs; epoch++) {
    for (let from = 0; from < kept.length; from += BATCH) {
      throwIfAborted(signal);
      const { gradient, loss } = await likelihood(engine, policy, kept.slice(from, from + BATCH), deltas, signal);
      losses.push(loss);
      const clipped = clipByNorm(gradient, maxGradNorm);
      ({ policy, state: optimizer } = updateAdamW(policy, clipped.gradient, optimizer, lr, settings));
    }
  }
  return { policy, kept: kept.length, losses };
}

/** Those of the best episode of a group, if it was better than others. */
export function bestExtractions(group: readonly Rollout[]): Action[] {
  const best = group.reduce((a, b) => (b.reward > a.reward ? b : a));
  if (best.reward <= mean(group.map(({ reward }) => reward))) return [];
  return best.actions.filter(({ kind, answer }) => kind === 'extraction' && answer.length > 0);
}

/** Mean negative log-likelihood of the actions' tokens, and its gradient. */
async function likelihood(
  engine: Engine,
  policy: FastWeights,
  actions: readonly Action[],
  deltas: Deltas,
  signal: AbortSignal | undefined,
) {
  const weight = 1 / actions.reduce((n, { answer }) => n + answer.length, 0);
  let gradient = zeroGradient(policy);
  let loss = 0;
  for (const [hash, some] of Map.groupBy(actions, ({ delta }) => delta)) {
    const samples = some.map(({ prompt, answer }) => ({ prompt, answer, weights: answer.map(() => weight) }));
    const delta = hash === null ? null : deltas.get(hash)!;
    const found = await engine.policyGradient({ policy, delta, samples, signal });
    gradient = addGradients(gradient, found.tensors);
    for (const logProbs of found.logProbs) for (const logProb of logProbs) loss -= weight * logProb;
  }
  return { gradient, loss };
}
