import type { Tensor } from '../../native/library.ts';
import type { Tape } from '../tape.ts';
import type { TopLayers } from '../top-layers.ts';

/** What a layer sees of the packed batch. */
export interface LayerInputs {
  readonly T: number;
  /** Positions of the tokens within their samples, I32 [T]. */
  readonly positions: Tensor;
  /** [T, T]: 0 where the row's token may see the column's, -inf elsewhere. */
  readonly mask: Tensor;
  /** When only some rows are needed after this layer (the last one): their indices, positions and mask rows. */
  readonly only?: { readonly A: number; readonly rows: Tensor; readonly positions: Tensor; readonly mask: Tensor };
}

/** One architecture: how a layer's attention is computed. Norms, SwiGLU and the head are common to all that are supported. */
export interface Architecture {
  readonly name: string;
  /** ggml's RoPE mode: 0 rotates neighbouring pairs, 2 (NeoX) the two halves of a head. */
  readonly ropeMode: 0 | 2;
  /** GGUF tensors of a layer beyond the common ones. */
  readonly extraTensors: readonly string[];
  /**
   * Attention block of one layer on the residual stream h [D, T], the residual added.
   * @returns [D, T], or [D, A] when `inputs.only` is given.
   */
  attention(tape: Tape, top: TopLayers, layer: number, h: Tensor, inputs: LayerInputs): Tensor;
}
