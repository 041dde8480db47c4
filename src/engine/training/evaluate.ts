/** Samples that are not trained: their losses, and what the model would rather have said. */
import type { Evaluation, FastWeights, Likely } from '../types.ts';
import { mostLikely } from './head.ts';
import { LoraState } from './lora-state.ts';
import type { PreparedSample } from './packed-batch.ts';
import { freePieces, packPieces, piecesLosses } from './pieces.ts';
import type { TopLayers } from './top-layers.ts';

/** Samples that are computed at a time: bounds memory. */
const SAMPLES = 16;

/** Losses of each answer token of each sample, and its `likely` most probable tokens if that is not 0. */
export async function evaluate(
  top: TopLayers,
  samples: readonly PreparedSample[],
  options: {
    readonly weights: FastWeights | null;
    readonly likely?: number | undefined;
    readonly signal?: AbortSignal | undefined;
  },
): Promise<Evaluation> {
  const { weights, likely: k = 0, signal } = options;
  const runner = top.backends.newRunner();
  const frozen = weights ? new LoraState(top, weights, { trained: false }) : undefined;
  const setting = { top, deltas: { frozen }, runner };
  const losses: number[][] = [];
  const rows: Likely[] = [];
  const collect = (logits: Float32Array, V: number) => {
    for (let at = 0; at < logits.length; at += V) rows.push(mostLikely(logits.subarray(at, at + V), k));
  };
  try {
    for (let i = 0; i < samples.length; i += SAMPLES) {
      const pieces = packPieces(setting, samples.slice(i, i + SAMPLES));
      try {
        losses.push(...(await piecesLosses(setting, pieces, signal, k > 0 ? collect : undefined)));
      } finally {
        freePieces(pieces);
      }
    }
  } finally {
    frozen?.free();
    runner.free();
  }
  if (k === 0) return { losses };
  let row = 0;
  const likely = losses.map((of) => {
    row += of.length;
    return rows.slice(row - of.length, row);
  });
  return { losses, likely };
}
