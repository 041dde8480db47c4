import type { FastWeights } from '../engine/types.ts';

export { stack } from '../engine/adapter/stack.ts';

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
