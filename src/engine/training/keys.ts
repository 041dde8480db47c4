/**
 * A from whitened keys: the rows of A span the top directions of Z = X_q (C + lambda I)^-1, where X_q are the inputs of the adapted
 * product on the samples to be learned and C the covariance of its inputs on ordinary text. It is the key direction C^-1 k of ROME and
 * MEMIT used as a LoRA input: A x is large on the samples and small on ordinary text, so Delta hardly acts there.
 */
import type { FastWeights } from '../types.ts';
import { forward, run } from './forward.ts';
import { withZeroB } from './initialise.ts';
import { cholesky, choleskySolve, combine, gram, topEigenvectors } from './linear-algebra.ts';
import { LoraState } from './lora-state.ts';
import { groupSamples, PackedBatch, type PreparedSample } from './packed-batch.ts';
import { randomSource } from './random.ts';
import { Tape } from './tape.ts';
import type { TopLayers } from './top-layers.ts';

const MAX_TOKENS = 512;
/** Rows used of the samples and of the ordinary text: the cost of the whitening grows with their squares. */
const MAX_SAMPLE_ROWS = 240;
const MAX_ORDINARY_ROWS = 800;
const MAX_EARLIER_ROWS = 400;

export interface KeyOptions {
  readonly samples: readonly PreparedSample[];
  readonly ordinary: readonly PreparedSample[];
  readonly earlier: readonly PreparedSample[];
  readonly rank: number;
  /** lambda = ridge * trace(C) / n, n the rows of ordinary text. */
  readonly ridge: number;
  /** Root mean square of A x over the samples' tokens. */
  readonly scale: number;
  readonly frozen?: FastWeights | undefined;
  readonly seed: number;
}

/** Inputs of one adapted product: rows of d values. */
interface Rows {
  readonly d: number;
  readonly values: Float32Array[];
}

export function keyInitialisation(top: TopLayers, options: KeyOptions): FastWeights {
  const frozen = options.frozen && new LoraState(top, options.frozen, { trained: false });
  try {
    const ordinary = captureInputs(top, options.ordinary, frozen, false);
    const earlier = captureInputs(top, options.earlier, frozen, true);
    const samples = captureInputs(top, options.samples, frozen, true);
    const byInput = new Map<string, Float32Array>();
    return withZeroB(top, options.rank, (name) => {
      const key = inputOf(name);
      let a = byInput.get(key);
      if (!a) {
        a = whitenedRows(
          top,
          samples.get(key)!,
          [spread(ordinary.get(key)!, MAX_ORDINARY_ROWS), spread(earlier.get(key), MAX_EARLIER_ROWS)],
          options,
        );
        byInput.set(key, a);
      }
      return a;
    });
  } finally {
    frozen?.free();
  }
}

/** Gate and up share their input. */
function inputOf(name: string): string {
  const [, layer, part] = name.split('.');
  return `${part === 'ffn_down' ? 'swiglu' : 'norm'}-${layer}`;
}

/** The inputs of the adapted products at every token; `ownOnly` leaves out the prompt tokens that all samples share. */
function captureInputs(
  top: TopLayers,
  samples: readonly PreparedSample[],
  frozen: LoraState | undefined,
  ownOnly: boolean,
): Map<string, Rows> {
  const f = top.native;
  const { D, F } = top.shape;
  const found = new Map<string, Rows>();
  const allocator = f.allocatorNew(f.defaultBufferType(top.backend));
  try {
    for (const group of groupSamples(samples, MAX_TOKENS)) {
      const batch = new PackedBatch(top, group, 'all');
      const tape = new Tape(f);
      const { keys } = forward(tape, top, { frozen }, batch);
      for (const k of keys) {
        for (const t of [k.norm, k.swiglu]) f.setOutput(t);
        f.expand(tape.graph, k.swiglu);
      }
      run(top, tape, allocator, {
        after: () => {
          for (const k of keys) {
            for (const [kind, tensor, d] of [
              ['norm', k.norm, D],
              ['swiglu', k.swiglu, F],
            ] as const) {
              const all = new Float32Array(batch.T * d);
              f.tensorGet(tensor, all, 0, all.byteLength);
              const rows = found.get(`${kind}-${k.layer}`) ?? { d, values: [] };
              found.set(`${kind}-${k.layer}`, rows);
              for (let t = ownOnly ? batch.prefix : 0; t < batch.T; t++)
                rows.values.push(all.subarray(t * d, (t + 1) * d));
            }
          }
        },
      });
      batch.free();
    }
  } finally {
    f.allocatorFree(allocator);
  }
  return found;
}

/** At most n rows, evenly spread, as one matrix. */
function spread(rows: Rows | undefined, n: number): Float32Array {
  if (!rows) return new Float32Array(0);
  const count = Math.min(n, rows.values.length);
  const matrix = new Float32Array(count * rows.d);
  for (let i = 0; i < count; i++) matrix.set(rows.values[Math.floor((i * rows.values.length) / count)]!, i * rows.d);
  return matrix;
}

function concatenate(parts: readonly Float32Array[]): Float32Array {
  const whole = new Float32Array(parts.reduce((n, p) => n + p.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}

/** A [R, d] for one input, by Woodbury: (C + lambda I)^-1 x is, up to a factor, x - X_g^T (X_g X_g^T + n lambda I)^-1 X_g x. */
function whitenedRows(
  top: TopLayers,
  samples: Rows,
  ordinary: readonly Float32Array[],
  options: KeyOptions,
): Float32Array {
  const { d } = samples;
  const { rank, ridge, scale } = options;
  const Xg = concatenate(ordinary);
  const Xq = spread(samples, MAX_SAMPLE_ROWS);
  const g = Xg.length / d;
  const q = Xq.length / d;
  const K = Float64Array.from(gram(top, Xg, Xg, d));
  let trace = 0;
  for (let i = 0; i < g; i++) trace += K[i * g + i]!;
  for (let i = 0; i < g; i++) K[i * g + i]! += (ridge * trace) / g;
  cholesky(K, g);
  const S = Float64Array.from(gram(top, Xq, Xg, d)); // [q, g]
  choleskySolve(K, g, S);
  const Z = combine(top, Float32Array.from(S), Xg, g, d); // [q, d]
  for (let i = 0; i < Z.length; i++) Z[i] = Xq[i]! - Z[i]!;
  const Gz = Float64Array.from(gram(top, Z, Z, d));
  const { vectors } = topEigenvectors(
    (rows, count) => multiplyRows(rows, count, Gz, q),
    q,
    Math.min(rank, q),
    randomSource(options.seed),
  );
  const A = new Float32Array(rank * d);
  A.set(combine(top, Float32Array.from(vectors), Z, q, d));
  const projections = gram(top, A, Xq, d); // [R, q]
  for (let r = 0; r < rank; r++) {
    let square = 0;
    for (let i = 0; i < q; i++) square += projections[r * q + i]! ** 2;
    const factor = square > 0 ? scale / Math.sqrt(square / q) : 0;
    for (let i = 0; i < d; i++) A[r * d + i]! *= factor;
  }
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
