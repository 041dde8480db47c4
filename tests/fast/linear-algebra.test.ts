import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import {
  cholesky,
  choleskySolve,
  combine,
  eigenSymmetric,
  gram,
  orthonormalise,
  topEigenvectors,
} from '../../src/engine/training/linear-algebra.ts';
import { randomSource } from '../../src/engine/training/random.ts';
import type { TopLayers } from '../../src/engine/training/top-layers.ts';
import { cpu, dot, relativeDeviation } from '../support/finite-differences.ts';
import { gaussian } from '../support/tiny-model.ts';

const sizes = fc.integer({ min: 1, max: 9 });
const seeds = fc.integer({ min: 0, max: 2 ** 31 });

function matrix(rows: number, columns: number, seed: number): Float64Array {
  return Float64Array.from({ length: rows * columns }, gaussian(seed));
}

/** X Y^T of X [m, d] and Y [n, d]. */
function timesTransposed(x: Float64Array, y: Float64Array, d: number): Float64Array {
  const [m, n] = [x.length / d, y.length / d];
  return Float64Array.from({ length: m * n }, (_, at) => {
    const [i, j] = [Math.floor(at / n), at % n];
    return dot(x.subarray(i * d, (i + 1) * d), y.subarray(j * d, (j + 1) * d));
  });
}

function transpose(x: Float64Array, columns: number): Float64Array {
  const rows = x.length / columns;
  return Float64Array.from(x, (_, at) => x[(at % rows) * columns + Math.floor(at / rows)]!);
}

const identity = (n: number) => Float64Array.from({ length: n * n }, (_, i) => (i % (n + 1) === 0 ? 1 : 0));

function near(actual: ArrayLike<number>, expected: ArrayLike<number>, tolerance: number): void {
  for (let i = 0; i < expected.length; i++)
    assert.ok(Math.abs(actual[i]! - expected[i]!) <= tolerance, `${i}: ${actual[i]} is not ${expected[i]}`);
}

describe('eigenSymmetric', () => {
  it('finds orthonormal vectors that rebuild the matrix, largest value first', () => {
    fc.assert(
      fc.property(sizes, sizes, seeds, (n, d, seed) => {
        // Of rank d or less: repeated eigenvalues of 0 when d < n. Minus a constant: negative ones too.
        const S = timesTransposed(matrix(n, d, seed), matrix(n, d, seed), d).map((x, i) => x - (i % (n + 1) ? 0 : 1));
        const { values, vectors } = eigenSymmetric(S, n);
        near(timesTransposed(vectors, vectors, n), identity(n), 1e-12);
        const scaled = vectors.map((x, i) => x * values[Math.floor(i / n)]!);
        const scale = 1 + Math.max(...S.map(Math.abs));
        near(timesTransposed(transpose(scaled, n), transpose(vectors, n), n), S, 1e-10 * scale);
        for (let i = 1; i < n; i++) assert.ok(values[i]! <= values[i - 1]!);
      }),
    );
  });

  it('gives the values of a known matrix', () => {
    near(eigenSymmetric(Float64Array.of(2, 1, 1, 2), 2).values, [3, 1], 1e-12);
    near(eigenSymmetric(Float64Array.of(0, 2, 2, 3), 2).values, [4, -1], 1e-12);
    assert.deepEqual([...eigenSymmetric(Float64Array.of(1, 0, 0, 5), 2).values], [5, 1]);
  });
});

describe('cholesky', () => {
  it('solves systems of a positive definite matrix', () => {
    fc.assert(
      // More right-hand sides than are solved at a time.
      fc.property(sizes, fc.integer({ min: 1, max: 40 }), seeds, (n, m, seed) => {
        const factor = matrix(n, n, seed);
        const K = timesTransposed(factor, factor, n).map((x, i) => x + (i % (n + 1) ? 0 : 0.5));
        const x = matrix(m, n, seed + 1);
        // The rows of b are K x; K is symmetric.
        const b = timesTransposed(x, K, n);
        const L = K.slice();
        cholesky(L, n);
        const lower = L.map((value, i) => (i % n <= Math.floor(i / n) ? value : 0));
        near(timesTransposed(lower, lower, n), K, 1e-9);
        choleskySolve(L, n, b);
        near(b, x, 1e-7);
      }),
    );
  });

  it('refuses a matrix that is not positive definite', () => {
    assert.throws(() => cholesky(Float64Array.of(1, 2, 2, 1), 2), /not positive definite/);
    assert.throws(() => cholesky(Float64Array.of(Number.NaN), 1), /not positive definite/);
  });
});

