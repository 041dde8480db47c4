/** Fast weights as values: put together, scaled, compared, named. */
import { createHash } from 'node:crypto';
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

/** Identity of fast weights: equal hashes are equal bits. */
export function hashOf({ rank, alpha, tensors }: FastWeights): string {
  const hash = createHash('sha256').update(`${rank} ${alpha}`);
  for (const { name, a, b } of tensors) hash.update(`\n${name}\n`).update(a).update(b);
  return hash.digest('hex').slice(0, 16);
}

/** The same, for names of files. */
export const shortHash = (weights: FastWeights): string => hashOf(weights).slice(0, 12);

/** The same fast weights with Delta multiplied by a factor. */
export function scaleB(weights: FastWeights, factor: number): FastWeights {
  return { ...weights, tensors: weights.tensors.map((t) => ({ ...t, b: t.b.map((x) => x * factor) })) };
}

/** Whether two Deltas are the same to the bit, and how far apart their B are, relative to the first's. */
export function compareWeights(
  one: FastWeights | null,
  other: FastWeights | null,
): { readonly same: boolean; readonly deviation: number } {
  if (!one || !other) return { same: one === other, deviation: one === other ? 0 : 1 };
  const names = (w: FastWeights) => w.tensors.map((t) => `${t.name} ${t.inputs} ${t.outputs}`).join('\n');
  if (one.rank !== other.rank || names(one) !== names(other)) return { same: false, deviation: 1 };
  let same = true;
  let [squares, size] = [0, 0];
  one.tensors.forEach((t, i) => {
    const o = other.tensors[i]!;
    same &&= t.a.every((x, j) => Object.is(x, o.a[j]));
    t.b.forEach((x, j) => {
      same &&= Object.is(x, o.b[j]);
      squares += (x - o.b[j]!) ** 2;
      size += x * x;
    });
  });
  return { same, deviation: size > 0 ? Math.sqrt(squares / size) : squares > 0 ? 1 : 0 };
}

/** Those of the layers from one on. */
export function fromLayer(weights: FastWeights, first: number): FastWeights {
  return { ...weights, tensors: weights.tensors.filter(({ name }) => Number(name.split('.')[1]) >= first) };
}

/** Those of the feed-forward products. */
export function withoutAttention(weights: FastWeights): FastWeights {
  return { ...weights, tensors: weights.tensors.filter(({ name }) => !name.split('.')[2]!.startsWith('attn_')) };
}
