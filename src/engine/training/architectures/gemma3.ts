import type { Tensor } from '../../native/library.ts';
import { llama, ropeAttention } from './llama.ts';
import { normedHeads } from './qwen3.ts';
import type { Architecture, Layer } from './types.ts';

/** Layers of the 27B model, whose attention scores are scaled by another width than a head's. */
const LAYERS_27B = 62;

const norm = ({ tape, top, vector }: Layer, x: Tensor, name: string) => tape.rmsNorm(x, vector(name), top.shape.eps);

/**
 * Norms before and after attention and feed-forward part and over each head of q and k, GeGLU, five layers with a sliding window and a
 * RoPE base of their own to one that sees all. The file's norm weights have Gemma's 1 added already.
 */
export const gemma3: Architecture = {
  ...llama,
  name: 'gemma3',
  ropeMode: 2,
  attentionVectors: [
    ...llama.attentionVectors,
    'attn_q_norm.weight',
    'attn_k_norm.weight',
    'post_attention_norm.weight',
  ],
  feedForwardVectors: [...llama.feedForwardVectors, 'post_ffw_norm.weight'],
  residual: { behindAttention: 'sa_out', embedding: 'inp_scaled' },
  slidingWindow: { period: 6, ropeBase: 10000 },
  scoreWidth: ({ L, D, H, C }) => (L === LAYERS_27B ? D / H : C),
  attention: (layer, h, inputs) =>
    ropeAttention(layer, h, inputs, {
      headed: normedHeads,
      mixed: (of, x) => norm(of, x, 'post_attention_norm.weight'),
    }),
  feedForward: (layer, x) => {
    const { tape, product } = layer;
    const y = product('ffn_down', tape.geglu(product('ffn_gate', x), product('ffn_up', x)));
    return norm(layer, y, 'post_ffw_norm.weight');
  },
};
