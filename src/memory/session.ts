/**
 * A memory kept in a store under a name: ledger, explicit memory, unwritten turns, and the fast weights before and after each write, so
 * that it can be undone. A crash leaves the state before a change or after it.
 */
import type { z } from 'zod';
import { TmemError } from '../engine/errors.ts';
import type { ModelInfo } from '../engine/types.ts';
import type { SessionLock } from './store/backend.ts';
import { type Blob, blobOf } from './store/blobs.ts';
import type { StoredState, seenSchema, workingSchema } from './store/state.ts';
import { canonical, openStore, type Store, storeUrl, withStore } from './store/store.ts';
import { emptyMemory, type MemoryState, type WriteRecord } from './types.ts';

export type WorkingTurn = z.infer<typeof workingSchema>;
export type Seen = z.infer<typeof seenSchema>;

/** What lasts from one run of an agent to the next. */
export interface Snapshot {
  readonly state: MemoryState;
  readonly working: readonly WorkingTurn[];
  readonly turns: number;
  /** Which messages of a client's conversations these turns were. */
  readonly seen?: readonly Seen[] | undefined;
}

/** What an agent keeps its memory in: a session in a store, or nothing that outlives the process. */
export interface Keeper {
  readonly snapshot: Snapshot;
  /** Takes a later state, with at most one write more than the last. */
  commit(snapshot: Snapshot): Promise<void>;
  /** Takes back the last write, whatever its verdict: weights and explicit memory are as before it. null: there is none. */
  undo(): Promise<WriteRecord | null>;
  close(): Promise<void>;
}

/** A memory that dies with the process, as in the paper. */
export function openVolatile(baseFingerprint: string): Keeper {
  let snapshot: Snapshot = { state: emptyMemory(baseFingerprint), working: [], turns: 0 };
  const before: MemoryState[] = [];
  return {
    get snapshot() {
      return snapshot;
    },
    async commit(next) {
      if (next.state.writes.length > snapshot.state.writes.length) before.push(snapshot.state);
      snapshot = next;
    },
    async undo() {
      const record = snapshot.state.writes.at(-1) ?? null;
      const state = before.pop();
      if (state) snapshot = { ...snapshot, state };
      return state ? record : null;
    },
    async close() {},
  };
}

/** @throws TmemError `usage` for a name that is not a plain file name on every platform. */
export function checkSessionName(name: string): void {
  const reserved = /^(con|prn|aux|nul|com\d|lpt\d)(\.|$)/i;
  if (!/^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/.test(name) || name.endsWith('.') || reserved.test(name))
    throw new TmemError(
      'usage',
      `"${name}" cannot be a session name; use up to 64 letters, digits, dots, dashes and underscores.`,
    );
}

/** The ledger's records of stored writes. */
export const recordsOf = ({ writes }: Pick<StoredState, 'writes'>): WriteRecord[] => writes.map((w) => w.record);

/** What is stored of a session, without opening it. @throws TmemError `missing` when there is none, or it is damaged. */
export async function peekSession(name: string, url: string = storeUrl()): Promise<StoredState> {
  checkSessionName(name);
  const stored = await withStore(url, (store) => store.read(name));
  if (!stored)
    throw new TmemError('missing', `There is no session ${name}; \`tmem memory list\` names those there are.`);
  return stored;
}

/**
 * Begins a session that remembers what another one does; from then on they go their own ways.
 * @throws TmemError `usage` when the new one is there already, `missing` for an unknown one, `failed` when it cannot be written.
 */
export async function branchSession(from: string, to: string, url: string = storeUrl()): Promise<void> {
  checkSessionName(from);
  checkSessionName(to);
  await withStore(url, (store) => store.copy(from, store, to));
}

/**
 * Copies sessions with their weights into another store, each in one transaction that ends only when it reads there as it does here.
 * @param names all of them by default
 * @returns the names of those that were copied
 * @throws TmemError `missing` for an unknown one, `usage` when a name is taken there (then none is copied), `failed` when one is in use.
 */
