/** Dense products on the backend, and the small factorisations that are done here. Matrices are row-major [rows, columns]. */
import { type Tensor, TYPE } from '../native/library.ts';
import type { Tape } from './tape.ts';
import type { TopLayers } from './top-layers.ts';

/** Computes one tensor from input matrices given as [rows, columns] arrays; the result comes back as stored. */
export function compute(
  top: TopLayers,
  inputs: readonly { data: Float32Array; columns: number }[],
  build: (tape: Tape, inputs: Tensor[]) => Tensor,
): Float32Array {
  const f = top.native;
  const tape = top.newTape();
  const tensors = inputs.map(({ data, columns }) => {
    const t = f.new2(tape.c, TYPE.F32, columns, data.length / columns);
    f.setInput(t);
    return t;
  });
  const out = build(tape, tensors);
  f.setOutput(out);
  f.expand(tape.graph, out);
  const result = new Float32Array(f.elements(out));
  const runner = top.backends.newRunner();
  try {
    runner.run(tape, {
      before: () => {
        inputs.forEach(({ data }, i) => {
          f.tensorSet(tensors[i]!, data, 0, data.byteLength);
        });
      },
      after: () => f.tensorGet(out, result, 0, result.byteLength),
    });
  } finally {
    runner.free();
  }
  return result;
}

/** X Y^T [m, n] of X [m, d] and Y [n, d]. */
export function gram(top: TopLayers, x: Float32Array, y: Float32Array, d: number): Float32Array {
  return compute(
    top,
    [
      { data: y, columns: d },
      { data: x, columns: d },
    ],
    (tape, [a, b]) => tape.multiply(a!, b!),
  );
}

/** S X [m, d] of S [m, n] and X [n, d]. */
export function combine(top: TopLayers, s: Float32Array, x: Float32Array, n: number, d: number): Float32Array {
  return compute(
    top,
    [
      { data: x, columns: d },
      { data: s, columns: n },
    ],
    (tape, [a, b]) => tape.combine(a!, b!),
  );
}

/** Lower Cholesky factor, in place, of a symmetric positive definite K [n, n]. Four rows at a time read the rows above once. */
export function cholesky(K: Float64Array, n: number): void {
  for (let first = 0; first < n; first += 4) {
    const left = first + 4 <= n ? first : 0; // columns that are done for the four rows together
    if (left > 0) leftOfBlock(K, n, first);
    for (let i = first; i < Math.min(first + 4, n); i++) {
      for (let j = left; j <= i; j++) {
        const ri = i * n;
        const rj = j * n;
        const s = K[ri + j]! - dot(K, ri, rj, j);
        if (i === j) {
          if (!(s > 0)) throw new Error('matrix is not positive definite');
          K[ri + i] = Math.sqrt(s);
        } else {
          K[ri + j] = s / K[rj + j]!;
        }
      }
    }
  }
}

/** The columns before `first` of rows `first` to `first + 3`. */
function leftOfBlock(K: Float64Array, n: number, first: number): void {
  const r0 = first * n;
  const r1 = r0 + n;
  const r2 = r1 + n;
  const r3 = r2 + n;
  for (let j = 0; j < first; j++) {
    const rj = j * n;
    let s0 = K[r0 + j]!;
    let s1 = K[r1 + j]!;
    let s2 = K[r2 + j]!;
    let s3 = K[r3 + j]!;
    for (let k = 0; k < j; k++) {
      const x = K[rj + k]!;
      s0 -= x * K[r0 + k]!;
      s1 -= x * K[r1 + k]!;
      s2 -= x * K[r2 + k]!;
      s3 -= x * K[r3 + k]!;
    }
    const pivot = K[rj + j]!;
    K[r0 + j] = s0 / pivot;
    K[r1 + j] = s1 / pivot;
    K[r2 + j] = s2 / pivot;
    K[r3 + j] = s3 / pivot;
  }
}

