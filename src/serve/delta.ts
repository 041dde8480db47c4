/** How much the fast weights change each product of the model. */
import type { FastWeights, LoraTensor } from '../engine/types.ts';

export interface DeltaNorm {
  readonly layer: number;
  /** As GGUF names it: `ffn_gate`, `ffn_up`, `ffn_down`, `attn_q`, ... */
  readonly product: string;
  /** Frobenius norm of B A. */
  readonly norm: number;
}

/** One entry a tensor, in the tensors' order. */
export function deltaNorms({ rank, alpha, tensors }: FastWeights): DeltaNorm[] {
  return tensors.map((tensor) => {
    const [, layer, product] = /^blk\.(\d+)\.(\w+)\.weight$/.exec(tensor.name) ?? ['', '-1', tensor.name];
    return { layer: Number(layer), product: product!, norm: (alpha / rank) * normOf(tensor, rank) };
  });
}

/** ||B A||_F^2 = tr(A^T B^T B A) = sum of (B^T B) * (A A^T), both [R, R]: B A itself, [out, in], is never made. */
function normOf({ a, b, inputs: I, outputs: O }: LoraTensor, R: number): number {
  let squares = 0;
  for (let r = 0; r < R; r++)
    for (let s = 0; s <= r; s++) {
      let [ofB, ofA] = [0, 0];
      for (let o = 0; o < O; o++) ofB += b[o * R + r]! * b[o * R + s]!;
      for (let i = 0; i < I; i++) ofA += a[r * I + i]! * a[s * I + i]!;
      squares += (r === s ? 1 : 2) * ofB * ofA;
    }
  // Rounding may leave a little less than nothing.
  return Math.sqrt(Math.max(0, squares));
}
