/** The gradient of GRPO's objective over the episodes of a step: taken at theta0 + Delta_t of every action, with Delta_t held constant. */
import type { Engine, FastWeights } from '../engine/types.ts';
import { mean } from './advantages.ts';
import { type LossType, lossFactors, type ObjectiveSettings, tokenTerms } from './objective.ts';
import { addGradients, type Gradient, zeroGradient } from './optimizer.ts';
import type { Action, Deltas } from './recorder.ts';
import type { Rollout } from './rollout.ts';

export interface GradientSettings extends ObjectiveSettings {
  readonly lossType: LossType;
  /** Micro-batches of a step, which differ from one whole batch in `bnpo` only. */
  readonly gradientAccumulation: number;
  /** Episodes that were cut off count as if they had no tokens. */
  readonly maskTruncated: boolean;
  readonly maxCompletionLength: number;
  readonly temperature: number;
}

export interface Completion {
  readonly rollout: Pick<Rollout, 'actions' | 'truncated'>;
  readonly advantage: number;
}

/** Of every answer token of an action. */
export type LogProbs = ReadonlyMap<Action, Float64Array>;

export interface ObjectiveGradient {
  readonly gradient: Gradient;
  readonly loss: number;
  /** At the policy that the gradient was taken at. */
  readonly logProbs: LogProbs;
  /** Means over tokens, by TRL's names; of entropy there is none where no action was computed. */
  readonly metrics: Readonly<Record<string, number>>;
}

interface Entry {
  readonly action: Action;
  readonly advantage: number;
  readonly factor: number;
}

/**
 * @param old log-probabilities before the first update on these episodes; undefined: this is the first, and every ratio is 1
 * @param reference needed with beta
 */
export async function objectiveGradient(
  engine: Engine,
  policy: FastWeights,
  completions: readonly Completion[],
  deltas: Deltas,
  settings: GradientSettings,
  { old, reference, signal }: { old?: LogProbs; reference?: LogProbs; signal?: AbortSignal | undefined } = {},
): Promise<ObjectiveGradient> {
  const { temperature } = settings;
  const entries = entriesOf(completions, settings);
  const actions = entries.map(({ action }) => action);
  // With neither an earlier policy nor a reference the weights follow from the advantages alone.
  const first = !old && settings.beta === 0;
  const before = first ? undefined : await logProbsOf(engine, policy, actions, deltas, { temperature, signal });
  const terms = ({ action, advantage }: Entry, logProbs: Float64Array) => {
    const [then, at] = [old?.get(action), reference?.get(action)];
    return Array.from(logProbs, (logProb, t) =>
      tokenTerms({ advantage, logProb, old: then?.[t] ?? logProb, reference: at?.[t] }, settings),
    );
  };
  const logProbs = new Map<Action, Float64Array>();
  const entropies: number[] = [];
  let gradient = zeroGradient(policy);
  for (const [hash, group] of Map.groupBy(entries, ({ action }) => action.delta)) {
    const samples = group.map((entry) => {
      const { prompt, answer } = entry.action;
      const weights = before
        ? terms(entry, before.get(entry.action)!).map(({ weight }) => weight * entry.factor)
        : answer.map(() => entry.advantage * entry.factor);
      return { prompt, answer, weights };
    });
    const found = await engine.policyGradient({ policy, delta: deltaOf(deltas, hash), samples, temperature, signal });
    gradient = addGradients(gradient, found.tensors);
    for (const [i, { action }] of group.entries()) {
      logProbs.set(action, found.logProbs[i]!);
      for (const entropy of found.entropies[i]!) entropies.push(entropy);
    }
  }
  let loss = 0;
  const kl: number[] = [];
  const low: number[] = [];
  const high: number[] = [];
  for (const entry of entries) {
    for (const term of terms(entry, before?.get(entry.action) ?? logProbs.get(entry.action)!)) {
      loss += entry.factor * term.loss;
      kl.push(term.kl);
      low.push(term.clipped === 'low' ? 1 : 0);
      high.push(term.clipped === 'high' ? 1 : 0);
    }
  }
  return {
    ...{ gradient, loss, logProbs },
    metrics: {
      ...(entropies.length > 0 && { entropy: mean(entropies) }),
      ...(settings.beta > 0 && { kl: mean(kl) }),
      'clip_ratio/low_mean': mean(low),
      'clip_ratio/high_mean': mean(high),
      'clip_ratio/region_mean': mean(low) + mean(high),
    },
  };
}

/** Log-probabilities of actions under a policy, each with the Delta that it was sampled under. */
export async function logProbsOf(
  engine: Engine,
  policy: FastWeights,
  actions: readonly Action[],
  deltas: Deltas,
  { temperature, signal }: { readonly temperature: number; readonly signal?: AbortSignal | undefined },
): Promise<LogProbs> {
  const logProbs = new Map<Action, Float64Array>();
  for (const [hash, group] of Map.groupBy(actions, ({ delta }) => delta)) {
    const samples = group.map(({ prompt, answer }) => ({ prompt, answer, weights: answer.map(() => 0) }));
    const request = { policy, delta: deltaOf(deltas, hash), samples, temperature, gradient: false, signal };
    const found = await engine.policyGradient(request);
    for (const [i, action] of group.entries()) logProbs.set(action, found.logProbs[i]!);
  }
  return logProbs;
}

/** Tokens of all actions of an episode. */
export function completionLength({ actions }: Pick<Rollout, 'actions'>): number {
  return actions.reduce((n, { answer }) => n + answer.length, 0);
}

/** The actions that can have a gradient: without KL an advantage of 0 has none. */
function entriesOf(completions: readonly Completion[], settings: GradientSettings): Entry[] {
  const { lossType, gradientAccumulation, maskTruncated, maxCompletionLength, beta } = settings;
  const tokens = completions.reduce((n, { rollout }) => n + completionLength(rollout), 0);
  const size = Math.ceil(completions.length / gradientAccumulation);
  const microBatches = Math.ceil(completions.length / size);
  return Array.from({ length: microBatches }, (_, i) => completions.slice(i * size, (i + 1) * size)).flatMap((part) => {
    const masked = part.map(({ rollout }) => maskTruncated && rollout.truncated);
    const lengths = part.map(({ rollout }, i) => (masked[i] ? 0 : completionLength(rollout)));
    const factors = lossFactors(lossType, lengths, { microBatches, tokens, maxCompletionLength });
    return part.flatMap(({ rollout, advantage }, i) => {
      if (masked[i] || (advantage === 0 && beta === 0)) return [];
      return rollout.actions.map((action) => ({ action, advantage, factor: factors[i]! }));
    });
  });
}

function deltaOf(deltas: Deltas, hash: string | null): FastWeights | null {
  return hash === null ? null : deltas.get(hash)!;
}
