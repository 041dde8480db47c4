/** All methods by name. */
import { TmemError } from '../engine/errors.ts';
import { amem } from './amem.ts';
import { full } from './full.ts';
import { mem1, mem1Aware } from './mem1.ts';
import { memagent, memagentAware } from './memagent.ts';
import { none } from './none.ts';
import { bm25, rag } from './rag.ts';
import { raw, trainedSummary } from './raw.ts';
import { summary } from './summary.ts';
import { getTmem, tmemMethods } from './tmem.ts';
import type { MethodSpec } from './types.ts';

const METHODS: readonly MethodSpec[] = [
  ...[none, full, summary, memagent, memagentAware, mem1, mem1Aware, amem, rag, bm25, raw, trainedSummary],
  ...tmemMethods,
];

export const methodNames = METHODS.map(({ name }) => name);

/** A method, or a variant of tmem with settings (`getTmem`). @throws TmemError `usage` for an unknown name or setting. */
export function getMethod(name: string): MethodSpec {
  const method = METHODS.find((m) => m.name === name) ?? getTmem(name);
  if (!method) throw new TmemError('usage', `There is no method "${name}"; use one of ${methodNames.join(', ')}.`);
  return method;
}
