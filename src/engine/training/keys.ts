/**
 * A from whitened keys: the rows of A are the directions along which the inputs of an adapted product are largest on the samples to be
 * learned for their size on ordinary text, i.e. the top generalised eigenvectors of (X_q^T X_q, C + lambda I), with X_q the inputs on
 * the samples and C their covariance on ordinary text. They span keys C^-1 k as in ROME and MEMIT. Every row is equally small on
 * ordinary text, so that none of them is a cheap way for Delta to act there (LOG.md).
 */
import type { FastWeights } from '../types.ts';
import { inputOf } from './forward.ts';
import { withZeroB } from './initialise.ts';
import { captureInputs, type Rows, spread } from './inputs.ts';
import { cholesky, choleskySolve, combine, gram, topEigenvectors } from './linear-algebra.ts';
import { LoraState } from './lora-state.ts';
import type { PreparedSample } from './packed-batch.ts';
import { randomSource } from './random.ts';
import type { TopLayers } from './top-layers.ts';

/** Rows used of the samples and of the ordinary text: the cost of the whitening grows with their squares. */
const MAX_SAMPLE_ROWS = 160;
export const MAX_ORDINARY_ROWS = 1600;

export interface KeyOptions {
  readonly samples: readonly PreparedSample[];
  readonly ordinary: readonly PreparedSample[];
  readonly rank: number;
  /** lambda = ridge * trace(C) / n, n the rows of ordinary text. */
  readonly ridge: number;
  /** Root mean square of the first row's A x over the samples' tokens; the other rows are smaller there. */
  readonly scale: number;
  /** `any`: random rows instead of those that are largest on the samples, each of the same size there. Default `samples`. */
  readonly directions?: 'samples' | 'any';
  readonly frozen?: FastWeights | undefined;
  readonly seed: number;
}

/** C + lambda I of one input, as (C + lambda I)^-1 is applied: X_g [g, d] and the Cholesky factor of X_g X_g^T + n lambda I [g, g]. */
interface Covariance {
  readonly g: number;
  readonly X: Float32Array;
  readonly factor: Float64Array;
}

export function keyInitialisation(top: TopLayers, options: KeyOptions): FastWeights {
  const frozen = options.frozen && new LoraState(top, options.frozen, { trained: false });
  try {
    const covariances = ordinaryCovariances(top, options.ordinary, options.ridge);
    const samples = captureInputs(top, options.samples, { frozen, ownOnly: true });
    const byInput = new Map<string, Float32Array>();
    return withZeroB(top, options.rank, (name) => {
      const key = inputOf(name);
      const rows = options.directions === 'any' ? nullSpaceRows : whitenedRows;
      const a = byInput.get(key) ?? rows(top, samples.get(key)!, covariances.get(key)!, options);
      byInput.set(key, a);
      return a;
    });
  } finally {
    frozen?.free();
  }
}

interface KeptCovariances {
  readonly tokens: readonly Int32Array[];
  readonly ridge: number;
  readonly covariances: Map<string, Covariance>;
}
const kept = new WeakMap<TopLayers, KeptCovariances>();

/** Taken without fast weights, which hardly act on ordinary text: so they are the same for every write, and kept. */
function ordinaryCovariances(
  top: TopLayers,
  ordinary: readonly PreparedSample[],
  ridge: number,
): Map<string, Covariance> {
  const before = kept.get(top);
  const tokens = ordinary.map((s) => s.tokens);
  if (
    before?.ridge === ridge &&
    before.tokens.length === tokens.length &&
    before.tokens.every((t, i) => t === tokens[i])
  )
    return before.covariances;
  const covariances = new Map<string, Covariance>();
  for (const [key, rows] of captureInputs(top, ordinary, { ownOnly: false })) {
    const X = spread(rows, MAX_ORDINARY_ROWS);
    const g = X.length / rows.d;
    const K = Float64Array.from(gram(top, X, X, rows.d));
    let trace = 0;
    for (let i = 0; i < g; i++) trace += K[i * g + i]!;
    for (let i = 0; i < g; i++) K[i * g + i]! += (ridge * trace) / g;
    cholesky(K, g);
    covariances.set(key, { g, X, factor: K });
  }
  kept.set(top, { tokens, ridge, covariances });
  return covariances;
}

/**
 * Rows X [q, d] times (C + lambda I)^-1, up to a factor, by Woodbury: X - X X_g^T (X_g X_g^T + n lambda I)^-1 X_g. That takes away what is
 * large on ordinary text.
 */
function whitened(top: TopLayers, X: Float32Array, d: number, ordinary: Covariance): Float32Array {
  const solved = Float64Array.from(gram(top, X, ordinary.X, d)); // [q, g]
  choleskySolve(ordinary.factor, ordinary.g, solved);
  const Z = combine(top, Float32Array.from(solved), ordinary.X, ordinary.g, d); // [q, d]
  return Z.map((z, i) => X[i]! - z);
}

/** A [R, d] for one input: random rows in the null space of ordinary text (AlphaEdit, arXiv 2410.02355). */
function nullSpaceRows(top: TopLayers, samples: Rows, ordinary: Covariance, { rank, scale, seed }: KeyOptions) {
  const { d } = samples;
  const random = randomSource(seed);
  const A = whitened(
    top,
    Float32Array.from({ length: rank * d }, () => 2 * random() - 1),
    d,
    ordinary,
  );
  const X = spread(samples, MAX_SAMPLE_ROWS);
  const q = X.length / d;
  const ax = gram(top, A, X, d); // [R, q]
  for (let r = 0; r < rank; r++) {
    const square = ax.subarray(r * q, (r + 1) * q).reduce((sum, x) => sum + x * x, 0) / q;
    for (let i = r * d; i < (r + 1) * d; i++) A[i]! *= scale / Math.sqrt(square);
  }
  return A;
}

/** A [R, d] for one input. Rows beyond the samples' tokens stay 0. */
function whitenedRows(
  top: TopLayers,
  samples: Rows,
  ordinary: Covariance,
  { rank, scale, seed }: KeyOptions,
): Float32Array {
  const { d } = samples;
  const X = spread(samples, MAX_SAMPLE_ROWS);
  const q = X.length / d;
  const Z = whitened(top, X, d, ordinary);
  // An eigenvector v of X C^-1 X^T gives the direction v^T Z, whose mean square is v's eigenvalue (a) on ordinary text up to a constant
  // and (b), times itself, on the samples: so dividing by the root of the eigenvalue makes all equal on ordinary text.
  const S = Float64Array.from(gram(top, X, Z, d));
  const { values, vectors } = topEigenvectors(
    (rows, count) => multiplyRows(rows, count, S, q),
    q,
    Math.min(rank, q),
    randomSource(seed),
  );
  const largest = values[0]!;
  values.forEach((value, r) => {
    const factor = value > 0 ? (scale * Math.sqrt(q)) / Math.sqrt(largest * value) : 0;
    for (let i = 0; i < q; i++) vectors[r * q + i]! *= factor;
  });
  const A = new Float32Array(rank * d);
  A.set(combine(top, Float32Array.from(vectors), Z, q, d));
  return A;
}

/** rows [count, n] times a symmetric S [n, n]. */
function multiplyRows(rows: Float64Array, count: number, S: Float64Array, n: number): Float64Array {
  const out = new Float64Array(count * n);
  for (let r = 0; r < count; r++) {
    for (let k = 0; k < n; k++) {
      const x = rows[r * n + k]!;
      for (let j = 0; j < n; j++) out[r * n + j]! += x * S[k * n + j]!;
    }
  }
  return out;
}
