import { llama, ropeAttention } from './llama.ts';
import type { Architecture } from './types.ts';

/**
 * llama with q, k and v from one product, and gate and up from another. RoPE's factors are those for contexts up to the length that the
 * model was first trained with, which every training sample is within.
 */
export const phi3: Architecture = {
  ...llama,
  name: 'phi3',
  ropeMode: 2,
  attentionProducts: ['attn_qkv', 'attn_output'],
  feedForwardProducts: ['ffn_up', 'ffn_down'],
  residual: { embedding: 'embd' },
  ropeFactors: 'rope_factors_short.weight',
  attention: (layer, h, inputs) =>
    ropeAttention(layer, h, inputs, {
      project: ({ tape, top, product }, x, { only }) => {
        const { C, H, G } = top.shape;
        const [Q, K] = [C * H, C * G];
        const all = product('attn_qkv', x);
        const part = (from: number, n: number) => tape.slice(all, Q + 2 * K, from, n);
        const q = part(0, Q);
        return { q: only ? tape.rows(q, only.rows) : q, k: part(Q, K), v: part(Q + K, K) };
      },
    }),
  feedForward: ({ tape, product }, x, { F }) => {
    const both = product('ffn_up', x);
    return product('ffn_down', tape.swiglu(tape.slice(both, 2 * F, 0, F), tape.slice(both, 2 * F, F, F)));
  },
};
