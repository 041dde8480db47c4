/** What a session knows, as the memory API shows it. */
import { ends, standingPairs } from '../memory/ledger.ts';
import type { MemoryState, Pair, WriteRecord } from '../memory/types.ts';
import { deltaNorms } from './delta.ts';
import type { SessionInfo } from './types.ts';

/** @param name as its owner calls it */
export function viewOf({ state, working, contextTokens, budget, busy }: SessionInfo, name: string, model: string) {
  return {
    session: name,
    model,
    contextTokens,
    budget,
    busy,
    notes: state.explicit,
    working: working.map(({ index, turn: { role, content } }) => ({ index, role, content })),
    writes: state.writes,
    pairs: pairsOf(state.writes),
    delta: state.weights ? deltaNorms(state.weights) : [],
  };
}

/** Every pair that was written, with the number of its write (from 1), and whether it still holds. */
function pairsOf(writes: readonly WriteRecord[]) {
  const standing = new Set(standingPairs(writes));
  const ended = ends(writes);
  return writes.flatMap(({ verdict, pairs }, i) =>
    verdict === 'committed'
      ? pairs.map((pair) => ({
          ...pair,
          ...{ write: i + 1, standing: standing.has(pair), ended: ended.get(pair.id) ?? null },
        }))
      : [],
  );
}

/** What one session holds and the other does not. */
export function diffOf(one: MemoryState, other: MemoryState): { only: Pair[]; other: Pair[]; same: number } {
  const [mine, theirs] = [standingPairs(one.writes), standingPairs(other.writes)];
  const key = ({ instruction, output }: Pair) => JSON.stringify([instruction, output]);
  const without = (pairs: readonly Pair[], others: readonly Pair[]) => {
    const keys = new Set(others.map(key));
    return pairs.filter((pair) => !keys.has(key(pair)));
  };
  const only = without(mine, theirs);
  return { only, other: without(theirs, mine), same: mine.length - only.length };
}
