import type { FastWeights, LoraTensor } from '../engine/types.ts';

/** Two LoRAs as one: A rows and B columns side by side, so that B A = B1 A1 + B2 A2. */
export function stack(first: FastWeights | null, second: FastWeights): FastWeights {
  if (!first) return second;
  const rank = first.rank + second.rank;
  const earlier = new Map(first.tensors.map((t) => [t.name, t]));
  const tensors = second.tensors.map((t): LoraTensor => {
    const e = earlier.get(t.name);
    if (!e) throw new Error(`the first fast weights have no ${t.name}`);
    const a = new Float32Array(rank * t.inputs);
    a.set(e.a);
    a.set(t.a, e.a.length);
    const b = new Float32Array(t.outputs * rank);
    for (let o = 0; o < t.outputs; o++) {
      b.set(e.b.subarray(o * first.rank, (o + 1) * first.rank), o * rank);
      b.set(t.b.subarray(o * second.rank, (o + 1) * second.rank), o * rank + first.rank);
    }
    return { ...t, a, b };
  });
  return { rank, alpha: rank, tensors };
}

/** The same fast weights with Delta multiplied by a factor. */
export function scaleB(weights: FastWeights, factor: number): FastWeights {
  return { ...weights, tensors: weights.tensors.map((t) => ({ ...t, b: t.b.map((x) => x * factor) })) };
}
