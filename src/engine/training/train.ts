import { TmemError, throwIfAborted } from '../errors.ts';
import type { TrainEvent, TrainRequest, TrainResult } from '../types.ts';
import { inputOf, inputsByGroup, spread } from './inputs.ts';
import { gram } from './linear-algebra.ts';
import { LoraState } from './lora-state.ts';
import type { PreparedSample } from './packed-batch.ts';
import type { TopLayers } from './top-layers.ts';
import { Trainer } from './trainer.ts';
import { TrainingStep } from './training-step.ts';

export interface Still {
  readonly samples: readonly PreparedSample[];
  readonly strength: number;
}

/** By product, strength times the mean of (A x)(A x)^T [R, R] over the tokens x. */
function penalties(
  top: TopLayers,
  { samples, strength }: Still,
  { weights, frozen }: Pick<TrainRequest, 'weights' | 'frozen'>,
): Map<string, Float32Array> {
  const state = frozen && new LoraState(top, frozen, { trained: false });
  const sums = new Map<string, Float32Array>();
  let n = 0;
  try {
    for (const inputs of inputsByGroup(top, samples, { frozen: state, ownOnly: true })) {
      n += inputs.values().next().value!.values.length;
      for (const { name, a } of weights.tensors) {
        const rows = inputs.get(inputOf(name))!;
        const count = rows.values.length;
        const ax = gram(top, a, spread(rows, count), rows.d); // [R, count]
        const square = gram(top, ax, ax, count); // [R, R]
        const before = sums.get(name);
        sums.set(name, before ? square.map((x, i) => x + before[i]!) : square);
      }
    }
  } finally {
    state?.free();
  }
  return new Map([...sums].map(([name, sum]) => [name, sum.map((x) => (x * strength) / n)]));
}

/** Of the watched samples, before patience can end the training. */
const MOST_OF_THEM = 0.75;

/** Watches how many of the first samples are learned. */
export class EarlyEnd {
  #stop: NonNullable<TrainRequest['stop']>;
  #most = 0;
  #epochsSince = 0;

  constructor(stop: NonNullable<TrainRequest['stop']>) {
    this.#stop = stop;
  }

  /** Called before every epoch with the losses of each sample's tokens. */
  reached(losses: readonly ArrayLike<number>[]): boolean {
    const { samples, loss, share = 1, patience = Number.POSITIVE_INFINITY } = this.#stop;
    const isLearned = (tokens: ArrayLike<number>) => Array.prototype.every.call(tokens, (l: number) => l < loss);
    let from = 0;
    let all = 0;
    let enough = true;
    for (const size of samples) {
      const learned = losses.slice(from, from + size).filter(isLearned).length;
      from += size;
      all += learned;
      enough &&= learned >= size * share;
    }
    this.#epochsSince = all > this.#most ? 0 : this.#epochsSince + 1;
    this.#most = Math.max(this.#most, all);
    return enough || (all >= from * MOST_OF_THEM && this.#epochsSince >= patience);
  }
}

/** Everything of a TrainRequest but the capture of hidden states, which the engine does. */
export async function train(
  top: TopLayers,
  samples: readonly PreparedSample[],
  request: Omit<TrainRequest, 'samples' | 'still'> & { readonly still?: Still | undefined },
  onEvent: (event: TrainEvent) => void = () => {},
): Promise<Omit<TrainResult, 'prefixMs'>> {
  const { epochs, batch = 16, signal, schedule, stop, skipLoss, candidates, still } = request;
  if (!Number.isInteger(epochs) || epochs < 1)
    throw new TmemError('usage', `The number of epochs must be a whole number from 1, not ${epochs}.`);
  if (!Number.isInteger(batch) || batch < 1)
    throw new TmemError('usage', `The batch size must be a whole number from 1, not ${batch}.`);
  if (!(request.optimizer.lr > 0) || !Number.isFinite(request.optimizer.lr))
    throw new TmemError('usage', `The learning rate must be a positive number, not ${request.optimizer.lr}.`);
  const trainer = new Trainer(
    top,
    request.weights,
    request.optimizer,
    request.frozen,
    still && penalties(top, still, request),
  );
  const all: TrainingStep[] = [];
  try {
    const pack = performance.now();
    for (let i = 0; i < samples.length; i += batch)
      all.push(new TrainingStep(trainer, samples.slice(i, i + batch), { skipLoss, candidates }));
    let packMs = performance.now() - pack;
    const steps: { loss: number; gradNorm: number }[] = [];
    const epochResults: { loss: number; ms: number }[] = [];
    const end = stop && new EarlyEnd(stop);
    for (let epoch = 0; epoch < epochs; epoch++) {
      // A loss that was last computed some steps ago may have risen since: the end is confirmed by a pass over all tokens.
      const ending = end?.reached(all.flatMap((step) => step.losses)) ?? false;
      if (ending && all.every((step) => step.whole)) break;
      const epochStart = performance.now() - packMs;
      packMs = 0;
      let last = 0;
      for (const one of all) {
        const start = performance.now();
        throwIfAborted(signal);
        const { loss, gradNorm } = await one.gradient({ whole: ending, signal });
        if (!Number.isFinite(loss) || !Number.isFinite(gradNorm)) {
          throw new TmemError(
            'failed',
            `Training diverged at step ${steps.length + 1} (loss ${loss}); use a lower learning rate.`,
          );
        }
        trainer.step(schedule === 'linear' ? 1 - epoch / epochs : 1);
        last = loss;
        steps.push({ loss, gradNorm });
        onEvent({ type: 'step', epoch: epoch + 1, step: steps.length, loss, gradNorm, ms: performance.now() - start });
      }
      epochResults.push({ loss: last, ms: performance.now() - epochStart });
    }
    return {
      weights: trainer.state.snapshot(),
      steps,
      epochs: epochResults,
      tokens: samples.reduce((n, s) => n + s.tokens.length, 0),
      answerTokens: samples.reduce((n, s) => n + s.tokens.length - s.promptLength, 0),
    };
  } finally {
    for (const step of all) step.free();
    trainer.free();
  }
}