export async function copySessions(from: string, to: string, names: readonly string[] = []): Promise<string[]> {
  for (const name of names) checkSessionName(name);
  if (canonical(from) === canonical(to))
    throw new TmemError('usage', 'Both stores are the same; give the URL of another one with --to or --from.');
  return withStore(from, (source) =>
    withStore(to, async (target) => {
      const here = await source.names();
      const chosen = names.length > 0 ? [...new Set(names)] : here;
      const unknown = chosen.find((name) => !here.includes(name));
      if (unknown !== undefined) throw new TmemError('missing', `There is no session ${unknown} in ${source.place}.`);
      const there = new Set(await target.names());
      const taken = chosen.filter((name) => there.has(name));
      if (taken.length > 0)
        throw new TmemError('usage', `In ${target.place} there is already: ${taken.join(', ')}; nothing was copied.`);
      for (const name of chosen) {
        const lock = await source.lock(name);
        await source.copy(name, target, name).finally(() => lock.release());
      }
      return chosen;
    }),
  );
}

/** Names of the sessions in the store, in order. */
export function sessionNames(url: string = storeUrl()): Promise<string[]> {
  return withStore(url, (store) => store.names());
}

export class Session implements Keeper {
  readonly name: string;
  readonly #store: Store;
  readonly #lock: SessionLock;
  #stored: StoredState;
  #snapshot: Snapshot;

  private constructor(name: string, store: Store, lock: SessionLock, stored: StoredState, snapshot: Snapshot) {
    this.name = name;
    this.#store = store;
    this.#lock = lock;
    this.#stored = stored;
    this.#snapshot = snapshot;
  }

  /**
   * Opens a session, or begins it. Close it to let others in.
   * @param url of the store, as in `TMEM_STORE`
   * @throws TmemError `usage` for a bad name, `missing` when it belongs to another model or is damaged, `failed` when
   * another process has it open or the store cannot be reached.
   */
  static async open(
    name: string,
    model: Pick<ModelInfo, 'name' | 'fingerprint'>,
    url: string = storeUrl(),
  ): Promise<Session> {
    checkSessionName(name);
    const store = await openStore(url);
    let lock: SessionLock | undefined;
    try {
      lock = await store.lock(name);
      const stored = stateFor(name, await store.read(name, lock.db), model);
      const snapshot = await load(stored, store, lock);
      // What a crash has left.
      await store.collect(lock.db);
      return new Session(name, store, lock, stored, snapshot);
    } catch (error) {
      await lock?.release();
      await store.close();
      throw error;
    }
  }

  get snapshot(): Snapshot {
    return this.#snapshot;
  }

  /**
   * Stores a later state. At most one write may have been added since the last call, so that each can be undone.
   * @throws TmemError `failed` when it cannot be written; what is stored is then as before.
   */
  async commit(snapshot: Snapshot): Promise<void> {
    const { state, working, turns, seen } = snapshot;
    const { weights: before, explicit, writes } = this.#stored;
    const added = state.writes.slice(writes.length);
    if (added.length > 1 || state.writes.some((w, i) => i < writes.length && w.id !== writes[i]!.record.id))
      throw new Error('a commit may only add one write to the ledger');
    const moved = state.weights !== this.#snapshot.state.weights;
    const blob = moved && state.weights ? blobOf(state.weights) : null;
    const next: StoredState = {
      ...this.#stored,
      weights: moved ? (blob?.hash ?? null) : before,
      explicit: state.explicit,
      working: [...working],
      turns,
      ...(seen && { seen: [...seen] }),
      writes: [...writes, ...added.map((record) => ({ record, before: { weights: before, explicit } }))],
    };
    await this.#replace(next, snapshot, blob ? [blob] : []);
    // Weights that were replaced without a write in between.
    if (moved && added.length === 0) await this.#store.collect(this.#lock.db);
  }

