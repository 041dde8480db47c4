/**
 * The policy's training of TMEM (arXiv 2606.04536): theta0 learns by GRPO from the outcome of whole episodes, from extraction and ordinary
 * actions alike. The gradient is taken at theta0 + Delta_t, with Delta_t, which the episode has written, held constant.
 *
 * What differs from the paper, and why:
 * - theta0 is a quantised base model and a LoRA over the last layers; the LoRA is trained. All parameters do not fit a laptop, and the
 *   layers below are then computed once for each token. A learning rate for it is some hundred times that of all parameters.
 * - Extractions go part by part and end with a note, as in agent/episode.ts; each is an action of its own. They are sampled without the
 *   JSON grammar that they have elsewhere, so that the log-probabilities are those of what was sampled; one that cannot be read counts as
 *   one that found nothing. What an agent would ask again for is not asked again.
 * - Pairs are still checked against what was said before they are written (agent/pairs.ts), but the gate, paraphrases and anchors of a write
 *   are left out: the outcome says whether it was good.
 * - The old log-probabilities are the training graph's at the first update, so that its ratios are exactly 1, and not those of the sampling
 *   engine, which rounds differently; how far these are apart is reported (`sampling/...`).
 * - A completion, in the sense of the loss types, is a whole episode: the tokens of all its actions, which share its advantage.
 * - Without KL, actions whose advantage is 0 are left out of the computation, and so of the mean entropy.
 * - Loss type, clipping and scaling are TRL's with its defaults; the paper names none. Its batch is taken as tasks, its group as episodes of
 *   each.
 * - A warm start (warm-start.ts) and a choice of what a write is (`rollout.write`), for models and machines that are too small for the rest.
 */
import { existsSync } from 'node:fs';
import { mkdir, rm } from 'node:fs/promises';
import path from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import { TmemError, throwIfAborted } from '../engine/errors.ts';
import { writeFileAtomic } from '../engine/files.ts';
import type { Engine } from '../engine/types.ts';
import { appendLine, readLines } from '../report/json-lines.ts';
import { initialPolicy } from './adapter.ts';
import { groupAdvantages, mean } from './advantages.ts';
import { hasCheckpoint, loadCheckpoint, saveCheckpoint, type TrainState } from './checkpoint.ts';
import type { Environment } from './environment.ts';
import { evaluatePolicy, sampleSchema } from './evaluate.ts';
import { type Completion, type GradientSettings, type LogProbs, logProbsOf, objectiveGradient } from './gradient.ts';
import { type Metrics, metricsSchema, rolloutMetrics, tokensOf } from './metrics.ts';
import { clipByNorm, learningRate, newAdamW, updateAdamW } from './optimizer.ts';
import type { Action, Deltas } from './recorder.ts';
import { rollOutGroups } from './rollout.ts';
import { seedOf } from './seeds.ts';
import type { TrainSettings } from './settings.ts';
import { type WarmStart, warmStart } from './warm-start.ts';

export type TrainPolicyEvent =
  /** An episode has ended: of the warm start, of a step, or of an evaluation after one. */
  | {
      readonly type: 'episode';
      readonly of: 'warm start' | 'step' | 'evaluation';
      readonly step: number;
      readonly reward: number;
    }
  | { readonly type: 'warm start'; readonly kept: number; readonly losses: readonly number[] }
  | { readonly type: 'metrics'; readonly metrics: Metrics };

export interface TrainPolicyOptions {
  /** Keeps checkpoint, `metrics.jsonl` and `samples.jsonl`. */
  readonly folder: string;
  /** Go on with the training that the folder holds. */
  readonly resume?: boolean;
  readonly signal?: AbortSignal | undefined;
  readonly onEvent?: (event: TrainPolicyEvent) => void;
}

export interface TrainedPolicy {
  readonly state: TrainState;
  /** All lines of `metrics.jsonl`. */
  readonly metrics: readonly Metrics[];
}

export const metricsFile = (folder: string) => path.join(folder, 'metrics.jsonl');
export const samplesFile = (folder: string) => path.join(folder, 'samples.jsonl');

