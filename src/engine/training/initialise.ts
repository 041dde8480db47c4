import { TYPE } from '../native/library.ts';
import type { FastWeights, LoraTensor } from '../types.ts';
import { compute, topEigenvectors } from './linear-algebra.ts';
import { randomSource } from './random.ts';
import type { TopLayers } from './top-layers.ts';

/** Fast weights with the given A [R, in] for each adapted product, and B = 0. */
export function withZeroB(top: TopLayers, rank: number, rows: (name: string) => Float32Array): FastWeights {
  const tensors: LoraTensor[] = top.adaptedNames().map((name) => {
    const { inputs, outputs } = top.size(name);
    return { name, inputs, outputs, a: rows(name), b: new Float32Array(outputs * rank) };
  });
  return { rank, alpha: rank, tensors };
}

/** A uniform in +-sqrt(3 / in), as LoRA's kaiming start with a = sqrt(5) has it up to a constant. */
export function randomInitialisation(top: TopLayers, rank: number, seed: number): FastWeights {
  const random = randomSource(seed);
  return withZeroB(top, rank, (name) => {
    const { inputs } = top.size(name);
    const bound = Math.sqrt(3 / inputs);
    return Float32Array.from({ length: rank * inputs }, () => (2 * random() - 1) * bound);
  });
}

/** A0 = Sigma_r V_r^T: the top right singular vectors of each adapted weight times its singular values (TMEM, section on initialisation). */
export function svdInitialisation(top: TopLayers, rank: number, seed: number): FastWeights {
  const random = randomSource(seed);
  return withZeroB(top, rank, (name) => {
    const { inputs } = top.size(name);
    // W^T W x with W dequantised to F32: quantised products round their inputs to 8 bits, which would blur the small singular values.
    const { values, vectors } = top.withStored(name, (weight) =>
      topEigenvectors(
        (rows) =>
          Float64Array.from(
            compute(top, [{ data: Float32Array.from(rows), columns: inputs }], (tape, [x]) => {
              const { f, c } = tape;
              const w = f.cast(c, weight, TYPE.F32);
              return f.mulMat(c, f.cont(c, f.transpose(c, w)), f.mulMat(c, w, x!));
            }),
          ),
        inputs,
        rank,
        random,
        12,
      ),
    );
    const a = new Float32Array(rank * inputs);
    for (let r = 0; r < rank; r++) {
      const v = vectors.subarray(r * inputs, (r + 1) * inputs);
      // The sign of a singular vector is free; the largest entry is made positive so that every machine agrees.
      const largest = v.reduce((best, x) => (Math.abs(x) > Math.abs(best) ? x : best), 0);
      const scale = Math.sqrt(Math.max(values[r]!, 0)) * (largest < 0 ? -1 : 1);
      for (let i = 0; i < inputs; i++) a[r * inputs + i] = v[i]! * scale;
    }
    return a;
  });
}