/** Sum of the products of n elements from `a` and from `b` on; four sums, as each addition waits for the one before. */
function dot(x: Float64Array, a: number, b: number, n: number): number {
  let s0 = 0;
  let s1 = 0;
  let s2 = 0;
  let s3 = 0;
  let k = 0;
  for (; k + 3 < n; k += 4) {
    s0 += x[a + k]! * x[b + k]!;
    s1 += x[a + k + 1]! * x[b + k + 1]!;
    s2 += x[a + k + 2]! * x[b + k + 2]!;
    s3 += x[a + k + 3]! * x[b + k + 3]!;
  }
  for (; k < n; k++) s0 += x[a + k]! * x[b + k]!;
  return s0 + s1 + s2 + s3;
}

/** Right-hand sides solved at a time: each element of the factor is read once for all of them, and their sums stay in registers. */
const SOLVE_BLOCK = 4;

/** Solves L L^T x = b for each row b of B [m, n], in place; L is a Cholesky factor [n, n]. */
export function choleskySolve(L: Float64Array, n: number, B: Float64Array): void {
  const m = B.length / n;
  const X = new Float64Array(n * SOLVE_BLOCK); // one column for each right-hand side
  for (let first = 0; first < m; first += SOLVE_BLOCK) {
    const w = Math.min(SOLVE_BLOCK, m - first);
    for (let c = 0; c < w; c++) for (let i = 0; i < n; i++) X[i * SOLVE_BLOCK + c] = B[(first + c) * n + i]!;
    solveBlock(L, n, X);
    for (let c = 0; c < w; c++) for (let i = 0; i < n; i++) B[(first + c) * n + i] = X[i * SOLVE_BLOCK + c]!;
  }
}

/** The same for the columns of X [n, 4]. */
function solveBlock(L: Float64Array, n: number, X: Float64Array): void {
  for (let i = 0, at = 0; i < n; i++, at += 4) {
    let x0 = X[at]!;
    let x1 = X[at + 1]!;
    let x2 = X[at + 2]!;
    let x3 = X[at + 3]!;
    const row = i * n;
    for (let k = 0, from = 0; k < i; k++, from += 4) {
      const l = L[row + k]!;
      x0 -= l * X[from]!;
      x1 -= l * X[from + 1]!;
      x2 -= l * X[from + 2]!;
      x3 -= l * X[from + 3]!;
    }
    const pivot = L[row + i]!;
    X[at] = x0 / pivot;
    X[at + 1] = x1 / pivot;
    X[at + 2] = x2 / pivot;
    X[at + 3] = x3 / pivot;
  }
  for (let i = n - 1; i >= 0; i--) {
    const row = i * n;
    const pivot = L[row + i]!;
    const at = i * 4;
    X[at]! /= pivot;
    X[at + 1]! /= pivot;
    X[at + 2]! /= pivot;
    X[at + 3]! /= pivot;
    const x0 = X[at]!;
    const x1 = X[at + 1]!;
    const x2 = X[at + 2]!;
    const x3 = X[at + 3]!;
    for (let k = 0, to = 0; k < i; k++, to += 4) {
      const l = L[row + k]!;
      X[to]! -= l * x0;
      X[to + 1]! -= l * x1;
      X[to + 2]! -= l * x2;
      X[to + 3]! -= l * x3;
    }
  }
}