describe('orthonormalise', () => {
  it('makes rows orthonormal and keeps what they span', () => {
    fc.assert(
      fc.property(sizes, sizes, seeds, (r, extra, seed) => {
        const n = r + extra;
        const X = matrix(r, n, seed);
        const Q = X.slice();
        orthonormalise(Q, r, n);
        near(timesTransposed(Q, Q, n), identity(r), 1e-12);
        // Projecting X on the rows of Q gives X back.
        const coefficients = timesTransposed(X, Q, n);
        near(timesTransposed(coefficients, transpose(Q, n), r), X, 1e-10);
      }),
    );
  });

  it('survives rows that are nearly the same, and a row of zeros', () => {
    const n = 6;
    const X = matrix(3, n, 1);
    for (let i = 0; i < n; i++) X[n + i] = X[i]! * (1 + 1e-9 * i);
    orthonormalise(X, 3, n);
    near(timesTransposed(X, X, n), identity(3), 1e-9);
    const zero = new Float64Array(n);
    orthonormalise(zero, 1, n);
    assert.deepEqual(zero, new Float64Array(n));
  });
});

describe('topEigenvectors', () => {
  it('finds the top of a spectrum with gaps', () => {
    fc.assert(
      fc.property(fc.integer({ min: 4, max: 30 }), fc.integer({ min: 1, max: 4 }), seeds, (n, r, seed) => {
        const basis = matrix(n, n, seed);
        orthonormalise(basis, n, n);
        const spectrum = Float64Array.from({ length: n }, (_, i) => 100 * 0.6 ** i);
        const scaled = basis.map((x, i) => x * spectrum[Math.floor(i / n)]!);
        const S = timesTransposed(transpose(scaled, n), transpose(basis, n), n);
        const { values, vectors } = topEigenvectors((X) => timesTransposed(X, S, n), n, r, randomSource(seed), 12);
        near(values, spectrum.subarray(0, r), 1e-4);
        for (let i = 0; i < r; i++) {
          const cosine = dot(vectors.subarray(i * n, (i + 1) * n), basis.subarray(i * n, (i + 1) * n));
          assert.ok(Math.abs(Math.abs(cosine) - 1) < 1e-6, `vector ${i}: ${cosine}`);
        }
      }),
      { numRuns: 40 },
    );
  });
});

describe('products on the backend', () => {
  const top = () => cpu() as TopLayers;

  it('gram is X Y^T and combine is S X', () => {
    const [m, n, d] = [3, 5, 7];
    const [x, y, s] = [matrix(m, d, 1), matrix(n, d, 2), matrix(m, n, 3)];
    const f32 = (a: Float64Array) => Float32Array.from(a);
    assert.ok(relativeDeviation(gram(top(), f32(x), f32(y), d), timesTransposed(x, y, d)) < 1e-5);
    const product = timesTransposed(s, transpose(y, d), n);
    assert.ok(relativeDeviation(combine(top(), f32(s), f32(y), n, d), product) < 1e-5);
  });
});

describe('randomSource', () => {
  it('is uniform in [0, 1) and the same for the same seed', () => {
    const draw = (seed: number) => Array.from({ length: 4000 }, randomSource(seed));
    const values = draw(3);
    assert.deepEqual(values, draw(3));
    assert.notDeepEqual(values, draw(4));
    assert.ok(values.every((x) => x >= 0 && x < 1));
    assert.ok(Math.abs(values.reduce((a, b) => a + b) / values.length - 0.5) < 0.02);
  });
});
