import { TmemError, throwIfAborted } from '../errors.ts';
import { type GgmlContext, type GraphAllocator, type Tensor, TYPE } from '../native/library.ts';
import type { FastWeights, Optimizer, TrainEvent, TrainRequest, TrainResult } from '../types.ts';
import { type Deltas, FirstLayer, forward, run } from './forward.ts';
import { LoraState } from './lora-state.ts';
import { groupSamples, PackedBatch, type PreparedSample } from './packed-batch.ts';
import { Tape } from './tape.ts';
import type { TopLayers } from './top-layers.ts';

/** Tokens computed at once; a step with more accumulates its gradient over several graphs. Bounds memory (mask, logits). */
const MAX_TOKENS = 640;

interface Piece {
  readonly batch: PackedBatch;
  readonly first: FirstLayer;
}

/** What one gradient evaluation found: the weighted mean loss and, by name, the norm of the whole gradient. */
export interface GradientResult {
  readonly loss: number;
  readonly gradNorm: number;
  /** Loss of the worst answer token of each sample, in order. */
  readonly worstTokens: readonly number[];
}

const yieldToEvents = () => new Promise<void>((resolve) => setImmediate(resolve));

/**
 * Trains B of fast weights on prepared samples (design section 4): gradients of the answer tokens' mean cross entropy,
 * SGD or AdamW as in PyTorch.
 */
export class Trainer {
  readonly state: LoraState;
  #top: TopLayers;
  #deltas: Deltas;
  #frozen: LoraState | undefined;
  #allocator: GraphAllocator;
  #optimizerContext: GgmlContext;
  #optimizerBuffer;
  #optimizerParams: Tensor;
  #optimizer: Optimizer;
  #step = 0;

  constructor(top: TopLayers, weights: FastWeights, optimizer: Optimizer, frozen?: FastWeights) {
    this.#top = top;
    this.#optimizer = optimizer;
    const f = top.native;
    this.state = new LoraState(top, weights, { trained: true });
    this.#frozen = frozen && new LoraState(top, frozen, { trained: false });
    this.#deltas = { trained: this.state, frozen: this.#frozen };
    this.#allocator = f.allocatorNew(f.defaultBufferType(top.backend));
    this.#optimizerContext = f.init({ mem_size: 1 << 14, mem_buffer: null, no_alloc: true });
    this.#optimizerParams = f.new1(this.#optimizerContext, TYPE.F32, optimizer.kind === 'sgd' ? 2 : 7);
    this.#optimizerBuffer = f.allocateContext(this.#optimizerContext, top.backend)!;
  }

