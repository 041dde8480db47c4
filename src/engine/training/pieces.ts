/** A step's samples as the pieces that graphs are built of, and what their losses are. */
import { throwIfAborted } from '../errors.ts';
import type { Native } from '../native/library.ts';
import type { GraphRunner } from './backends.ts';
import { type Deltas, FirstLayer, forward } from './forward.ts';
import { crossEntropy, type RowLosses } from './loss.ts';
import { groupSamples, PackedBatch, type PreparedSample } from './packed-batch.ts';
import type { TopLayers } from './top-layers.ts';

/** Tokens computed at once; a step with more accumulates its gradient over several graphs. Bounds memory: activations grow with them. */
export const MAX_PIECE_TOKENS = 640;

export interface Piece {
  readonly batch: PackedBatch;
  /** Unless the first layer's attention is trained. */
  readonly first: FirstLayer | undefined;
}

/** Where graphs are run, and the fast weights in them. */
export interface Setting {
  readonly top: TopLayers;
  readonly deltas: Deltas;
  readonly runner: GraphRunner;
}

export const yieldToEvents = () => new Promise<void>((resolve) => setImmediate(resolve));

/** Packs the samples of one step into pieces of bounded size; losses and gradients are divided by the sum of the weights. */
export function packPieces({ top, deltas, runner }: Setting, samples: readonly PreparedSample[]): Piece[] {
  const isConstant = FirstLayer.isConstant(top, deltas);
  const pieces = groupSamples(samples, { tokens: MAX_PIECE_TOKENS }).map((group) => {
    const batch = new PackedBatch(top, group);
    const first = isConstant ? new FirstLayer(top, deltas, batch, runner) : undefined;
    return { batch, first };
  });
  const weight = pieces.reduce((n, p) => n + p.batch.totalWeight, 0);
  for (const p of pieces) p.batch.setScale(1 / weight);
  return pieces;
}

export function freePieces(pieces: readonly Piece[]): void {
  for (const { batch, first } of pieces) {
    batch.free();
    first?.free();
  }
}

/** Loss of each answer token of each packed sample, in order. `onLogits` gets each piece's logits [A, V]. */
export async function piecesLosses(
  { top, deltas, runner }: Setting,
  pieces: readonly Piece[],
  signal?: AbortSignal,
  onLogits?: (logits: Float32Array, V: number) => void,
): Promise<number[][]> {
  const f = top.native;
  const found: number[][] = [];
  for (const { batch, first } of pieces) {
    throwIfAborted(signal);
    const tape = top.newTape();
    const { rows } = forward(tape, top, deltas, batch, first);
    const parts: RowLosses[] = [];
    crossEntropy(tape, batch, rows, (part) => {
      if (onLogits) f.setOutput(part.logits);
      f.setOutput(part.logProbs);
      f.expand(tape.graph, part.logProbs);
      parts.push(part);
    });
    let losses!: Float64Array;
    runner.run(tape, {
      after: () => {
        losses = readLosses(f, parts, batch.A);
        for (const { part, logits } of onLogits ? parts : []) {
          const all = new Float32Array(part.n * batch.head.V);
          f.tensorGet(logits, all, 0, all.byteLength);
          onLogits!(all, batch.head.V);
        }
      },
    });
    found.push(...bySample(batch, losses));
    await yieldToEvents();
  }
  return found;
}

/**
 * Of the A rows of a batch, when the graph has run: the KL divergence from what a row is to predict, which is minus the log-probability where
 * that is one token.
 */
export function readLosses(f: Native, parts: readonly RowLosses[], A: number): Float64Array {
  const losses = new Float64Array(A);
  for (const { part, logProbs } of parts) {
    const values = new Float32Array(part.targets.length);
    f.tensorGet(logProbs, values, 0, values.byteLength);
    part.targets.forEach(({ row, probability }, i) => {
      if (probability > 0) losses[row]! += probability * (Math.log(probability) - values[i]!);
    });
  }
  return losses;
}

/** Losses of each sample's answer tokens, from those of the rows. */
export function bySample(batch: PackedBatch, losses: Float64Array): number[][] {
  const found: number[][] = [];
  batch.rowSample.forEach((sample, i) => {
    found[sample] ??= [];
    found[sample].push(losses[i]!);
  });
  return found;
}