/**
 * @throws TmemError `usage` when the folder holds another training, `missing` when there is none to resume, `aborted` when the signal fires:
 *   it can then be resumed from the last whole step.
 */
export async function trainPolicy(
  engine: Engine,
  environment: Environment,
  settings: TrainSettings,
  { folder, resume = false, signal, onEvent = () => {} }: TrainPolicyOptions,
): Promise<TrainedPolicy> {
  const { steps, batch, group, seed, iterations, rollout } = settings;
  const origin = { settings, environment: environment.name, model: engine.model.fingerprint };
  await mkdir(folder, { recursive: true });
  const tell = (metrics: Metrics) => {
    appendLine(metricsFile(folder), metrics);
    onEvent({ type: 'metrics', metrics });
  };
  const evaluateIfDue = async (step: number) => {
    const { evalEvery, evalTasks: tasks, evalTemperature: temperature } = settings;
    const due = step === 0 || step === steps || (evalEvery > 0 && step % evalEvery === 0);
    if (!due || tasks === 0) return;
    const onEpisode = ({ reward }: { reward: number }) => onEvent({ type: 'episode', of: 'evaluation', step, reward });
    const options = { step, tasks, temperature, seed, rollout, signal, onEpisode };
    const { metrics, samples } = await evaluatePolicy(engine, environment, options);
    for (const sample of samples) appendLine(samplesFile(folder), sample);
    tell({ step, ...metrics });
  };

  try {
    let state: TrainState;
    if (resume) {
      state = await stateToResume(folder, origin);
      await dropLinesBehind(folder, state.step);
    } else {
      if (hasCheckpoint(folder))
        throw new TmemError('usage', `${folder} holds a training; resume it, or give another folder.`);
      await dropLinesBehind(folder, -1);
      state = await begin(engine, environment, settings, { signal, onEvent });
      await engine.setPolicy(state.policy);
      await evaluateIfDue(0);
      await saveCheckpoint(folder, { state, ...origin });
    }

    for (let step = state.step + 1; step <= steps; step++) {
      throwIfAborted(signal);
      const start = performance.now();
      await engine.setPolicy(state.policy);

      // Whole episodes under theta0 + Delta_t, in groups that play the same task.
      const { tasks: drawn, reference } = state;
      const seeds = Array.from({ length: batch }, (_, i) => seedOf(seed, 'task', drawn + i));
      const tasks = await Promise.all(seeds.map((s) => environment.episode(s, 'train')));
      const deltas: Deltas = new Map();
      const groups = await rollOutGroups(engine, tasks, group, rollout, {
        ...{ seed: seedOf(seed, 'rollouts', step), deltas, signal },
        onEpisode: ({ reward }) => onEvent({ type: 'episode', of: 'step', step, reward }),
      });

      // The outcome of an episode, relative to its group, is the advantage of all its actions.
      const rewards = groups.map((rollouts) => rollouts.map(({ reward }) => reward));
      const advantages = groupAdvantages(rewards, settings.scaleRewards);
      const completions: Completion[] = groups.flatMap((rollouts, g) =>
        rollouts.map((rollout, i) => ({ rollout, advantage: advantages.values[g]![i]! })),
      );

      // Updates of theta0, with every Delta_t held constant.
      const objective = gradientSettings(settings);
      const actions = groups.flat().flatMap((rollout) => rollout.actions);
      const { temperature } = rollout;
      const referenceLogProbs =
        settings.beta > 0 ? await logProbsOf(engine, reference, actions, deltas, { temperature, signal }) : undefined;
      const lr = learningRate(step, settings);
      let { policy, optimizer } = state;
      let old: LogProbs | undefined;
      const updates: Record<string, number>[] = [];
      for (let i = 0; i < iterations; i++) {
        const given = { old, reference: referenceLogProbs, signal };
        const found = await objectiveGradient(engine, policy, completions, deltas, objective, given);
        const { gradient, norm } = clipByNorm(found.gradient, settings.maxGradNorm);
        ({ policy, state: optimizer } = updateAdamW(policy, gradient, optimizer, lr, settings));
        old ??= found.logProbs;
        updates.push({ loss: found.loss, grad_norm: norm, ...found.metrics });
      }

      const numTokens = state.numTokens + tokensOf(groups.flat());
      state = { ...state, step, tasks: drawn + batch, numTokens, policy, optimizer };
      const seconds = (performance.now() - start) / 1000;
      tell({
        ...{ step, ...meansOf(updates), ...rolloutMetrics(groups, advantages) },
        ...(temperature === 1 && samplingDifference(old!)),
        ...{ learning_rate: lr, num_tokens: numTokens, step_time: seconds },
        tokens_per_second: tokensOf(groups.flat()) / seconds,
      });
      await engine.setPolicy(policy);
      await evaluateIfDue(step);
      await saveCheckpoint(folder, { state, ...origin });
    }
    return { state, metrics: readLines(metricsFile(folder), metricsSchema) };
  } finally {
    await engine.setPolicy(null);
  }
}