  async undo(): Promise<WriteRecord | null> {
    const last = this.#stored.writes.at(-1);
    if (!last) return null;
    const next: StoredState = { ...this.#stored, ...last.before, writes: this.#stored.writes.slice(0, -1) };
    const snapshot = await load(next, this.#store, this.#lock);
    await this.#replace(next, snapshot, []);
    await this.#store.forget(this.#lock.db);
    return last.record;
  }

  /** The state before each write, and the present one. */
  async history(): Promise<MemoryState[]> {
    const points = [...this.#stored.writes.map((w) => w.before), this.#stored];
    const states: MemoryState[] = [];
    for (const [n, point] of points.entries())
      states.push(await stateAt(this.#stored, point, n, this.#store, this.#lock));
    return states;
  }

  /**
   * Puts another history in the place of the session's: the state before each write, and the last one. What the old one alone needed is
   * removed from the store.
   * @throws TmemError `failed` when it cannot be written; what is stored is then as before.
   */
  async rewrite(history: readonly MemoryState[], working: readonly WorkingTurn[]): Promise<void> {
    const blobs = new Map<string, Blob>();
    const points = history.map(({ weights, explicit }): StoredState['writes'][number]['before'] => {
      const blob = weights && blobOf(weights);
      if (blob) blobs.set(blob.hash, blob);
      return { weights: blob?.hash ?? null, explicit };
    });
    const last = history.at(-1)!;
    const next: StoredState = {
      ...this.#stored,
      ...points.at(-1)!,
      working: [...working],
      writes: last.writes.map((record, i) => ({ record, before: points[i]! })),
    };
    await this.#replace(next, { ...this.#snapshot, state: last, working }, [...blobs.values()]);
    await this.#store.forget(this.#lock.db);
  }

  /** Removes it from the store with all that only it needs, and closes it. */
  async remove(): Promise<void> {
    await this.#store.remove(this.name, this.#lock.db).finally(() => this.close());
  }

  async close(): Promise<void> {
    await this.#lock.release().finally(() => this.#store.close());
  }

  async #replace(next: StoredState, snapshot: Snapshot, blobs: readonly Blob[]): Promise<void> {
    this.#stored = await this.#store.save(this.name, [this.#stored, next], blobs, this.#lock.db);
    this.#snapshot = snapshot;
  }
}

async function load(stored: StoredState, store: Store, lock: SessionLock): Promise<Snapshot> {
  const state = await stateAt(stored, stored, stored.writes.length, store, lock);
  return { state, working: stored.working, turns: stored.turns, ...(stored.seen && { seen: stored.seen }) };
}

/** The state at a point of the history, after the first n writes. */
async function stateAt(
  { model, writes }: StoredState,
  { weights, explicit }: Pick<StoredState, 'weights' | 'explicit'>,
  n: number,
  store: Store,
  lock: SessionLock,
): Promise<MemoryState> {
  return {
    ...emptyMemory(model.fingerprint),
    writes: recordsOf({ writes: writes.slice(0, n) }),
    explicit,
    weights: weights === null ? null : await store.weights(weights, lock.db),
  };
}

/** What a session of this model begins with, or went on to. */
function stateFor(
  name: string,
  stored: StoredState | null,
  { name: modelName, fingerprint }: Pick<ModelInfo, 'name' | 'fingerprint'>,
): StoredState {
  if (!stored) {
    const fresh = { weights: null, explicit: '', working: [], turns: 0, writes: [] };
    return { ...fresh, model: { name: modelName, fingerprint }, created: new Date().toISOString(), revision: 0 };
  }
  if (stored.model.fingerprint !== fingerprint)
    throw new TmemError(
      'missing',
      `Session ${name} belongs to model ${stored.model.name}, not to ${modelName}; open it with --model, or choose another session.`,
    );
  return stored;
}
