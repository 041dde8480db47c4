/**
 * A memory kept on disk under a name, in a folder of its own:
 *   state.json       ledger, explicit memory, unwritten turns, address of the fast weights; replaced last
 *   weights/<sha>.fw fast weights after each write, kept so that a write can be undone
 *   lock.*           the process that has the session open
 * A crash leaves the state before a change or after it: the weights are on disk before state.json names them.
 */
import { randomUUID } from 'node:crypto';
import { existsSync } from 'node:fs';
import { copyFile, cp, mkdir, readdir, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { z } from 'zod';
import { TmemError } from '../engine/errors.ts';
import { writeError, writeFileAtomic } from '../engine/files.ts';
import { tmemHome } from '../engine/home.ts';
import type { ModelInfo } from '../engine/types.ts';
import { getWeights, putWeights, sweepWeights } from './store/blobs.ts';
import { acquireLock, type Lock } from './store/lock.ts';
import { readState, type StoredState, stateFile, weightsOf, type workingSchema } from './store/state.ts';
import { emptyMemory, type MemoryState, type WriteRecord } from './types.ts';

export type WorkingTurn = z.infer<typeof workingSchema>;

/** What lasts from one run of an agent to the next. */
export interface Snapshot {
  readonly state: MemoryState;
  readonly working: readonly WorkingTurn[];
  readonly turns: number;
}

/** What an agent keeps its memory in: a session on disk, or nothing that outlives the process. */
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

/** Where sessions live: `$TMEM_HOME/sessions`, by default beside the models in the user's cache folder. */
export function sessionsFolder(home: string = tmemHome()): string {
  return join(home, 'sessions');
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

/** What is on disk of a session, without opening it. @throws TmemError `missing` when there is none, or it is damaged. */
export async function peekSession(name: string, root: string = sessionsFolder()): Promise<StoredState> {
  checkSessionName(name);
  const stored = await readState(name, join(root, name));
  if (!stored)
    throw new TmemError('missing', `There is no session ${name}; \`tmem memory list\` names those there are.`);
  return stored;
}

/**
 * Begins a session that remembers what another one does; from then on they go their own ways.
 * @throws TmemError `usage` when the new one is there already, `missing` for an unknown one, `failed` when it cannot be written.
 */
export async function branchSession(from: string, to: string, root: string = sessionsFolder()): Promise<void> {
  checkSessionName(to);
  const source = await Session.open(from, (await peekSession(from, root)).model, root);
  const folder = join(root, to);
  const staged = join(root, `.${to}.${randomUUID()}`);
  try {
    if (existsSync(folder)) throw new TmemError('usage', `There is a session ${to} already; choose another name.`);
    await mkdir(staged);
    await cp(join(source.folder, 'weights'), join(staged, 'weights'), { recursive: true }).catch((error) => {
      if (error.code !== 'ENOENT') throw error; // it has written nothing yet
    });
    await copyFile(stateFile(source.folder), stateFile(staged));
    await rename(staged, folder);
  } catch (error) {
    throw error instanceof TmemError ? error : writeError(folder, error);
  } finally {
    await rm(staged, { recursive: true, force: true });
    await source.close();
  }
}

/** Names of the sessions on disk, in order. */
export async function sessionNames(root: string = sessionsFolder()): Promise<string[]> {
  const entries = await readdir(root, { withFileTypes: true }).catch(() => []);
  const found = entries.filter(
    (e) => e.isDirectory() && !e.name.startsWith('.') && existsSync(stateFile(join(root, e.name))),
  );
  return found.map((e) => e.name).sort();
}

export class Session implements Keeper {
  readonly name: string;
  readonly folder: string;
  readonly #lock: Lock;
  #stored: StoredState;
  #snapshot: Snapshot;

  private constructor(name: string, folder: string, lock: Lock, stored: StoredState, snapshot: Snapshot) {
    this.name = name;
    this.folder = folder;
    this.#lock = lock;
    this.#stored = stored;
    this.#snapshot = snapshot;
  }

  /**
   * Opens a session, or begins it. Close it to let others in.
   * @throws TmemError `usage` for a bad name, `missing` when it belongs to another model or is damaged, `failed` when
   * another process has it open.
   */
  static async open(
    name: string,
    model: Pick<ModelInfo, 'name' | 'fingerprint'>,
    root: string = sessionsFolder(),
  ): Promise<Session> {
    checkSessionName(name);
    const folder = join(root, name);
    const lock = await mkdir(folder, { recursive: true })
      .then(() => acquireLock(folder))
      .catch((error) => {
        throw writeError(folder, error);
      });
    if (!('release' in lock))
      throw new TmemError(
        'failed',
        `Session ${name} is in use by process ${lock.pid} on ${lock.host}; close it there, or remove ${join(folder, lock.file)} if that is not tmem.`,
      );
    try {
      const stored = await stateFor(name, folder, model);
      const snapshot = await load(stored, folder);
      // What a crash has left.
      await sweepWeights(join(folder, 'weights'), weightsOf(stored));
      return new Session(name, folder, lock, stored, snapshot);
    } catch (error) {
      await lock.release();
      throw error;
    }
  }

  get snapshot(): Snapshot {
    return this.#snapshot;
  }

  /**
   * Puts a later state on disk. At most one write may have been added since the last call, so that each can be undone.
   * @throws TmemError `failed` when it cannot be written; the session on disk is then as before.
   */
  async commit(snapshot: Snapshot): Promise<void> {
    const { state, working, turns } = snapshot;
    const { weights: before, explicit, writes } = this.#stored;
    const added = state.writes.slice(writes.length);
    if (added.length > 1 || state.writes.some((w, i) => i < writes.length && w.id !== writes[i]!.record.id))
      throw new Error('a commit may only add one write to the ledger');
    const moved = state.weights !== this.#snapshot.state.weights;
    const weights = moved ? state.weights && (await putWeights(this.#weights, state.weights)) : before;
    await this.#replace({
      ...this.#stored,
      weights,
      explicit: state.explicit,
      working: [...working],
      turns,
      writes: [...writes, ...added.map((record) => ({ record, before: { weights: before, explicit } }))],
    });
    this.#snapshot = snapshot;
  }

  async undo(): Promise<WriteRecord | null> {
    const last = this.#stored.writes.at(-1);
    if (!last) return null;
    const next: StoredState = { ...this.#stored, ...last.before, writes: this.#stored.writes.slice(0, -1) };
    const snapshot = await load(next, this.folder);
    await this.#replace(next);
    this.#snapshot = snapshot;
    await sweepWeights(this.#weights, weightsOf(next));
    return last.record;
  }

  /** The state before each write, and the present one. */
  async history(): Promise<MemoryState[]> {
    const points = [...this.#stored.writes.map((w) => w.before), this.#stored];
    return Promise.all(points.map((point, i) => stateAt(this.#stored, point, i, this.folder)));
  }

  /**
   * Puts another history in the place of the session's: the state before each write, and the last one. What the old one alone needed is
   * removed from the disk.
   * @throws TmemError `failed` when it cannot be written; the session on disk is then as before.
   */
  async rewrite(history: readonly MemoryState[], working: readonly WorkingTurn[]): Promise<void> {
    const points: StoredState['writes'][number]['before'][] = [];
    for (const { weights, explicit } of history)
      points.push({ weights: weights && (await putWeights(this.#weights, weights)), explicit });
    const last = history.at(-1)!;
    await this.#replace({
      ...this.#stored,
      ...points.at(-1)!,
      working: [...working],
      writes: last.writes.map((record, i) => ({ record, before: points[i]! })),
    });
    this.#snapshot = { ...this.#snapshot, state: last, working };
    await sweepWeights(this.#weights, weightsOf(this.#stored));
  }

  async close(): Promise<void> {
    await this.#lock.release();
  }

  get #weights(): string {
    return join(this.folder, 'weights');
  }

  async #replace(next: StoredState): Promise<void> {
    const bytes = Buffer.from(`${JSON.stringify(next, null, 1)}\n`);
    await writeFileAtomic(stateFile(this.folder), (write) => write(bytes));
    this.#stored = next;
  }
}

async function load(stored: StoredState, folder: string): Promise<Snapshot> {
  const state = await stateAt(stored, stored, stored.writes.length, folder);
  return { state, working: stored.working, turns: stored.turns };
}

/** The state at a point of the history, after the first n writes. */
async function stateAt(
  { model, writes }: StoredState,
  { weights, explicit }: Pick<StoredState, 'weights' | 'explicit'>,
  n: number,
  folder: string,
): Promise<MemoryState> {
  return {
    ...emptyMemory(model.fingerprint),
    writes: writes.slice(0, n).map((w) => w.record),
    explicit,
    weights: weights === null ? null : await getWeights(join(folder, 'weights'), weights),
  };
}

/** What a session of this model begins with, or went on to. */
async function stateFor(
  name: string,
  folder: string,
  model: Pick<ModelInfo, 'name' | 'fingerprint'>,
): Promise<StoredState> {
  const stored = await readState(name, folder);
  if (!stored) {
    const fresh = { weights: null, explicit: '', working: [], turns: 0, writes: [] };
    return { version: 1, model: { name: model.name, fingerprint: model.fingerprint }, ...fresh };
  }
  if (stored.model.fingerprint !== model.fingerprint)
    throw new TmemError(
      'missing',
      `Session ${name} belongs to model ${stored.model.name}, not to ${model.name}; open it with --model, or choose another session.`,
    );
  return stored;
}
