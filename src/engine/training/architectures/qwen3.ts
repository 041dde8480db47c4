import { llama, ropeAttention } from './llama.ts';
import type { Architecture } from './types.ts';

/** llama with an RMS norm over each head of q and k. */
export const qwen3: Architecture = {
  ...llama,
  name: 'qwen3',
  ropeMode: 2,
  extraTensors: ['attn_q_norm.weight', 'attn_k_norm.weight'],
  attention: (tape, top, layer, h, inputs) =>
    ropeAttention(tape, top, layer, h, inputs, {
      headed: (t, w, l, kind, x) => t.rmsNorm(x, w.vector(`blk.${l}.attn_${kind}_norm.weight`), w.shape.eps),
    }),
};
