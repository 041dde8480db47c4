import type { RopeArguments, Tensor } from '../../native/library.ts';
import type { Tape } from '../tape.ts';
import type { TopLayers } from '../top-layers.ts';

/** Rows of some tokens: their positions within their samples, I32, and [T, rows]: 0 where the row's token may see the column's, -inf elsewhere. */
export interface RowInputs {
  readonly positions: Tensor;
  readonly mask: Tensor;
  /** The mask of layers that see only so many tokens back; the same where no sample is longer. */
  readonly windowMask: Tensor;
}

/** What a layer sees of the packed batch of T tokens. */
export interface LayerInputs extends RowInputs {
  readonly T: number;
  /** When only some rows are needed after this layer (the last one). */
  readonly only?: (RowInputs & { readonly A: number; readonly rows: Tensor }) | undefined;
}

/** Layers that see `size` tokens back instead of all, with a RoPE of their own. */
export interface SlidingWindow {
  readonly size: number;
  /** Every so many layers the last one sees all. */
  readonly period: number;
  readonly rope: RopeArguments;
}

/** One architecture: how a layer's attention and the rest around the products of its feed-forward part are computed. */
export interface Architecture {
  readonly name: string;
  /** ggml's RoPE mode: 0 rotates neighbouring pairs, 2 (NeoX) the two halves of a head. */
  readonly ropeMode: 0 | 2;
  /** GGUF tensors of a layer's attention beyond the common ones. */
  readonly extraTensors: readonly string[];
  /** And of its feed-forward part. */
  readonly feedForwardTensors?: readonly string[];
  /** What llama.cpp's graph calls the residual stream behind a layer's attention. */
  readonly cut: 'ffn_inp' | 'sa_out';
  /** Where some layers have a sliding window: the period and RoPE base that hold when the file names none. */
  readonly slidingWindow?: { readonly period: number; readonly ropeBase: number };
  /** Attention scores are divided by the root of this. Default the channels of a head. */
  readonly scoreWidth?: (shape: { L: number; D: number; H: number; C: number }) => number;
  /** From gate and up [F, T] to the input of the down product. */
  activate(tape: Tape, gate: Tensor, up: Tensor): Tensor;
  /** The output of the down product before it is added to the residual stream. Default unchanged. */
  readonly afterFeedForward?: (tape: Tape, top: TopLayers, layer: number, x: Tensor) => Tensor;
  /**
   * Attention block of one layer on the residual stream h [D, T], the residual added.
   * @returns [D, T], or [D, A] when `inputs.only` is given.
   */
  attention(tape: Tape, top: TopLayers, layer: number, h: Tensor, inputs: LayerInputs): Tensor;
}
