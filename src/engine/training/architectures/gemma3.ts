import { ropeAttention } from './llama.ts';
import type { Architecture } from './types.ts';

/** Layers of the 27B model, whose attention scores are scaled by another width than a head's. */
const LAYERS_27B = 62;

/**
 * Norms before and after attention and feed-forward part and over each head of q and k, GeGLU, five layers with a sliding window and a
 * RoPE base of their own to one that sees all. The file's norm weights have Gemma's 1 added already.
 */
export const gemma3: Architecture = {
  name: 'gemma3',
  ropeMode: 2,
  extraTensors: ['attn_q_norm.weight', 'attn_k_norm.weight', 'post_attention_norm.weight'],
  feedForwardTensors: ['post_ffw_norm.weight'],
  cut: 'sa_out',
  slidingWindow: { period: 6, ropeBase: 10000 },
  scoreWidth: ({ L, D, H, C }) => (L === LAYERS_27B ? D / H : C),
  activate: (tape, gate, up) => tape.geglu(gate, up),
  afterFeedForward: (tape, top, layer, x) =>
    tape.rmsNorm(x, top.vector(`blk.${layer}.post_ffw_norm.weight`), top.shape.eps),
  attention: (tape, top, layer, h, inputs) =>
    ropeAttention(tape, top, layer, h, inputs, {
      headed: (t, w, l, kind, x) => t.rmsNorm(x, w.vector(`blk.${l}.attn_${kind}_norm.weight`), w.shape.eps),
      mixed: (t, w, l, x) => t.rmsNorm(x, w.vector(`blk.${l}.post_attention_norm.weight`), w.shape.eps),
    }),
};