/** Eigenvalues and orthonormal eigenvectors (rows), largest first, of a symmetric S [n, n], by cyclic Jacobi rotations. */
export function eigenSymmetric(S: Float64Array, n: number): { values: Float64Array; vectors: Float64Array } {
  const a = S.slice();
  const v = new Float64Array(n * n);
  for (let i = 0; i < n; i++) v[i * n + i] = 1;
  for (let sweep = 0; sweep < 60; sweep++) {
    let off = 0;
    let diagonal = 0;
    for (let i = 0; i < n; i++)
      for (let j = 0; j < n; j++) {
        const square = a[i * n + j]! ** 2;
        if (i === j) diagonal += square;
        else off += square;
      }
    if (off <= 1e-24 * diagonal) break;
    for (let p = 0; p < n; p++) {
      for (let q = p + 1; q < n; q++) {
        const apq = a[p * n + q]!;
        if (apq === 0) continue;
        const theta = (a[q * n + q]! - a[p * n + p]!) / (2 * apq);
        const t = Math.sign(theta || 1) / (Math.abs(theta) + Math.sqrt(theta * theta + 1));
        const c = 1 / Math.sqrt(t * t + 1);
        const s = t * c;
        for (let k = 0; k < n; k++) {
          const kp = a[k * n + p]!;
          const kq = a[k * n + q]!;
          a[k * n + p] = c * kp - s * kq;
          a[k * n + q] = s * kp + c * kq;
        }
        for (let k = 0; k < n; k++) {
          const pk = a[p * n + k]!;
          const qk = a[q * n + k]!;
          a[p * n + k] = c * pk - s * qk;
          a[q * n + k] = s * pk + c * qk;
          const vp = v[p * n + k]!;
          const vq = v[q * n + k]!;
          v[p * n + k] = c * vp - s * vq;
          v[q * n + k] = s * vp + c * vq;
        }
      }
    }
  }
  const order = Array.from({ length: n }, (_, i) => i).sort((i, j) => a[j * n + j]! - a[i * n + i]!);
  const vectors = new Float64Array(n * n);
  order.forEach((from, to) => {
    vectors.set(v.subarray(from * n, (from + 1) * n), to * n);
  });
  return { values: Float64Array.from(order, (i) => a[i * n + i]!), vectors };
}

/** Makes the rows of X [r, n] orthonormal, in place (modified Gram-Schmidt, twice for accuracy). */
export function orthonormalise(X: Float64Array, r: number, n: number): void {
  for (let i = 0; i < r; i++) {
    const x = X.subarray(i * n, (i + 1) * n);
    for (let pass = 0; pass < 2; pass++) {
      for (let j = 0; j < i; j++) {
        const y = X.subarray(j * n, (j + 1) * n);
        let d = 0;
        for (let k = 0; k < n; k++) d += x[k]! * y[k]!;
        for (let k = 0; k < n; k++) x[k]! -= d * y[k]!;
      }
    }
    let norm = 0;
    for (let k = 0; k < n; k++) norm += x[k]! * x[k]!;
    norm = Math.sqrt(norm) || 1;
    for (let k = 0; k < n; k++) x[k]! /= norm;
  }
}

/** Top r eigenvectors (rows) of a symmetric positive semi-definite operator of size n, by subspace iteration and Rayleigh-Ritz. */
export function topEigenvectors(
  apply: (rows: Float64Array, count: number) => Float64Array,
  n: number,
  r: number,
  random: () => number,
  iterations = 30,
): { values: Float64Array; vectors: Float64Array } {
  const count = Math.min(n, r + Math.max(8, r));
  let X = Float64Array.from({ length: count * n }, () => random() - 0.5);
  orthonormalise(X, count, n);
  for (let i = 0; i < iterations; i++) {
    X = Float64Array.from(apply(X, count));
    orthonormalise(X, count, n);
  }
  const Y = apply(X, count);
  const small = new Float64Array(count * count);
  for (let i = 0; i < count; i++)
    for (let j = 0; j < count; j++) {
      let s = 0;
      for (let k = 0; k < n; k++) s += X[i * n + k]! * Y[j * n + k]!;
      small[i * count + j] = s;
    }
  for (let i = 0; i < count; i++)
    for (let j = 0; j < i; j++)
      small[i * count + j] = small[j * count + i] = (small[i * count + j]! + small[j * count + i]!) / 2;
  const { values, vectors: Q } = eigenSymmetric(small, count);
  const vectors = new Float64Array(r * n);
  for (let i = 0; i < Math.min(r, count); i++) {
    for (let j = 0; j < count; j++) {
      const q = Q[i * count + j]!;
      for (let k = 0; k < n; k++) vectors[i * n + k]! += q * X[j * n + k]!;
    }
  }
  return { values: values.slice(0, r), vectors };
}
