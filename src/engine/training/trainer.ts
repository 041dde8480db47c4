import { throwIfAborted } from '../errors.ts';
import { type GgmlContext, type Tensor, TYPE } from '../native/library.ts';
import type { FastWeights, Optimizer, TrainCheckpoint } from '../types.ts';
import { forward } from './forward.ts';
import { CandidateHead, fullHead, type Head } from './head.ts';
import { LoraState, type Moments, resizeRows } from './lora-state.ts';
import { crossEntropyGradient } from './loss.ts';
import type { PreparedSample } from './packed-batch.ts';
import { bySample, type Piece, packPieces, piecesLosses, readLosses, type Setting, yieldToEvents } from './pieces.ts';
import type { TopLayers } from './top-layers.ts';

/** What one gradient evaluation found: the loss that the gradient is of, and the norm of the whole gradient. */
export interface GradientResult {
  readonly loss: number;
  readonly gradNorm: number;
  /** Loss of each answer token of each packed sample, in order. */
  readonly tokenLosses: readonly (readonly number[])[];
}

/**
 * Trains B of fast weights on prepared samples (design section 4), or A and B: gradients of the answer tokens' mean cross entropy,
 * SGD or AdamW as in PyTorch.
 */
export class Trainer {
  readonly state: LoraState;
  #setting: Setting;
  #frozen: LoraState | undefined;
  #optimizerContext: GgmlContext;
  #optimizerBuffer;
  #optimizerParams: Tensor;
  #penalties = new Map<string, Tensor>();
  #optimizer: Optimizer;
  #step = 0;

