/** The weights are a view of the ledger: they can be made again from it, also without some of its pairs. */
import { TmemError, throwIfAborted } from '../engine/errors.ts';
import type { Engine } from '../engine/types.ts';
import { writeTogether } from './consolidate.ts';
import { noteOf, standingPairs } from './ledger.ts';
import { getRecipe } from './recipe.ts';
import type { MemoryState, Pair, WriteEvent, WriteRecord } from './types.ts';
import { writePairs } from './write.ts';

export interface RebuildOptions {
  /** Writes before this one are kept as they are. Default 0. */
  readonly from?: number;
  /** Whether a pair stays. Default all do. */
  readonly keeps?: (pair: Pair) => boolean;
  /** The explicit memory without what goes with the pairs. Default unchanged. */
  readonly scrub?: (explicit: string) => string;
  /** A write that the gate does not let pass again becomes a refused one, its facts notes, instead of ending all. Default false. */
  readonly lenient?: boolean;
  readonly signal?: AbortSignal | undefined;
  readonly onWrite?: (index: number, record: WriteRecord) => void;
  readonly onEvent?: (event: WriteEvent) => void;
}

/**
 * Writes the committed writes of a history again, one on top of the other. Refused and empty ones did not change the weights and are not
 * tried again. Afterwards the engine has the last state's weights in force.
 * @param history the state before each write, and the last one
 * @returns the same of the new history
 * @throws TmemError `refused` when the gate does not let a write pass that it did let pass, unless `lenient`; `aborted` when the signal fires
 */
export async function rebuild(
  engine: Engine,
  history: readonly MemoryState[],
  {
    from = 0,
    keeps = () => true,
    scrub = (text) => text,
    lenient = false,
    signal,
    onWrite,
    onEvent = () => {},
  }: RebuildOptions = {},
): Promise<MemoryState[]> {
  const records = history.at(-1)!.writes;
  const states = history.slice(0, from + 1);
  const dropped = new Set(records.flatMap(({ pairs }) => pairs.filter((pair) => !keeps(pair)).map(({ id }) => id)));
  let state = { ...history[from]!, explicit: scrub(history[from]!.explicit) };
  states[from] = state;
  /** Facts of writes that are refused this time: notes from then on. */
  const lost: string[] = [];
  await engine.setFastWeights(state.weights);
  for (let i = from; i < records.length; i++) {
    throwIfAborted(signal);
    const before = records[i]!;
    const pairs = before.pairs.filter(keeps);
    let record = without(before, pairs, dropped);
    let { weights } = state;
    if (before.verdict === 'committed') {
      const recipe = getRecipe(before.recipe, { layers: before.layers });
      const write = { ...(signal && { signal }), onEvent };
      const { consolidated } = before;
      const written = consolidated
        ? await writeTogether(
            engine,
            state,
            pick(state, consolidated.pairs),
            { ...recipe, rank: consolidated.rank },
            write,
          )
        : await writePairs(engine, state, pairs, recipe, write);
      if (written.record.verdict === 'refused' && lenient) {
        lost.push(...pairs.map(noteOf));
      } else if (written.record.verdict === 'refused')
        throw new TmemError(
          'refused',
          `Write ${i + 1} does not pass the gate when it is written again (${written.record.reason}); nothing was changed.`,
        );
      record = { ...written.record, id: before.id, time: before.time };
      weights = written.state.weights;
    }
    state = {
      ...state,
      weights,
      writes: [...state.writes, record],
      explicit: [scrub(history[i + 1]!.explicit), ...lost].filter(Boolean).join('\n'),
    };
    states.push(state);
    onWrite?.(i, record);
  }
  return states;
}

/** Pairs of the ledger by their ids; those that were dropped since are not among them. */
function pick({ writes }: MemoryState, ids: readonly string[]): Pair[] {
  const wanted = new Set(ids);
  return standingPairs(writes).filter(({ id }) => wanted.has(id));
}

/** A record of a write that is not tried again, without what it says of dropped pairs. */
function without(record: WriteRecord, pairs: WriteRecord['pairs'], dropped: ReadonlySet<string>): WriteRecord {
  const { quiz, reason, ...rest } = record;
  // A reason may quote a pair.
  const told = pairs.length === record.pairs.length ? reason : 'with pairs that were forgotten since';
  return {
    ...rest,
    pairs,
    ...(reason !== undefined && { reason: told }),
    ...(quiz && { quiz: quiz.filter(({ pair }) => !dropped.has(pair)) }),
  };
}
