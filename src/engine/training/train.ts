import { TmemError, throwIfAborted } from '../errors.ts';
import type { TrainEvent, TrainRequest, TrainResult } from '../types.ts';
import { inputOf } from './forward.ts';
import { inputsByGroup, spread } from './inputs.ts';
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

type Stop = Omit<NonNullable<TrainRequest['stop']>, 'samples'>;

/** Watches how many of the first samples are learned: of `groups` many each, in every group by itself. */
export class EarlyEnd {
  #stop: Stop;
  #groups: readonly number[];
  #most = 0;
  #epochsSince = 0;

  constructor(groups: readonly number[], stop: Stop) {
    this.#groups = groups;
    this.#stop = stop;
  }

  /** Called before every epoch with the losses of each sample's tokens. */
  reached(losses: readonly ArrayLike<number>[]): boolean {
    const { all } = this.#count(losses);
    this.#epochsSince = all > this.#most ? 0 : this.#epochsSince + 1;
    this.#most = Math.max(this.#most, all);
    return this.holds(losses);
  }

  /** Whether training ends with these losses, after as many epochs as were watched. */
  holds(losses: readonly ArrayLike<number>[]): boolean {
    const { patience = Number.POSITIVE_INFINITY } = this.#stop;
    const { all, samples, enough } = this.#count(losses);
    return enough || (all >= samples * MOST_OF_THEM && this.#epochsSince >= patience);
  }

  /** What was watched until now. */
  get state(): { most: number; epochsSince: number } {
    return { most: this.#most, epochsSince: this.#epochsSince };
  }

  set state({ most, epochsSince }: { readonly most: number; readonly epochsSince: number }) {
    this.#most = most;
    this.#epochsSince = epochsSince;
  }

  #count(losses: readonly ArrayLike<number>[]): { all: number; samples: number; enough: boolean } {
    const { loss, share = 1 } = this.#stop;
    const isLearned = (tokens: ArrayLike<number>) => Array.prototype.every.call(tokens, (l: number) => l < loss);
    let from = 0;
    let all = 0;
    let enough = true;
    for (const size of this.#groups) {
      const learned = losses.slice(from, from + size).filter(isLearned).length;
      from += size;
      all += learned;
      enough &&= learned >= size * share;
    }
    return { all, samples: from, enough };
  }
}

/** Everything of a TrainRequest but the capture of hidden states, which the engine does. */
export async function train(
  top: TopLayers,
  given: readonly PreparedSample[],
  request: Omit<TrainRequest, 'samples' | 'still' | 'replay'> & {
    readonly still?: Still | undefined;
    readonly replay?: readonly PreparedSample[] | undefined;
  },
  onEvent: (event: TrainEvent) => void = () => {},
): Promise<Omit<TrainResult, 'prefixMs'>> {
  const { epochs, batch = 16, signal, stop, candidates, still, replay = [], checkpoints } = request;
  if (!Number.isInteger(epochs) || epochs < 1)
    throw new TmemError('usage', `The number of epochs must be a whole number from 1, not ${epochs}.`);
  if (!Number.isInteger(batch) || batch < 1)
    throw new TmemError('usage', `The batch size must be a whole number from 1, not ${batch}.`);
  if (!(request.optimizer.lr > 0) || !Number.isFinite(request.optimizer.lr))
    throw new TmemError('usage', `The learning rate must be a positive number, not ${request.optimizer.lr}.`);
  if (request.trainsA && (still || checkpoints))
    throw new TmemError('usage', 'Where A is trained, Delta cannot be kept still, and there are no checkpoints.');
  const trainer = new Trainer(top, request.weights, request.optimizer, request.frozen, {
    penalties: still && penalties(top, still, request),
    trainsA: request.trainsA ?? false,
  });
  const all: TrainingStep[] = [];
  try {
    const samples = [...replay, ...given];
    const pack = performance.now();
    for (let i = 0; i < samples.length; i += batch)
      all.push(new TrainingStep(trainer, samples.slice(i, i + batch), candidates));
    let packMs = performance.now() - pack;
    const steps: { loss: number; gradNorm: number }[] = [];
    const epochResults: { loss: number; ms: number }[] = [];
    const end = stop && new EarlyEnd([replay.length, stop.samples], stop);
    const losses = () => all.flatMap((step) => step.losses);
    const from = checkpoints?.from;
    if (from) {
      trainer.restore(from.tensors, from.steps.length);
      losses().forEach((of, i) => {
        of.set(from.losses[i]!);
      });
      if (end) end.state = from.watched;
      steps.push(...from.steps);
      epochResults.push(...from.epochs);
    }
    const first = epochResults.length;
    for (let epoch = first; epoch < epochs; epoch++) {
      // Where all take the likely tokens anew: which those are is then no part of what must be kept.
      if (checkpoints && epoch > first && all.every((step) => step.looksNext)) {
        const watched = end?.state ?? { most: 0, epochsSince: 0 };
        const kept = { losses: losses().map((of) => of.slice()), watched, tensors: trainer.tensors() };
        onEvent({ type: 'checkpoint', checkpoint: { ...kept, steps: [...steps], epochs: [...epochResults] } });
      }
      if (end?.reached(losses())) {
        // Those are of before the last step, and over the likely tokens a loss is a little too low.
        for (const one of all) await one.look(signal);
        if (end.holds(losses())) break;
      }
      const epochStart = performance.now() - packMs;
      packMs = 0;
      let last = 0;
      for (const one of all) {
        const start = performance.now();
        throwIfAborted(signal);
        const { loss, gradNorm } = await one.gradient(signal);
        if (!Number.isFinite(loss) || !Number.isFinite(gradNorm)) {
          throw new TmemError(
            'failed',
            `Training diverged at step ${steps.length + 1} (loss ${loss}); use a lower learning rate.`,
          );
        }
        trainer.step();
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
