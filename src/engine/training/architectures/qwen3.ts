import { type AttentionVariant, llama, ropeAttention } from './llama.ts';
import type { Architecture } from './types.ts';

/** An RMS norm over each head of q and k. */
export const normedHeads: AttentionVariant['headed'] = ({ tape, top, vector }, kind, x) =>
  tape.rmsNorm(x, vector(`attn_${kind}_norm.weight`), top.shape.eps);

/** llama with normed heads. */
export const qwen3: Architecture = {
  ...llama,
  name: 'qwen3',
  ropeMode: 2,
  attentionVectors: [...llama.attentionVectors, 'attn_q_norm.weight', 'attn_k_norm.weight'],
  attention: (layer, h, inputs) => ropeAttention(layer, h, inputs, { headed: normedHeads }),
};
