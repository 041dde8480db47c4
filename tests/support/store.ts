/** What the tests of the store share with the processes that they kill. */
import type { FastWeights } from '../../src/engine/types.ts';
import type { Snapshot } from '../../src/memory/session.ts';
import { blobOf } from '../../src/memory/store/blobs.ts';
import type { MemoryState } from '../../src/memory/types.ts';

export const MODEL = { name: 'tiny', fingerprint: 'f1' };
const INPUTS = 2000;

/** Weights of 64 kB that the mark determines. */
export function marked(mark: number): FastWeights {
  const values = (offset: number) =>
    Float32Array.from({ length: 4 * INPUTS }, (_, i) => Math.sin(i * (mark + 2) + offset));
  const shape = { name: 'blk.0.ffn_up.weight', inputs: INPUTS, outputs: INPUTS };
  return { rank: 4, alpha: 4, tensors: [{ ...shape, a: values(0), b: values(1) }] };
}

/** All that tells one state of a session from another, with the weights by their hash. */
export function summary(history: readonly MemoryState[], { working, turns }: Pick<Snapshot, 'working' | 'turns'>) {
  const hash = (weights: FastWeights | null) => weights && blobOf(weights).hash;
  const points = history.map(({ weights, explicit }) => ({ weights: hash(weights), explicit }));
  return { points, writes: history.at(-1)!.writes, working, turns };
}
