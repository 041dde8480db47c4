import type { RopeArguments, Tensor } from '../../native/library.ts';
import type { AttentionBlock } from '../attention.ts';
import type { ModelShape } from '../model-shape.ts';
import type { Tape } from '../tape.ts';
import type { TopLayers } from '../top-layers.ts';

/** Rows of some tokens: their positions within their samples, I32, and what their queries see. */
export interface RowInputs {
  readonly positions: Tensor;
  readonly blocks: readonly AttentionBlock[];
  /** The same for layers that see only so many tokens back; the same blocks where no sample is longer. */
  readonly windowBlocks: readonly AttentionBlock[];
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

/** W x of one of a layer's products, by its part of the GGUF name (`ffn_up`), with what fast weights add to it. */
export type Product = (part: string, x: Tensor) => Tensor;

/** One layer of a model on the tape. */
export interface Layer {
  readonly tape: Tape;
  readonly top: TopLayers;
  readonly index: number;
  readonly product: Product;
  /** A norm's scale or a bias, by its part of the GGUF name with the suffix. */
  readonly vector: (part: string) => Tensor;
}

/** One architecture: how a layer's attention and feed-forward part are computed. */
export interface Architecture {
  readonly name: string;
  /** ggml's RoPE mode: 0 rotates neighbouring pairs, 2 (NeoX) the two halves of a head. */
  readonly ropeMode: 0 | 2;
  /** The products of a layer's attention and of its feed-forward part, as they are called in the GGUF; in each the output product is the last. */
  readonly attentionProducts: readonly string[];
  readonly feedForwardProducts: readonly string[];
  /** Norms and biases of a layer's attention and of its feed-forward part, as they end in the GGUF. */
  readonly attentionVectors: readonly string[];
  readonly feedForwardVectors: readonly string[];
  /** What llama.cpp's graph calls the residual stream behind a layer's attention, where it has a name there, and before the first layer. */
  readonly residual: { readonly behindAttention?: 'ffn_inp' | 'sa_out'; readonly embedding: 'embd' | 'inp_scaled' };
  /** RoPE's factors by frequency, if the file has them. */
  readonly ropeFactors: string;
  /** Where some layers have a sliding window: the period and RoPE base that hold when the file names none. */
  readonly slidingWindow?: { readonly period: number; readonly ropeBase: number };
  /** Attention scores are divided by the root of this. Default the channels of a head. */
  readonly scoreWidth?: (shape: { L: number; D: number; H: number; C: number }) => number;
  /**
   * Attention block on the residual stream h [D, T], the residual added.
   * @returns [D, T], or [D, A] when `inputs.only` is given.
   */
  attention(layer: Layer, h: Tensor, inputs: LayerInputs): Tensor;
  /** Feed-forward block on its normed input x [D, T], without the residual. */
  feedForward(layer: Layer, x: Tensor, shape: ModelShape): Tensor;
}
