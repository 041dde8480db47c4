import type { Tensor } from '../../native/library.ts';
import type { Architecture, Layer, LayerInputs } from './types.ts';

/** What an architecture adds to the common attention block. */
export interface AttentionVariant {
  /** q, k and v from the normed input x [D, T]; q of the rows in `inputs.only` alone, if there are. */
  readonly project?: (layer: Layer, x: Tensor, inputs: LayerInputs) => { q: Tensor; k: Tensor; v: Tensor };
  /** After q or k is split into heads [C, heads, T], before RoPE. */
  readonly headed?: (layer: Layer, kind: 'q' | 'k', x: Tensor) => Tensor;
  /** After the output product [D, T], before the residual is added. */
  readonly mixed?: (layer: Layer, x: Tensor) => Tensor;
}

type Project = NonNullable<AttentionVariant['project']>;

function projectAll({ tape, product, vector }: Layer, x: Tensor, { only }: LayerInputs, hasBias: boolean) {
  const one = (kind: 'q' | 'k' | 'v', input: Tensor) => {
    const y = product(`attn_${kind}`, input);
    return hasBias ? tape.bias(y, vector(`attn_${kind}.bias`)) : y;
  };
  return { q: one('q', only ? tape.rows(x, only.rows) : x), k: one('k', x), v: one('v', x) };
}

const projectPlainly: Project = (layer, x, inputs) => projectAll(layer, x, inputs, false);
export const projectWithBias: Project = (layer, x, inputs) => projectAll(layer, x, inputs, true);

/** Pre-norm grouped-query attention with RoPE, as in `build_arch_graph` of llama.cpp's llama, qwen2, qwen3, gemma3 and phi3. */
export function ropeAttention(
  layer: Layer,
  h: Tensor,
  inputs: LayerInputs,
  { project = projectPlainly, headed, mixed }: AttentionVariant = {},
): Tensor {
  const { tape, top, index, product, vector } = layer;
  const { C, H, G, eps, ropeFactors, scoreWidth, window } = top.shape;
  const { T, only } = inputs;
  const Q = only?.A ?? T;
  const local = window !== undefined && index % window.period < window.period - 1;
  const rope = local ? window.rope : top.shape.rope;
  const queries = only ?? inputs;
  const heads = (x: Tensor, kind: 'q' | 'k', count: number, tokens: number) => {
    const y = tape.splitHeads(x, C, count, tokens);
    return headed?.(layer, kind, y) ?? y;
  };
  const projected = project(layer, tape.rmsNorm(h, vector('attn_norm.weight'), eps), inputs);
  const q = tape.rope(heads(projected.q, 'q', H, Q), queries.positions, ropeFactors, rope);
  const k = tape.rope(heads(projected.k, 'k', G, T), inputs.positions, ropeFactors, rope);
  const v = tape.splitHeads(projected.v, C, G, T);
  const blocks = local ? queries.windowBlocks : queries.blocks;
  const scale = 1 / Math.sqrt(scoreWidth);
  const out = product('attn_output', tape.attention(q, k, v, blocks, { C, H, G, Q, T, scale }));
  return tape.add(only ? tape.rows(h, only.rows) : h, mixed?.(layer, out) ?? out);
}

export const llama: Architecture = {
  name: 'llama',
  ropeMode: 0,
  attentionProducts: ['attn_q', 'attn_k', 'attn_v', 'attn_output'],
  feedForwardProducts: ['ffn_gate', 'ffn_up', 'ffn_down'],
  attentionVectors: ['attn_norm.weight'],
  feedForwardVectors: ['ffn_norm.weight'],
  residual: { behindAttention: 'ffn_inp', embedding: 'embd' },
  ropeFactors: 'rope_freqs.weight',
  attention: ropeAttention,
  feedForward: ({ tape, product }, x) => product('ffn_down', tape.swiglu(product('ffn_gate', x), product('ffn_up', x))),
};