  /** @param options.penalties by product, P [R, R] of a term 1/2 tr(B P B^T) that is added to what is minimised */
  constructor(
    top: TopLayers,
    weights: FastWeights,
    optimizer: Optimizer,
    frozen?: FastWeights,
    {
      penalties = new Map(),
      trainsA = false,
    }: { readonly penalties?: ReadonlyMap<string, Float32Array> | undefined; readonly trainsA?: boolean } = {},
  ) {
    this.#optimizer = optimizer;
    const f = top.native;
    this.state = new LoraState(top, weights, { trained: true, trainsA });
    this.#frozen = frozen && new LoraState(top, frozen, { trained: false });
    this.#setting = {
      top,
      deltas: { trained: this.state, frozen: this.#frozen },
      runner: top.backends.newRunner(),
    };
    this.#optimizerContext = f.init({ mem_size: 1 << 18, mem_buffer: null, no_alloc: true });
    this.#optimizerParams = f.new1(this.#optimizerContext, TYPE.F32, optimizer.kind === 'sgd' ? 2 : 7);
    for (const name of penalties.keys())
      this.#penalties.set(name, f.new2(this.#optimizerContext, TYPE.F32, this.state.R, this.state.R));
    this.#optimizerBuffer = f.allocateContext(this.#optimizerContext, top.backend)!;
    for (const [name, P] of penalties) {
      const { rank, R } = this.state;
      const filled = new Float32Array(R * R);
      filled.set(resizeRows(P, rank, R));
      f.tensorSet(this.#penalties.get(name)!, filled, 0, filled.byteLength);
    }
  }

  free(): void {
    const { top, runner } = this.#setting;
    const f = top.native;
    runner.free();
    f.bufferFree(this.#optimizerBuffer);
    f.free(this.#optimizerContext);
    this.state.free();
    this.#frozen?.free();
  }

  /** Over the whole vocabulary. */
  get head(): Head {
    return fullHead(this.#setting.top);
  }

  candidateHead(tokens: Iterable<number>): CandidateHead {
    return new CandidateHead(this.#setting.top, tokens);
  }

  /** Packs the samples of one step. */
  pack(samples: readonly PreparedSample[]): Piece[] {
    return packPieces(this.#setting, samples);
  }

  /** Loss and gradient of one step's pieces; the gradient stays in the state. */
  async gradient(pieces: readonly Piece[], signal?: AbortSignal): Promise<GradientResult> {
    let loss = 0;
    let squares = 0;
    const tokenLosses: number[][] = [];
    for (const [i, piece] of pieces.entries()) {
      throwIfAborted(signal);
      const result = this.#gradientOf(piece, i > 0);
      loss += result.loss;
      squares = result.squares;
      tokenLosses.push(...result.tokenLosses);
      await yieldToEvents();
    }
    return { loss, gradNorm: Math.sqrt(squares), tokenLosses };
  }

  /** Loss of each answer token of each packed sample, in order; the gradient in the state stays as it is. */
  losses(
    pieces: readonly Piece[],
    signal?: AbortSignal,
    onLogits?: (logits: Float32Array, V: number) => void,
  ): Promise<number[][]> {
    return piecesLosses(this.#setting, pieces, signal, onLogits);
  }

  #gradientOf(
    { batch, first }: Piece,
    accumulate: boolean,
  ): { loss: number; squares: number; tokenLosses: number[][] } {
    const { top, deltas, runner } = this.#setting;
    const f = top.native;
    const tape = top.newTape();
    const { c, graph } = tape;
    const { rows } = forward(tape, top, deltas, batch, first);
    const { parts, gradient } = crossEntropyGradient(tape, batch, rows);
    for (const { logProbs } of parts) f.setOutput(logProbs);
    tape.backward(rows, gradient);
    const squares: { tensor: Tensor; value: Float32Array }[] = [];
    for (const { name, tensor, gradient } of this.#parameters()) {
      const found = tape.gradients.get(tensor);
      if (!found) throw new Error(`no gradient reached ${name}`);
      const sum = accumulate ? f.add(c, found, gradient) : found;
      f.expand(graph, f.copy(c, sum, gradient));
      const square = f.sum(c, f.sqr(c, sum));
      f.setOutput(square);
      f.expand(graph, square);
      squares.push({ tensor: square, value: new Float32Array(1) });
    }
    let losses!: Float64Array;
    runner.run(tape, {
      after: () => {
        losses = readLosses(f, parts, batch.A);
        for (const s of squares) f.tensorGet(s.tensor, s.value, 0, 4);
      },
    });
    let loss = 0;
    for (let i = 0; i < losses.length; i++) loss += losses[i]! * batch.weights[i]! * batch.scale;
    return { loss, tokenLosses: bySample(batch, losses), squares: squares.reduce((n, s) => n + s.value[0]!, 0) };
  }

  /** All that is trained, and the penalty on it. */
  #parameters(): (Moments & {
    readonly name: string;
    readonly tensor: Tensor;
    readonly penalty?: Tensor | undefined;
  })[] {
    return [...this.state.slots.values()].flatMap(({ name, a, b, ofA, ofB }) => [
      { name, tensor: b, penalty: this.#penalties.get(name), ...ofB! },
      ...(ofA ? [{ name, tensor: a, ...ofA }] : []),
    ]);
  }

  /** B and the moments as they are now. */
  tensors(): TrainCheckpoint['tensors'] {
    const { state } = this;
    return [...state.slots.values()].map(({ name, b, ofB }) => ({
      ...{ name, b: state.get(b), m: state.get(ofB!.m), v: state.get(ofB!.v) },
    }));
  }

  /** The same put back, after so many steps. */
  restore(tensors: TrainCheckpoint['tensors'], step: number): void {
    this.#step = step;
    for (const { name, b, m, v } of tensors) {
      const slot = this.state.slots.get(name)!;
      this.state.set(slot.b, b);
      this.state.set(slot.ofB!.m, m);
      this.state.set(slot.ofB!.v, v);
    }
  }

  /** One optimiser step along the gradient in the state. */
  step(): void {
    const { top, runner } = this.#setting;
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
    const tape = top.newTape();
    for (const { tensor, m, v, penalty: P, gradient: found } of this.#parameters()) {
      f.setParam(tensor);
      const gradient = P ? f.add(tape.c, found, tape.multiply(P, tensor)) : found;
      f.expand(
        tape.graph,
        o.kind === 'sgd'
          ? f.stepSgd(tape.c, tensor, gradient, this.#optimizerParams)
          : f.stepAdamW(tape.c, tensor, gradient, m, v, this.#optimizerParams),
      );
    }
    runner.run(tape);
  }
}
