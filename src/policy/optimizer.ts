/** AdamW (arXiv 1711.05101, as in PyTorch) on the A and B of a policy, clipping by the global norm, and the learning rate's warm-up. */
import type { FastWeights, PolicyGradient } from '../engine/types.ts';

export type Gradient = PolicyGradient['tensors'];

export interface AdamWSettings {
  readonly beta1: number;
  readonly beta2: number;
  readonly eps: number;
  readonly weightDecay: number;
}

/** First and second moments, in the order and shapes of the policy's tensors. */
export interface AdamWState {
  /** Updates so far. */
  readonly updates: number;
  readonly m: Gradient;
  readonly v: Gradient;
}

export function newAdamW(policy: FastWeights): AdamWState {
  return { updates: 0, m: zeroGradient(policy), v: zeroGradient(policy) };
}

export function zeroGradient({ tensors }: FastWeights): Gradient {
  return tensors.map(({ name, a, b }) => ({ name, a: new Float32Array(a.length), b: new Float32Array(b.length) }));
}

/** One update; nothing that is given is changed. */
export function updateAdamW(
  policy: FastWeights,
  gradient: Gradient,
  state: AdamWState,
  lr: number,
  { beta1, beta2, eps, weightDecay }: AdamWSettings,
): { readonly policy: FastWeights; readonly state: AdamWState } {
  const updates = state.updates + 1;
  const [correct1, correct2] = [1 - beta1 ** updates, 1 - beta2 ** updates];
  const [m, v] = [copyOf(state.m), copyOf(state.v)];
  const tensors = policy.tensors.map((tensor, i) => {
    const step = (part: 'a' | 'b') => {
      const [g, m1, v1] = [gradient[i]![part], m[i]![part], v[i]![part]];
      return tensor[part].map((x, j) => {
        m1[j] = beta1 * m1[j]! + (1 - beta1) * g[j]!;
        v1[j] = beta2 * v1[j]! + (1 - beta2) * g[j]! * g[j]!;
        const by = m1[j]! / correct1 / (Math.sqrt(v1[j]! / correct2) + eps);
        return x * (1 - lr * weightDecay) - lr * by;
      });
    };
    return { ...tensor, a: step('a'), b: step('b') };
  });
  return { policy: { ...policy, tensors }, state: { updates, m, v } };
}

function copyOf(gradient: Gradient): Gradient {
  return gradient.map(({ name, a, b }) => ({ name, a: a.slice(), b: b.slice() }));
}

export function addGradients(sum: Gradient, more: Gradient): Gradient {
  const added = (x: Float32Array, y: Float32Array) => x.map((value, i) => value + y[i]!);
  return sum.map(({ name, a, b }, i) => ({ name, a: added(a, more[i]!.a), b: added(b, more[i]!.b) }));
}

/** The gradient with a norm over all tensors of at most `most` (0: whatever it is), as torch.nn.utils.clip_grad_norm_, and its norm before. */
export function clipByNorm(gradient: Gradient, most: number): { readonly gradient: Gradient; readonly norm: number } {
  let squares = 0;
  for (const { a, b } of gradient) for (const part of [a, b]) for (const x of part) squares += x * x;
  const norm = Math.sqrt(squares);
  const factor = most > 0 ? Math.min(1, most / (norm + 1e-6)) : 1;
  if (factor === 1) return { gradient, norm };
  const scaled = (values: Float32Array) => values.map((x) => x * factor);
  return { gradient: gradient.map(({ name, a, b }) => ({ name, a: scaled(a), b: scaled(b) })), norm };
}

/** Linear over the first `warmupSteps` steps, then constant. Steps count from 1. */
export function learningRate(step: number, { lr, warmupSteps }: { readonly lr: number; readonly warmupSteps: number }) {
  return lr * Math.min(1, step / Math.max(1, warmupSteps));
}
