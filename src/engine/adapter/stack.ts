import type { FastWeights, LoraTensor } from '../types.ts';

/** Two LoRAs as one: A rows and B columns side by side, so that B A = B1 A1 + B2 A2; zeros where one does not adapt a product. */
export function stack(first: FastWeights | null, second: FastWeights): FastWeights {
  if (!first) return second;
  const rank = first.rank + second.rank;
  const names = new Set([...first.tensors, ...second.tensors].map((t) => t.name));
  const tensors = [...names].map((name): LoraTensor => {
    const parts = [first, second].map(({ tensors, rank: R }) => ({ R, tensor: tensors.find((t) => t.name === name) }));
    const { inputs, outputs } = parts.find((part) => part.tensor)!.tensor!;
    const a = new Float32Array(rank * inputs);
    const b = new Float32Array(outputs * rank);
    let row = 0;
    for (const { R, tensor } of parts) {
      if (tensor) {
        a.set(tensor.a, row * inputs);
        for (let o = 0; o < outputs; o++) b.set(tensor.b.subarray(o * R, (o + 1) * R), o * rank + row);
      }
      row += R;
    }
    return { name, inputs, outputs, a, b };
  });
  return { rank, alpha: rank, tensors };
}
