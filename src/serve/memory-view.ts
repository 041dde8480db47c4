/** What a session knows, as the memory API shows it. */
import { writtenPairs } from '../memory/ledger.ts';
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
    pairs: writtenPairs(state.writes),
    delta: state.weights ? deltaNorms(state.weights) : [],
  };
}
