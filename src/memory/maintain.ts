/** What is done to the memory of an open session besides writing what is said: for the command line and the server alike. */

import { compareWeights } from '../engine/adapter/fast-weights.ts';
import { TmemError } from '../engine/errors.ts';
import type { Engine } from '../engine/types.ts';
import { FileCheckpoints } from './checkpoints.ts';
import { consolidate } from './consolidate.ts';
import { type FoundPair, withoutPairs } from './forget.ts';
import { type Proof, prove } from './prove.ts';
import { type RebuildOptions, rebuild } from './rebuild.ts';
import type { Recipe } from './recipe.ts';
import type { Session } from './session.ts';
import { writeAll } from './transfer.ts';
import type { MemoryState, Pair, WriteRecord } from './types.ts';
import type { WriteOptions } from './write.ts';

/** The engine's weights in force are those of the session after each of these functions. */
export interface Maintained {
  readonly engine: Engine;
  readonly keeper: Session;
  readonly watched?: WriteOptions;
}

/** The states of the session's ledger made again, as in `rebuild`. */
export async function again(
  { engine, keeper, watched = {} }: Maintained,
  options: RebuildOptions = {},
): Promise<MemoryState[]> {
  return rebuild(engine, await keeper.history(), { ...options, ...watched });
}

export interface ForgetSettings {
  /** A write that the gate then refuses becomes a refused one, its other facts notes. */
  readonly force?: boolean;
  /** Also make the weights of a model that never saw the pairs, and compare. */
  readonly prove?: boolean;
}

/**
 * Makes the writes from the first of these pairs on again without them, and takes them out of ledger, notes and unwritten turns.
 * @throws TmemError `refused` when the gate does not let a write pass without them, unless `force`; `failed` when it cannot be stored
 */
export async function forgetPairs(
  maintained: Maintained,
  found: readonly FoundPair[],
  { force = false, prove: wanted = false }: ForgetSettings = {},
): Promise<{
  writes: readonly WriteRecord[];
  proof: { same: boolean; deviation: number; proofs: Proof[] } | undefined;
}> {
  const { engine, keeper, watched } = maintained;
  const from = Math.min(...found.map((f) => f.write));
  const pairs = found.map(({ pair }) => pair);
  const ids = new Set(pairs.map(({ id }) => id));
  const scrub = (text: string) => withoutPairs(text, pairs);
  const settings = { keeps: (pair: Pair) => !ids.has(pair.id), scrub, lenient: force };
  const before = keeper.snapshot.state.weights;
  const states = await again(maintained, { from, ...settings });
  const after = states.at(-1)!.weights;
  let proof: Awaited<ReturnType<typeof prove>> | undefined;
  if (wanted) {
    const never = (await again(maintained, { from: 0, ...settings })).at(-1)!.weights;
    proof = await prove(engine, pairs, { before, after, never }, watched?.signal);
  }
  const working = keeper.snapshot.working
    .map(({ turn, index }) => ({ index, turn: { ...turn, content: scrub(turn.content) } }))
    .filter(({ turn }) => turn.content !== '');
  await keeper.rewrite(states, working);
  await new FileCheckpoints(keeper.name).remove();
  return { writes: states.at(-1)!.writes, proof };
}

export interface VerifiedWrite {
  readonly write: number;
  readonly verdict: WriteRecord['verdict'];
  readonly same: boolean;
  readonly deviation: number;
}

/** Whether the weights after each write are what the ledger gives on this machine, to the bit. */
export async function verifyWrites(maintained: Maintained): Promise<VerifiedWrite[]> {
  const history = await maintained.keeper.history();
  const states = await again(maintained);
  const found = states.slice(1).map((state, i) => ({
    write: i + 1,
    verdict: state.writes[i]!.verdict,
    ...compareWeights(history[i + 1]!.weights, state.weights),
  }));
  await maintained.engine.setFastWeights(maintained.keeper.snapshot.state.weights);
  return found;
}

/** Trains all that holds anew, together. What is broken off goes on from where it was at the next call. */
export async function consolidateSession(
  { engine, keeper, watched }: Maintained,
  recipe: Recipe,
  rank?: number,
): Promise<WriteRecord> {
  const { state } = keeper.snapshot;
  await engine.setFastWeights(state.weights);
  const checkpoints = new FileCheckpoints(keeper.name);
  try {
    const { state: next, record } = await consolidate(engine, state, recipe, { rank, ...watched, checkpoints });
    await keeper.commit({ ...keeper.snapshot, state: next });
    await checkpoints.remove();
    return record;
  } finally {
    await checkpoints.close();
  }
}

/** Writes the pairs some at a time, each write kept before the next begins: interrupted, the session holds those that are done. */
export async function writeInto(
  { engine, keeper, watched }: Maintained,
  pairs: readonly Pair[],
  recipe: Recipe,
): Promise<WriteRecord[]> {
  const { state } = keeper.snapshot;
  const records: WriteRecord[] = [];
  await engine.setFastWeights(state.weights);
  await writeAll(engine, state, pairs, recipe, {
    ...watched,
    onWritten: async (next, record) => {
      records.push(record);
      await keeper.commit({ ...keeper.snapshot, state: next });
    },
  });
  return records;
}

/** @throws TmemError `failed` when the ledger is no longer the one that a plan was made from. */
export function checkUnchanged(keeper: Session, records: readonly WriteRecord[]): void {
  const { writes } = keeper.snapshot.state;
  if (writes.length !== records.length || writes.some((w, i) => w.id !== records[i]!.id))
    throw new TmemError('failed', `Session ${keeper.name} was changed by another process meanwhile; try again.`);
}
