import { llama, ropeAttention } from './llama.ts';
import type { Architecture } from './types.ts';

/** llama with biases on q, k and v. */
export const qwen2: Architecture = {
  ...llama,
  name: 'qwen2',
  ropeMode: 2,
  extraTensors: ['attn_q.bias', 'attn_k.bias', 'attn_v.bias'],
  attention: (tape, top, layer, h, inputs) =>
    ropeAttention(tape, top, layer, h, inputs, {
      projected: (t, w, l, kind, x) => t.bias(x, w.vector(`blk.${l}.attn_${kind}.bias`)),
    }),
};
