/** Means, their spread over runs, and intervals by the bootstrap (Efron 1979), paired where two methods answered the same questions. */
import { randomSource } from '../engine/training/random.ts';

export interface Interval {
  readonly low: number;
  readonly high: number;
}

const RESAMPLES = 2000;
const COVERED = 0.95;

export function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

/** Sample standard deviation; 0 of a single value. */
export function deviation(values: readonly number[]): number {
  if (values.length < 2) return 0;
  const centre = mean(values);
  return Math.sqrt(values.reduce((sum, value) => sum + (value - centre) ** 2, 0) / (values.length - 1));
}

/** 95 % percentile interval of the mean. Same values, same seed: same interval. */
export function bootstrapInterval(values: readonly number[], seed = 1): Interval {
  const random = randomSource(seed);
  const means = Array.from({ length: RESAMPLES }, () => {
    let sum = 0;
    for (let i = 0; i < values.length; i++) sum += values[Math.floor(random() * values.length)]!;
    return sum / values.length;
  }).sort((a, b) => a - b);
  const tail = (1 - COVERED) / 2;
  return { low: means[Math.floor(tail * RESAMPLES)]!, high: means[Math.ceil((1 - tail) * RESAMPLES) - 1]! };
}

/** How much the first is above the second on the same questions, in their order. */
export function pairedDifference(
  one: readonly number[],
  other: readonly number[],
  seed = 1,
): { readonly difference: number } & Interval {
  const differences = one.map((value, i) => value - other[i]!);
  return { difference: mean(differences), ...bootstrapInterval(differences, seed) };
}
