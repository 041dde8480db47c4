/** Pairs that come from elsewhere than an extraction: another session, a file, another base model. */
import { createHash } from 'node:crypto';
import type { z } from 'zod';
import { throwIfAborted } from '../engine/errors.ts';
import type { Engine } from '../engine/types.ts';
import { questionKey, standingPairs } from './ledger.ts';
import { normalise } from './recall.ts';
import type { Recipe } from './recipe.ts';
import { type MemoryState, type Pair, pairSchema, type WriteRecord } from './types.ts';
import { type WriteOptions, writePairs } from './write.ts';

/** Pairs of one write: enough to train well together, few enough for one gate. */
const PER_WRITE = 16;

/** A line of a ledger file: a whole pair, as `tmem memory export` writes it, or only a question and its answer. */
export const ledgerLineSchema = pairSchema.partial().required({ instruction: true, output: true });

/** @param index of the line, which a pair without a turn takes for it. */
export function pairOf(line: z.infer<typeof ledgerLineSchema>, index: number): Pair {
  const id = createHash('sha256').update(`${line.instruction}\n${line.output}`).digest('hex').slice(0, 16);
  return { id, source: line.output, turn: index, origin: 'document', ...line };
}

/** When each standing pair was written (ISO). */
function times(writes: readonly WriteRecord[]): Map<string, string> {
  return new Map(writes.flatMap(({ time, pairs }) => pairs.map(({ id }) => [id, time] as const)));
}

/** What one memory holds that another does not: where both answer a question, the one that was written later. */
export function newTo(known: readonly WriteRecord[], other: readonly WriteRecord[]): Pair[] {
  const mine = new Map(standingPairs(known).map((pair) => [questionKey(pair.instruction), pair]));
  const [myTimes, theirTimes] = [times(known), times(other)];
  return standingPairs(other).filter((pair) => {
    const before = mine.get(questionKey(pair.instruction));
    if (!before) return true;
    if (normalise(before.output) === normalise(pair.output)) return false;
    return theirTimes.get(pair.id)! > myTimes.get(before.id)!;
  });
}

export interface TransferOptions extends WriteOptions {
  /** Called after each write, with the state to keep. */
  readonly onWritten: (state: MemoryState, record: WriteRecord) => Promise<void>;
}

/** Writes the pairs on top of a memory, some at a time; a write that the gate refuses does not stop the others. */
export async function writeAll(
  engine: Engine,
  start: MemoryState,
  pairs: readonly Pair[],
  recipe: Recipe,
  { onWritten, ...options }: TransferOptions,
): Promise<MemoryState> {
  let state = start;
  for (let i = 0; i < pairs.length; i += PER_WRITE) {
    throwIfAborted(options.signal);
    const written = await writePairs(engine, state, pairs.slice(i, i + PER_WRITE), recipe, options);
    state = written.state;
    await onWritten(state, written.record);
  }
  return state;
}
