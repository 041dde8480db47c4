/**
 * Where sessions are kept: a SQLite file or a PostgreSQL database. Every change is one transaction, in which the weights it names are put
 * down first; weights that nothing names any more are removed in one of their own afterwards. As transactions that write come one after
 * the other, none removes what another is about to name, and what a crash leaves undone the next opening of a session does.
 */
import { join, resolve } from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import { sql } from 'kysely';
import { Migrator } from 'kysely/migration';
import { TmemError } from '../../engine/errors.ts';
import { tmemHome } from '../../engine/home.ts';
import type { FastWeights } from '../../engine/types.ts';
import { type Backend, reasonOf, type SessionLock, storeError } from './backend.ts';
import { type Blob, checkBlob, decodeWeights } from './blobs.ts';
import { readState, saveState } from './rows.ts';
import { type Db, MIGRATIONS } from './schema.ts';
import { type StoredState, weightsOf } from './state.ts';

/** `TMEM_STORE`, by default a file in the folder of everything that tmem keeps. */
export function storeUrl(): string {
  return process.env.TMEM_STORE || `sqlite:${join(tmemHome(), 'memory.db')}`;
}

/** Of each store one in a process: SQLite's transactions would block one another's thread. */
const opened = new Map<string, { readonly store: Promise<Store>; users: number }>();

/**
 * @param url `sqlite:PATH` or `postgres://USER@HOST/DATABASE`
 * @throws TmemError `usage` for another URL, `failed` when the store cannot be reached, `missing` when it is damaged.
 */
export async function openStore(url: string): Promise<Store> {
  const key = canonical(url);
  let entry = opened.get(key);
  if (!entry) {
    const leave = () => {
      if (--own.users > 0) return false;
      return opened.delete(key);
    };
    const own = { store: open(key, leave), users: 0 };
    own.store.catch(() => opened.delete(key));
    opened.set(key, own);
    entry = own;
  }
  entry.users++;
  return entry.store;
}

/** Opens a store for one thing. */
export async function withStore<T>(url: string, use: (store: Store) => Promise<T>): Promise<T> {
  const store = await openStore(url);
  try {
    return await use(store);
  } finally {
    await store.close();
  }
}

