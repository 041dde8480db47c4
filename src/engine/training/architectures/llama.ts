import type { Tensor } from '../../native/library.ts';
import type { Tape } from '../tape.ts';
import type { TopLayers } from '../top-layers.ts';
import type { Architecture, LayerInputs } from './types.ts';

/** What the architectures below change about llama's attention. */
export interface AttentionVariant {
  /** After the q, k or v product [n, T]. */
  readonly projected?: (tape: Tape, top: TopLayers, layer: number, kind: 'q' | 'k' | 'v', x: Tensor) => Tensor;
  /** After q or k is split into heads [C, heads, T], before RoPE. */
  readonly headed?: (tape: Tape, top: TopLayers, layer: number, kind: 'q' | 'k', x: Tensor) => Tensor;
  /** After the output product [D, T], before the residual is added. */
  readonly mixed?: (tape: Tape, top: TopLayers, layer: number, x: Tensor) => Tensor;
}

/** Pre-norm grouped-query attention with RoPE, as in `build_arch_graph` of llama.cpp's llama, qwen2, qwen3 and gemma3. */
export function ropeAttention(
  tape: Tape,
  top: TopLayers,
  layer: number,
  h: Tensor,
  inputs: LayerInputs,
  variant: AttentionVariant = {},
): Tensor {
  const { C, H, G, eps, ropeFactors, scoreWidth, window } = top.shape;
  const { T, only } = inputs;
  const Q = only?.A ?? T;
  const local = window !== undefined && layer % window.period < window.period - 1;
  const rope = local ? window.rope : top.shape.rope;
  const queries = only ?? inputs;
  const name = (part: string) => `blk.${layer}.${part}`;
  const project = (x: Tensor, kind: 'q' | 'k' | 'v') => {
    const y = tape.linear(x, top.linear(name(`attn_${kind}.weight`)));
    return variant.projected?.(tape, top, layer, kind, y) ?? y;
  };
  const headed = (x: Tensor, kind: 'q' | 'k', heads: number, n: number) => {
    const y = tape.splitHeads(x, C, heads, n);
    return variant.headed?.(tape, top, layer, kind, y) ?? y;
  };
  const x = tape.rmsNorm(h, top.vector(name('attn_norm.weight')), eps);
  const xq = only ? tape.rows(x, only.rows) : x;
  const q = tape.rope(headed(project(xq, 'q'), 'q', H, Q), queries.positions, ropeFactors, rope);
  const k = tape.rope(headed(project(x, 'k'), 'k', G, T), inputs.positions, ropeFactors, rope);
  const v = tape.splitHeads(project(x, 'v'), C, G, T);
  const mask = local ? queries.windowMask : queries.mask;
  const heads = tape.attention(q, k, v, mask, { C, H, G, Q, T, scale: 1 / Math.sqrt(scoreWidth) });
  const mixed = tape.linear(heads, top.linear(name('attn_output.weight')));
  return tape.add(only ? tape.rows(h, only.rows) : h, variant.mixed?.(tape, top, layer, mixed) ?? mixed);
}

export const llama: Architecture = {
  name: 'llama',
  ropeMode: 0,
  extraTensors: [],
  cut: 'ffn_inp',
  activate: (tape, gate, up) => tape.swiglu(gate, up),
  attention: ropeAttention,
};