/** A new policy, warm if that is asked for. */
async function begin(
  engine: Engine,
  environment: Environment,
  settings: TrainSettings,
  { signal, onEvent }: { signal: AbortSignal | undefined; onEvent: (event: TrainPolicyEvent) => void },
): Promise<TrainState> {
  let policy = await initialPolicy(engine, settings);
  if (settings.warmStart.epochs > 0) {
    await engine.setPolicy(policy);
    const onEpisode = ({ reward }: { reward: number }) =>
      onEvent({ type: 'episode', of: 'warm start', step: 0, reward });
    const warm: WarmStart = await warmStart(engine, environment, policy, settings, { signal, onEpisode });
    onEvent({ type: 'warm start', kept: warm.kept, losses: warm.losses });
    policy = warm.policy;
  }
  return { step: 0, tasks: 0, numTokens: 0, policy, reference: policy, optimizer: newAdamW(policy) };
}

async function stateToResume(
  folder: string,
  origin: { readonly settings: TrainSettings; readonly environment: string; readonly model: string },
): Promise<TrainState> {
  const { state, ...kept } = await loadCheckpoint(folder);
  // More or fewer steps are the same training, as nothing depends on their number.
  const comparable = (of: typeof origin) => ({ ...of, settings: { ...of.settings, steps: 0 } });
  if (!isDeepStrictEqual(comparable(kept), comparable(origin)))
    throw new TmemError('usage', `${folder} holds a training with another model, environment or settings.`);
  return state;
}

/** What was told of steps behind the checkpoint is told again. */
async function dropLinesBehind(folder: string, step: number): Promise<void> {
  for (const [file, schema] of [
    [metricsFile(folder), metricsSchema],
    [samplesFile(folder), sampleSchema],
  ] as const) {
    if (!existsSync(file)) continue;
    const kept = readLines(file, schema).filter((line) => line.step <= step);
    if (kept.length === 0) await rm(file);
    else
      await writeFileAtomic(file, (write) =>
        write(Buffer.from(kept.map((line) => `${JSON.stringify(line)}\n`).join(''))),
      );
  }
}

export function gradientSettings(settings: TrainSettings): GradientSettings {
  const { epsilon, epsilonHigh = epsilon, beta, lossType, gradientAccumulation, maskTruncated, rollout } = settings;
  const { maxCompletionLength, temperature } = rollout;
  const clipping = { epsilon, epsilonHigh, beta };
  return { ...clipping, lossType, gradientAccumulation, maskTruncated, maxCompletionLength, temperature };
}

function meansOf(updates: readonly Readonly<Record<string, number>>[]): Record<string, number> {
  return Object.fromEntries(Object.keys(updates[0]!).map((name) => [name, mean(updates.map((of) => of[name]!))]));
}

/** How far what was sampled under is from what is trained, in nats a token. */
function samplingDifference(trained: LogProbs): Record<string, number> {
  const apart = [...trained].flatMap(([action, logProbs]: [Action, Float64Array]) =>
    Array.from(logProbs, (logProb, t) => Math.abs(logProb - action.logProbs[t]!)),
  );
  if (apart.length === 0) return {};
  return {
    'sampling/sampling_logp_difference/mean': mean(apart),
    'sampling/sampling_logp_difference/max': apart.reduce((a, b) => Math.max(a, b), 0),
  };
}
