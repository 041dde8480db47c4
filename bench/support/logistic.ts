/** Logistic regression, and how well its probabilities tell one from the other. */
import { logistic } from '../../src/memory/confidence.ts';

export interface Labelled {
  readonly features: readonly number[];
  readonly label: boolean;
}

/**
 * The coefficients that maximise the likelihood less a ridge, by Newton's method. The first feature stands for the constant and has no
 * ridge.
 */
export function fitLogistic(data: readonly Labelled[], ridge = 0.1, steps = 50): number[] {
  const n = data[0]!.features.length;
  const w = new Array<number>(n).fill(0);
  for (let step = 0; step < steps; step++) {
    const gradient = w.map((c, i) => (i === 0 ? 0 : -ridge * c));
    const hessian = w.map((_, i) => w.map((_, j) => (i === j ? (i === 0 ? 1e-9 : ridge) : 0)));
    for (const { features: x, label } of data) {
      const p = logistic(w, x);
      for (let i = 0; i < n; i++) {
        gradient[i]! += ((label ? 1 : 0) - p) * x[i]!;
        for (let j = 0; j < n; j++) hessian[i]![j]! += p * (1 - p) * x[i]! * x[j]!;
      }
    }
    const move = solve(hessian, gradient);
    // Far from the optimum a full step may overshoot.
    const scale = Math.min(1, 5 / Math.max(...move.map(Math.abs), 1e-12));
    move.forEach((m, i) => {
      w[i]! += scale * m;
    });
    if (Math.max(...move.map(Math.abs)) < 1e-9) break;
  }
  return w;
}

/** Gaussian elimination with pivoting; the arguments are used up. */
function solve(a: number[][], b: number[]): number[] {
  const n = b.length;
  for (let i = 0; i < n; i++) {
    let pivot = i;
    for (let r = i + 1; r < n; r++) if (Math.abs(a[r]![i]!) > Math.abs(a[pivot]![i]!)) pivot = r;
    [a[i], a[pivot]] = [a[pivot]!, a[i]!];
    [b[i], b[pivot]] = [b[pivot]!, b[i]!];
    for (let r = i + 1; r < n; r++) {
      const f = a[r]![i]! / a[i]![i]!;
      for (let c = i; c < n; c++) a[r]![c]! -= f * a[i]![c]!;
      b[r]! -= f * b[i]!;
    }
  }
  for (let i = n - 1; i >= 0; i--) {
    for (let c = i + 1; c < n; c++) b[i]! -= a[i]![c]! * b[c]!;
    b[i]! /= a[i]![i]!;
  }
  return b;
}

/** The probability that one of the first is above one of the second; half for equals. */
export function auroc(positive: readonly number[], negative: readonly number[]): number {
  let wins = 0;
  for (const p of positive) for (const n of negative) wins += p > n ? 1 : p === n ? 0.5 : 0;
  return wins / (positive.length * negative.length);
}

/** Expected calibration error over bins of equal width. */
export function calibrationError(said: readonly { readonly p: number; readonly right: boolean }[], bins = 10): number {
  let error = 0;
  for (let i = 0; i < bins; i++) {
    const inside = said.filter(({ p }) => Math.min(bins - 1, Math.floor(p * bins)) === i);
    if (inside.length === 0) continue;
    const p = inside.reduce((sum, s) => sum + s.p, 0) / inside.length;
    const right = inside.filter((s) => s.right).length / inside.length;
    error += (inside.length / said.length) * Math.abs(p - right);
  }
  return error;
}