  free(): void {
    const f = this.#top.native;
    f.allocatorFree(this.#allocator);
    f.bufferFree(this.#optimizerBuffer);
    f.free(this.#optimizerContext);
    this.state.free();
    this.#frozen?.free();
  }

  /** Packs the samples of one step into pieces of bounded size. */
  pack(samples: readonly PreparedSample[]): Piece[] {
    const pieces = groupSamples(samples, MAX_TOKENS).map((group) => {
      const batch = new PackedBatch(this.#top, group);
      return { batch, first: new FirstLayer(this.#top, this.#deltas, batch, this.#allocator) };
    });
    const total = pieces.reduce((n, p) => n + p.batch.totalWeight, 0);
    for (const p of pieces) p.batch.setScale(1 / total);
    return pieces;
  }

  /** Loss and gradient of one step's pieces; the gradient stays in the state. */
  async gradient(pieces: readonly Piece[], signal?: AbortSignal): Promise<GradientResult> {
    let loss = 0;
    let squares = 0;
    const worstTokens: number[] = [];
    const total = pieces.reduce((n, p) => n + p.batch.totalWeight, 0);
    for (const [i, piece] of pieces.entries()) {
      throwIfAborted(signal);
      const result = this.#gradientOf(piece, i > 0);
      loss += result.loss / total;
      squares = result.squares;
      worstTokens.push(...result.worstTokens);
      await yieldToEvents();
    }
    return { loss, gradNorm: Math.sqrt(squares), worstTokens };
  }

  #gradientOf({ batch, first }: Piece, accumulate: boolean): { loss: number; squares: number; worstTokens: number[] } {
    const top = this.#top;
    const f = top.native;
    const tape = new Tape(f);
    const { c, graph } = tape;
    const { logits } = forward(tape, top, this.#deltas, batch, first);
    const { logProbs, gradient } = tape.crossEntropy(logits, batch.flatLabels, batch.ones, top.shape.V, batch.A);
    f.setOutput(logProbs);
    f.expand(graph, logProbs);
    tape.backward(logits, gradient);
    const squares: { tensor: Tensor; value: Float32Array }[] = [];
    for (const slot of this.state.slots.values()) {
      const found = tape.gradients.get(slot.b);
      if (!found) throw new Error(`no gradient reached ${slot.name}`);
      const sum = accumulate ? f.add(c, found, slot.gradient!) : found;
      f.expand(graph, f.copy(c, sum, slot.gradient!));
      const square = f.sum(c, f.sqr(c, sum));
      f.setOutput(square);
      f.expand(graph, square);
      squares.push({ tensor: square, value: new Float32Array(1) });
    }
    const rows = new Float32Array(batch.A);
    run(top, tape, this.#allocator, {
      after: () => {
        f.tensorGet(logProbs, rows, 0, rows.byteLength);
        for (const s of squares) f.tensorGet(s.tensor, s.value, 0, 4);
      },
    });
    let loss = 0;
    for (let i = 0; i < rows.length; i++) loss -= rows[i]! * batch.weights[i]!;
    const worstTokens: number[] = [];
    batch.rowSample.forEach((sample, i) => {
      worstTokens[sample] = Math.max(worstTokens[sample] ?? 0, -rows[i]!);
    });
    return { loss, worstTokens, squares: squares.reduce((n, s) => n + s.value[0]!, 0) };
  }

  /** One optimiser step along the gradient in the state. */
  step(): void {
    const top = this.#top;
    const f = top.native;
    const o = this.#optimizer;
    this.#step++;
    const { lr, weightDecay = 0 } = o;
    const params =
      o.kind === 'sgd'
        ? [lr, weightDecay]
        : [
            lr,
            o.beta1 ?? 0.9,
            o.beta2 ?? 0.999,
            o.eps ?? 1e-8,
            weightDecay,
            1 / (1 - (o.beta1 ?? 0.9) ** this.#step),
            1 / (1 - (o.beta2 ?? 0.999) ** this.#step),
          ];
    f.tensorSet(this.#optimizerParams, Float32Array.from(params), 0, params.length * 4);
    const tape = new Tape(f);
    for (const slot of this.state.slots.values()) {
      f.setParam(slot.b);
      f.expand(
        tape.graph,
        o.kind === 'sgd'
          ? f.stepSgd(tape.c, slot.b, slot.gradient!, this.#optimizerParams)
          : f.stepAdamW(tape.c, slot.b, slot.gradient!, slot.m!, slot.v!, this.#optimizerParams),
      );
    }
    run(top, tape, this.#allocator);
  }
}

/** Everything of a TrainRequest but the capture of hidden states, which the engine does. */
export async function train(
  top: TopLayers,
  samples: readonly PreparedSample[],
  request: Omit<TrainRequest, 'samples'>,
  onEvent: (event: TrainEvent) => void = () => {},
): Promise<Omit<TrainResult, 'prefixMs'>> {
  const { epochs, batch = 16, signal, stop } = request;
  if (!Number.isInteger(epochs) || epochs < 1)
    throw new TmemError('usage', `The number of epochs must be a whole number from 1, not ${epochs}.`);
  if (!Number.isInteger(batch) || batch < 1)
    throw new TmemError('usage', `The batch size must be a whole number from 1, not ${batch}.`);
  if (!(request.optimizer.lr > 0) || !Number.isFinite(request.optimizer.lr))
    throw new TmemError('usage', `The learning rate must be a positive number, not ${request.optimizer.lr}.`);
  const trainer = new Trainer(top, request.weights, request.optimizer, request.frozen);
  const batches: Piece[][] = [];
  try {
    const pack = performance.now();
    for (let i = 0; i < samples.length; i += batch) batches.push(trainer.pack(samples.slice(i, i + batch)));
    let packMs = performance.now() - pack;
    const steps: { loss: number; gradNorm: number }[] = [];
    const epochResults: { loss: number; ms: number }[] = [];
    const losses: number[] = [];
    const reached = () =>
      stop !== undefined && losses.length >= stop.samples && losses.slice(0, stop.samples).every((l) => l < stop.loss);
    for (let epoch = 0; epoch < epochs && !reached(); epoch++) {
      const epochStart = performance.now() - packMs;
      packMs = 0;
      let last = 0;
      for (const [b, pieces] of batches.entries()) {
        const start = performance.now();
        throwIfAborted(signal);
        const { loss, gradNorm, worstTokens } = await trainer.gradient(pieces, signal);
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
        losses.splice(b * batch, worstTokens.length, ...worstTokens);
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
    for (const pieces of batches) {
      for (const p of pieces) {
        p.batch.free();
        p.first.free();
      }
    }
    trainer.free();
  }
}
