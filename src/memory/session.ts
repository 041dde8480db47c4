/**
 * A memory kept on disk under a name, in a folder of its own:
 *   state.json       ledger, explicit memory, unwritten turns, address of the fast weights; replaced last
 *   weights/<sha>.fw fast weights after each write, kept so that a write can be undone
 *   lock.*           the process that has the session open
 * A crash leaves the state before a change or after it: the weights are on disk before state.json names them.
 */
import { mkdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { TmemError } from '../engine/errors.ts';
import { writeError, writeFileAtomic } from '../engine/files.ts';
import { tmemHome } from '../engine/home.ts';
import type { ModelInfo } from '../engine/types.ts';
import { getWeights, putWeights } from './store/blobs.ts';
import { acquireLock, type Lock } from './store/lock.ts';
import { emptyMemory, type MemoryState, turnSchema, type WriteRecord, writeRecordSchema } from './types.ts';

const hashSchema = z.string().regex(/^[0-9a-f]{64}$/);
const pointSchema = z.strictObject({ weights: hashSchema.nullable(), explicit: z.string() });
const workingSchema = z.strictObject({ turn: turnSchema, index: z.int().nonnegative() });

const stateSchema = z.strictObject({
  version: z.literal(1),
  model: z.strictObject({ name: z.string(), fingerprint: z.string() }),
  weights: hashSchema.nullable(),
  explicit: z.string(),
  /** Turns that no write has taken in yet. */
  working: z.array(workingSchema),
  /** Turns seen so far. */
  turns: z.int().nonnegative(),
  /** Each write with what was in force before it. */
  writes: z.array(z.strictObject({ record: writeRecordSchema, before: pointSchema })),
});
type StoredState = z.infer<typeof stateSchema>;

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
      const stored = await readState(name, folder, model);
      return new Session(name, folder, lock, stored, await load(stored, folder));
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
    return last.record;
  }

  async close(): Promise<void> {
    await this.#lock.release();
  }

  get #weights(): string {
    return join(this.folder, 'weights');
  }

  async #replace(next: StoredState): Promise<void> {
    const bytes = Buffer.from(`${JSON.stringify(next, null, 1)}\n`);
    await writeFileAtomic(join(this.folder, 'state.json'), (write) => write(bytes));
    this.#stored = next;
  }
}

async function load(stored: StoredState, folder: string): Promise<Snapshot> {
  const state: MemoryState = {
    ...emptyMemory(stored.model.fingerprint),
    writes: stored.writes.map((w) => w.record),
    explicit: stored.explicit,
    weights: stored.weights === null ? null : await getWeights(join(folder, 'weights'), stored.weights),
  };
  return { state, working: stored.working, turns: stored.turns };
}

async function readState(
  name: string,
  folder: string,
  model: Pick<ModelInfo, 'name' | 'fingerprint'>,
): Promise<StoredState> {
  const path = join(folder, 'state.json');
  let text: string;
  try {
    text = await readFile(path, 'utf8');
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code !== 'ENOENT')
      throw new TmemError('missing', `Session ${name} cannot be read (${(cause as Error).message}).`, { cause });
    const { name: modelName, fingerprint } = model;
    const fresh = { weights: null, explicit: '', working: [], turns: 0, writes: [] };
    return { version: 1, model: { name: modelName, fingerprint }, ...fresh };
  }
  let stored: StoredState;
  try {
    stored = stateSchema.parse(JSON.parse(text));
  } catch (cause) {
    throw new TmemError('missing', `Session ${name} is damaged: ${path} is not a session file; restore or remove it.`, {
      cause,
    });
  }
  if (stored.model.fingerprint !== model.fingerprint)
    throw new TmemError(
      'missing',
      `Session ${name} belongs to model ${stored.model.name}, not to ${model.name}; open it with --model, or choose another session.`,
    );
  return stored;
}
