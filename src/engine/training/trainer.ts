import { throwIfAborted } from '../errors.ts';
import { type GgmlContext, type Native, type Tensor, TYPE } from '../native/library.ts';
import type { FastWeights, Optimizer } from '../types.ts';
import type { GraphRunner } from './backends.ts';
import { type Deltas, FirstLayer, forward } from './forward.ts';
import { CandidateHead, fullHead, type Head } from './head.ts';
import { LoraState, resizeRows } from './lora-state.ts';
import { crossEntropy, crossEntropyGradient, type RowLosses } from './loss.ts';
import { groupSamples, PackedBatch, type PreparedSample } from './packed-batch.ts';
import type { TopLayers } from './top-layers.ts';

/**
 * Tokens computed at once; a step with more accumulates its gradient over several graphs. Bounds memory: activations grow with them, the
 * attention with their square.
 */
export const MAX_PIECE_TOKENS = 640;

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

  /** Over the whole vocabulary. */
  get head(): Head {
    return fullHead(this.#top);
  }

  candidateHead(tokens: Iterable<number>): CandidateHead {
    return new CandidateHead(this.#top, tokens);
  }

  /** Packs the samples of one step into pieces of bounded size; losses and gradients are divided by the sum of the weights. */
  pack(samples: readonly PreparedSample[]): Piece[] {
    const isConstant = FirstLayer.isConstant(this.#top, this.#deltas);
    const pieces = groupSamples(samples, { tokens: MAX_PIECE_TOKENS }).map((group) => {
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
      const tape = this.#top.newTape();
      const { rows } = forward(tape, this.#top, this.#deltas, batch, first);
      const parts: RowLosses[] = [];
      crossEntropy(tape, batch, rows, (part) => {
        if (onLogits) f.setOutput(part.logits);
        f.setOutput(part.logProbs);
        f.expand(tape.graph, part.logProbs);
        parts.push(part);
      });
      let logProbs!: Float32Array;
      this.#runner.run(tape, {
        after: () => {
          logProbs = readLogProbs(f, parts, batch.A);
          for (const part of onLogits ? parts : []) {
            const all = new Float32Array(part.rows * batch.head.V);
            f.tensorGet(part.logits, all, 0, all.byteLength);
            onLogits!(all, batch.head.V);
          }
        },
      });
      found.push(...bySample(batch, logProbs));
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
    const tape = top.newTape();
    const { c, graph } = tape;
    const { rows } = forward(tape, top, this.#deltas, batch, first);
    const { parts, gradient } = crossEntropyGradient(tape, batch, rows);
    for (const { logProbs } of parts) f.setOutput(logProbs);
    tape.backward(rows, gradient);
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
    let logProbs!: Float32Array;
    this.#runner.run(tape, {
      after: () => {
        logProbs = readLogProbs(f, parts, batch.A);
        for (const s of squares) f.tensorGet(s.tensor, s.value, 0, 4);
      },
    });
    let loss = 0;
    for (let i = 0; i < logProbs.length; i++) loss -= logProbs[i]! * batch.weights[i]! * batch.scale;
    return { loss, tokenLosses: bySample(batch, logProbs), squares: squares.reduce((n, s) => n + s.value[0]!, 0) };
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
    const tape = this.#top.newTape();
    for (const slot of this.state.slots.values()) {
      f.setParam(slot.b);
      const P = this.#penalties.get(slot.name);
      const gradient = P ? f.add(tape.c, slot.gradient!, tape.multiply(P, slot.b)) : slot.gradient!;
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

function readLogProbs(f: Native, parts: readonly RowLosses[], A: number): Float32Array {
  const all = new Float32Array(A);
  for (const { from, rows, logProbs } of parts) f.tensorGet(logProbs, all.subarray(from, from + rows), 0, rows * 4);
  return all;
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
