import { throwIfAborted } from '../errors.ts';
import { type GgmlContext, type Tensor, TYPE } from '../native/library.ts';
import type { FastWeights, Optimizer } from '../types.ts';
import type { GraphRunner } from './backends.ts';
import { type Deltas, FirstLayer, forward } from './forward.ts';
import { CandidateHead } from './head.ts';
import { LoraState, resizeRows } from './lora-state.ts';
import { groupSamples, PackedBatch, type PreparedSample } from './packed-batch.ts';
import { Tape } from './tape.ts';
import type { TopLayers } from './top-layers.ts';

/**
 * Computed at once; a step with more accumulates its gradient over several graphs. Bounds memory: the mask is tokens x tokens, and an
 * answer token takes several rows of the vocabulary's size.
 */
export const MAX_PIECE = { tokens: 640, answerTokens: 32 };
/** With a head of few tokens; small enough that the attention, which grows with the square, is cheap. */
export const MAX_SMALL_HEAD_PIECE = { tokens: 384, answerTokens: 384 };

export interface Piece {
  readonly batch: PackedBatch;
  /** Unless the first layer's attention is trained. */
  readonly first: FirstLayer | undefined;
}

/** What one gradient evaluation found: the loss that the gradient is of, and the norm of the whole gradient. */
export interface GradientResult {
  readonly loss: number;
  readonly gradNorm: number;
  /** Loss of each answer token of each packed sample, in order. */
  readonly tokenLosses: readonly (readonly number[])[];
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
  #runner: GraphRunner;
  #optimizerContext: GgmlContext;
  #optimizerBuffer;
  #optimizerParams: Tensor;
  #penalties = new Map<string, Tensor>();
  #optimizer: Optimizer;
  #step = 0;

  /** `penalties`: by product, P [R, R] of a term 1/2 tr(B P B^T) that is added to what is minimised. */
  constructor(
    top: TopLayers,
    weights: FastWeights,
    optimizer: Optimizer,
    frozen?: FastWeights,
    penalties: ReadonlyMap<string, Float32Array> = new Map(),
  ) {
    this.#top = top;
    this.#optimizer = optimizer;
    const f = top.native;
    this.state = new LoraState(top, weights, { trained: true });
    this.#frozen = frozen && new LoraState(top, frozen, { trained: false });
    this.#deltas = { trained: this.state, frozen: this.#frozen };
    this.#runner = top.backends.newRunner();
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
    const f = this.#top.native;
    this.#runner.free();
    f.bufferFree(this.#optimizerBuffer);
    f.free(this.#optimizerContext);
    this.state.free();
    this.#frozen?.free();
  }

  candidateHead(tokens: Iterable<number>): CandidateHead {
    return new CandidateHead(this.#top, tokens);
  }

  /** Packs the samples of one step into pieces of bounded size; losses and gradients are divided by the sum of the weights. */
  pack(samples: readonly PreparedSample[], { smallHead = false } = {}): Piece[] {
    const isConstant = FirstLayer.isConstant(this.#top, this.#deltas);
    const pieces = groupSamples(samples, smallHead ? MAX_SMALL_HEAD_PIECE : MAX_PIECE).map((group) => {
      const batch = new PackedBatch(this.#top, group);
      const first = isConstant ? new FirstLayer(this.#top, this.#deltas, batch, this.#runner) : undefined;
      return { batch, first };
    });
    const weight = pieces.reduce((n, p) => n + p.batch.totalWeight, 0);
    for (const p of pieces) p.batch.setScale(1 / weight);
    return pieces;
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

  /**
   * Loss of each answer token of each packed sample, in order; the gradient in the state stays as it is. `onLogits` gets each piece's
   * logits [A, V].
   */
  async losses(
    pieces: readonly Piece[],
    signal?: AbortSignal,
    onLogits?: (logits: Float32Array, V: number) => void,
  ): Promise<number[][]> {
    const f = this.#top.native;
    const found: number[][] = [];
    for (const { batch, first } of pieces) {
      throwIfAborted(signal);
      const tape = new Tape(f);
      const { logits } = forward(tape, this.#top, this.#deltas, batch, first);
      const { logProbs } = tape.crossEntropy(logits, batch.flatLabels, batch.ones, batch.head.V, batch.A);
      f.setOutput(logProbs);
      if (onLogits) f.setOutput(logits);
      f.expand(tape.graph, logProbs);
      const rows = new Float32Array(batch.A);
      this.#runner.run(tape, {
        after: () => {
          f.tensorGet(logProbs, rows, 0, rows.byteLength);
          if (!onLogits) return;
          const all = new Float32Array(batch.A * batch.head.V);
          f.tensorGet(logits, all, 0, all.byteLength);
          onLogits(all, batch.head.V);
        },
      });
      found.push(...bySample(batch, rows));
      await yieldToEvents();
    }
    return found;
  }

  #gradientOf(
    { batch, first }: Piece,
    accumulate: boolean,
  ): { loss: number; squares: number; tokenLosses: number[][] } {
    const top = this.#top;
    const f = top.native;
    const tape = new Tape(f);
    const { c, graph } = tape;
    const { logits } = forward(tape, top, this.#deltas, batch, first);
    const { logProbs, gradient } = tape.crossEntropy(logits, batch.flatLabels, batch.ones, batch.head.V, batch.A);
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
    this.#runner.run(tape, {
      after: () => {
        f.tensorGet(logProbs, rows, 0, rows.byteLength);
        for (const s of squares) f.tensorGet(s.tensor, s.value, 0, 4);
      },
    });
    let loss = 0;
    for (let i = 0; i < rows.length; i++) loss -= rows[i]! * batch.weights[i]! * batch.scale;
    return { loss, tokenLosses: bySample(batch, rows), squares: squares.reduce((n, s) => n + s.value[0]!, 0) };
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
      const P = this.#penalties.get(slot.name);
      const gradient = P ? f.add(tape.c, slot.gradient!, f.mulMat(tape.c, P, slot.b)) : slot.gradient!;
      f.expand(
        tape.graph,
        o.kind === 'sgd'
          ? f.stepSgd(tape.c, slot.b, gradient, this.#optimizerParams)
          : f.stepAdamW(tape.c, slot.b, gradient, slot.m!, slot.v!, this.#optimizerParams),
      );
    }
    this.#runner.run(tape);
  }
}

/** Losses of each sample's answer tokens, from the log-probabilities of the rows. */
function bySample(batch: PackedBatch, logProbs: Float32Array): number[][] {
  const losses: number[][] = [];
  batch.rowSample.forEach((sample, i) => {
    losses[sample] ??= [];
    losses[sample].push(-logProbs[i]!);
  });
  return losses;
}

export function freePieces(pieces: readonly Piece[]): void {
  for (const { batch, first } of pieces) {
    batch.free();
    first?.free();
  }
}
