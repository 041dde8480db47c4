import { TmemError } from '../engine/errors.ts';
import { clbench } from './clbench.ts';
import { locomo } from './locomo.ts';
import { longmemeval } from './longmemeval.ts';
import { search } from './search.ts';
import type { Benchmark } from './types.ts';

const benchmarks: readonly Benchmark[] = [locomo, longmemeval, search, clbench];

export const benchmarkNames: readonly string[] = benchmarks.map(({ name }) => name);

/** @throws TmemError `usage` naming the benchmarks. */
export function getBenchmark(name: string): Benchmark {
  const found = benchmarks.find((benchmark) => benchmark.name === name);
  if (found) return found;
  throw new TmemError('usage', `There is no benchmark "${name}"; choose one of ${benchmarkNames.join(', ')}.`);
}