/** The same for all ways to write a URL. @throws TmemError `usage` */
export function canonical(url: string): string {
  const path = pathOf(url);
  if (path !== undefined) return `sqlite:${path}`;
  if (/^postgres(ql)?:\/\//.test(url)) return url;
  throw new TmemError('usage', `"${url}" is not a store; give sqlite:PATH or postgres://USER@HOST/DATABASE.`);
}

/** What a store is called in messages: its path, or its URL without the password. */
export function placeOf(url: string): string {
  return pathOf(url) ?? url.replace(/(:\/\/[^:/@?]*):[^/]*@/, '$1@').replace(/([?&]password=)[^&]*/g, '$1***');
}

/** undefined for a store that is no file. */
function pathOf(url: string): string | undefined {
  const path = /^sqlite:(.+)$/.exec(url)?.[1];
  return path === undefined ? undefined : resolve(path);
}

/** @param leave says whether the one who closes it is the last. */
async function open(url: string, leave: () => boolean): Promise<Store> {
  const place = placeOf(url);
  let backend: Backend | undefined;
  try {
    const path = pathOf(url);
    if (path !== undefined) backend = await (await import('./sqlite.ts')).openSqlite(path);
    else backend = await (await import('./postgres.ts')).openPostgres(url, place);
    await migrate(backend.db);
    return new Store(backend, leave);
  } catch (error) {
    await backend?.close();
    throw openError(place, error);
  }
}

function openError(place: string, error: unknown): unknown {
  if (!(error instanceof Error)) return error;
  if (/previously executed migration/.test(error.message))
    return new TmemError('missing', `The store ${place} was made by a newer tmem; update this one.`, { cause: error });
  const told = storeError(place, error);
  if (told === error || (told as TmemError).code === 'missing') return told;
  return new TmemError(
    'failed',
    `The store ${place} cannot be used (${reasonOf(error)}); check its address and that it can be reached.`,
    { cause: error },
  );
}

async function migrate(db: Db): Promise<void> {
  if (isDeepStrictEqual(await migrationsIn(db), Object.keys(MIGRATIONS))) return;
  const migrator = new Migrator({ db, provider: { getMigrations: async () => MIGRATIONS } });
  const { error } = await migrator.migrateToLatest();
  if (error) throw error;
}

/** Names of those that have been made, without all that the migrator looks at. */
async function migrationsIn(db: Db): Promise<string[]> {
  try {
    const { rows } = await sql<{ name: string }>`select name from kysely_migration`.execute(db);
    return rows.map((row) => row.name).sort();
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    if (code === UNDEFINED_TABLE || /no such table/.test(message)) return [];
    throw error;
  }
}

/** PostgreSQL's code. */
const UNDEFINED_TABLE = '42P01';

export class Store {
  readonly #backend: Backend;
  readonly #leave: () => boolean;

  constructor(backend: Backend, leave: () => boolean) {
    this.#backend = backend;
    this.#leave = leave;
  }

  /** What it is called in messages. */
  get place(): string {
    return this.#backend.place;
  }

  /** Names of its sessions, in order. */
  async names(): Promise<string[]> {
    const rows = await this.#guard(this.#backend.db.selectFrom('sessions').select('name').execute());
    return rows.map((row) => row.name).sort();
  }

  /** null when there is no such session. @throws TmemError `missing` when it is damaged. */
  read(name: string, db: Db = this.#backend.db): Promise<StoredState | null> {
    const transaction = db.transaction().setIsolationLevel('repeatable read').setAccessMode('read only');
    return this.#guard(transaction.execute((tx) => readState(tx, name)));
  }

  /** @throws TmemError `failed` naming who has the session. */
  lock(name: string): Promise<SessionLock> {
    return this.#guard(this.#backend.lock(name));
  }

  /** @throws TmemError `missing` when they are not there or damaged. */
  async weights(hash: string, db: Db = this.#backend.db): Promise<FastWeights> {
    const bytes = await this.#bytes(hash, db);
    try {
      return decodeWeights(bytes);
    } catch (cause) {
      throw new TmemError('missing', `The fast weights ${hash} in ${this.place} are damaged; restore them.`, { cause });
    }
  }

  /**
   * Puts one state of a session in the place of another, with the weights that it names for the first time.
   * @returns the new state with its revision
   * @throws TmemError `failed` when it cannot be written, or another process has changed the session; the store is then as before.
   */
  async save(
    name: string,
    [before, next]: readonly [StoredState, StoredState],
    blobs: readonly Blob[],
    db: Db = this.#backend.db,
  ): Promise<StoredState> {
    for (const { hash, bytes } of blobs) await this.#guard(this.#backend.stageBlob(hash, bytes));
    return this.#write(db, async (tx) => {
      for (const blob of blobs) await this.#put(tx, blob);
      return saveState(tx, name, before, next);
    });
  }

  /**
   * Puts a copy of a session, with its weights, into this store or another one, and reads it back there.
   * @throws TmemError `missing` for an unknown one, `usage` when the name is taken, `failed` when the copy is not equal.
   */
  async copy(name: string, to: Store, newName: string): Promise<void> {
    await to.#write(to.#backend.db, async (tx) => {
      // In one store this is one transaction, so that the weights stay until the copy names them.
      const source = to === this ? await readState(tx, name) : await this.read(name);
      if (!source) throw new TmemError('missing', `There is no session ${name} in ${this.place}.`);
      if (await readState(tx, newName))
        throw new TmemError('usage', `There is a session ${newName} already in ${to.place}; choose another name.`);
      if (to !== this)
        for (const hash of weightsOf(source)) await to.#put(tx, { hash, bytes: await this.#bytes(hash) });
      const created = to === this ? new Date().toISOString() : source.created;
      const fresh = { ...source, created, revision: 0 };
      const nothing = { ...fresh, weights: null, working: [], writes: [] };
      const stored = await saveState(tx, newName, nothing, fresh);
      if (!isDeepStrictEqual(await readState(tx, newName), stored))
        throw new TmemError(
          'failed',
          `Session ${newName} does not read in ${to.place} as it was written; nothing was kept.`,
        );
      if (to !== this) for (const hash of weightsOf(stored)) await to.#bytes(hash, tx);
    });
  }

  /** Removes a session and all that only it needs, out of the files, too. */
  async remove(name: string, db: Db = this.#backend.db): Promise<void> {
    await this.#write(db, async (tx) => {
      await tx.deleteFrom('sessions').where('name', '=', name).execute();
    });
    await this.forget(db);
  }

  /** Removes the weights that no session names. */
  async collect(db: Db = this.#backend.db): Promise<void> {
    const backend = this.#backend;
    const hasAny = async () => (await unnamed(db)).length > 0 || (await backend.leftovers(db)).length > 0;
    if (!(await this.#guard(hasAny()))) return;
    await this.#write(db, async (tx) => {
      for (const hash of await unnamed(tx)) {
        await backend.removeBlob(hash);
        await tx.deleteFrom('weights').where('hash', '=', hash).execute();
      }
      for (const file of await backend.leftovers(tx)) await backend.removeLeftover(file);
    });
  }

  /** Takes what was removed out of the files, too. */
  async forget(db: Db = this.#backend.db): Promise<void> {
    await this.collect(db);
    await this.#guard(this.#backend.scrub());
  }

  async close(): Promise<void> {
    if (this.#leave()) await this.#backend.close();
  }

  async #bytes(hash: string, db: Db = this.#backend.db): Promise<Buffer> {
    const bytes = await this.#guard(this.#backend.getBlob(db, hash));
    return checkBlob(hash, bytes, `${hash} in ${this.place}`);
  }

  async #put(tx: Db, { hash, bytes }: Blob): Promise<void> {
    await tx
      .insertInto('weights')
      .values({ hash, bytes: null })
      .onConflict((c) => c.doNothing())
      .execute();
    await this.#backend.putBlob(tx, hash, bytes);
  }

  #write<T>(db: Db, action: (tx: Db) => Promise<T>): Promise<T> {
    return this.#guard(
      db.transaction().execute(async (tx) => {
        await this.#backend.beginWrite(tx);
        return action(tx);
      }),
    );
  }

  async #guard<T>(action: Promise<T>): Promise<T> {
    try {
      return await action;
    } catch (error) {
      throw storeError(this.place, error);
    }
  }
}

/** A row is put down in the transaction that names it: one that nothing names is of no use to anybody. */
async function unnamed(db: Db): Promise<string[]> {
  const rows = await db
    .selectFrom('weights')
    .select('hash')
    .where(({ not, exists, selectFrom }) =>
      not(exists(selectFrom('sessions').select('name').whereRef('sessions.weights', '=', 'weights.hash'))),
    )
    .where(({ not, exists, selectFrom }) =>
      not(exists(selectFrom('writes').select('id').whereRef('writes.weights_before', '=', 'weights.hash'))),
    )
    .execute();
  return rows.map((row) => row.hash);
}
