import { llama, projectWithBias, ropeAttention } from './llama.ts';
import type { Architecture } from './types.ts';

/** llama with biases on q, k and v. */
export const qwen2: Architecture = {
  ...llama,
  name: 'qwen2',
  ropeMode: 2,
  attentionVectors: [...llama.attentionVectors, 'attn_q.bias', 'attn_k.bias', 'attn_v.bias'],
  attention: (layer, h, inputs) => ropeAttention(layer, h, inputs, { project: projectWithBias }),
};
