/** How much a memory holds of what was written into it. */
import { standingPairs } from './ledger.ts';
import type { WriteRecord } from './types.ts';

/** Below this share of recalled pairs something should be done. */
const GOOD = 0.85;
/** So many writes later, the shards are worth their consolidation. */
const MANY_WRITES = 20;

export interface WriteCapacity {
  /** Counted from 1. */
  readonly write: number;
  /** Of its pairs that still hold, and of all up to it. */
  readonly pairs: number;
  readonly recalled: number;
  readonly pairsSoFar: number;
  readonly recalledSoFar: number;
}

/** @param recalled whether each standing pair (id) is recalled now. */
export function advise(
  records: readonly WriteRecord[],
  recalled: ReadonlyMap<string, boolean>,
): { writes: WriteCapacity[]; share: number; advice: string } {
  const standing = new Set(standingPairs(records).map(({ id }) => id));
  const writes: WriteCapacity[] = [];
  let [pairsSoFar, recalledSoFar] = [0, 0];
  records.forEach(({ verdict, pairs }, i) => {
    const held = verdict === 'committed' ? pairs.filter(({ id }) => standing.has(id)) : [];
    if (held.length === 0) return;
    const right = held.filter(({ id }) => recalled.get(id)).length;
    pairsSoFar += held.length;
    recalledSoFar += right;
    writes.push({ write: i + 1, pairs: held.length, recalled: right, pairsSoFar, recalledSoFar });
  });
  const share = pairsSoFar === 0 ? 1 : recalledSoFar / pairsSoFar;
  return { writes, share, advice: adviceFor(share, writes) };
}

function adviceFor(share: number, writes: readonly WriteCapacity[]): string {
  const percent = `${Math.round(100 * share)} %`;
  if (share < GOOD)
    return `Only ${percent} are recalled: consolidate with a higher --rank, which trains all pairs together again.`;
  if (writes.length >= MANY_WRITES)
    return `${percent} are recalled; ${writes.length} writes lie on top of one another: consolidate to make answers faster.`;
  return `${percent} are recalled: there is room for more.`;
}
