/**
 * A store in one SQLite file, by Node's own driver. Beside it are the fast weights, content-addressed, and the locks of sessions:
 * `weights` and `locks` for `memory.db`, `NAME.weights` and `NAME.locks` for another NAME.
 */
import { mkdir, readdir, rm, stat } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import type { DatabaseSync } from 'node:sqlite';
import { setTimeout as sleep } from 'node:timers/promises';
import {
  CompiledQuery,
  type DatabaseConnection,
  Kysely,
  SqliteAdapter,
  type SqliteDatabase,
  SqliteDialect,
  type SqliteDialectConfig,
  SqliteDriver,
  sql,
  type TransactionSettings,
} from 'kysely';
import { TmemError } from '../../engine/errors.ts';
import { writeError } from '../../engine/files.ts';
import type { Backend } from './backend.ts';
import { blobFile, hashOfFile, putBlobFile, readBlobFile } from './blobs.ts';
import { acquireLock } from './lock.ts';
import type { Db, Tables } from './schema.ts';

export const DATABASE = 'memory.db';
const BUSY_MS = 10_000;
/** The change to WAL and the recovery after a crash do not wait for others as all else does. */
const ATTEMPTS = 20;
const SQLITE_BUSY = 5;
const DAY_MS = 24 * 60 * 60 * 1000;

/** @throws TmemError `failed` when the file cannot be made. */
export async function openSqlite(path: string): Promise<Backend> {
  const folder = dirname(path);
  const beside = (name: string) => join(folder, basename(path) === DATABASE ? name : `${basename(path)}.${name}`);
  const [weights, locks] = [beside('weights'), beside('locks')];
  await mkdir(folder, { recursive: true }).catch((error) => {
    throw writeError(path, error);
  });
  const database = await open(path);
  const db = new Kysely<Tables>({ dialect: new NodeSqliteDialect({ database: adapt(database) }) });

  return {
    place: path,
    db,
    async beginWrite() {}, // its `begin immediate` has locked the whole file
    stageBlob: (hash, bytes) => putBlobFile(weights, hash, bytes),
    // Another process may have removed it since it was staged.
    putBlob: (_, hash, bytes) => putBlobFile(weights, hash, bytes),
    getBlob: (_, hash) => readBlobFile(weights, hash),
    removeBlob: (hash) => rm(blobFile(weights, hash), { force: true }),
    leftovers: (tx) => leftovers(tx, weights),
    removeLeftover: (file) => rm(join(weights, file), { force: true }),
    async scrub() {
      await sql`PRAGMA wal_checkpoint(TRUNCATE)`.execute(db);
    },
    async lock(session) {
      const own = join(locks, session);
      const lock = await mkdir(own, { recursive: true })
        .then(() => acquireLock(own))
        .catch((error) => {
          throw writeError(own, error);
        });
      if ('release' in lock) return { db, release: lock.release };
      const file = join(own, lock.file);
      throw new TmemError(
        'failed',
        `Session ${session} is in use by process ${lock.pid} on ${lock.host}; close it there, or remove ${file} if that is not tmem.`,
      );
    },
    async close() {
      await db.destroy();
    },
  };
}

async function open(path: string): Promise<DatabaseSync> {
  const { DatabaseSync } = await importSqlite();
  for (let attempt = 1; ; attempt++) {
    let database: DatabaseSync | undefined;
    try {
      database = new DatabaseSync(path);
      // Deleted text is overwritten: what is forgotten does not stay in free pages.
      database.exec(
        `PRAGMA busy_timeout = ${BUSY_MS}; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;
        PRAGMA foreign_keys = ON; PRAGMA secure_delete = ON`,
      );
      return database;
    } catch (error) {
      database?.close();
      if ((error as { errcode?: number }).errcode !== SQLITE_BUSY || attempt === ATTEMPTS) throw error;
      await sleep(10 + Math.random() * 50);
    }
  }
}

/** Some Node 24 warn that it is an experiment: of no use to a user. */
async function importSqlite(): Promise<typeof import('node:sqlite')> {
  const { emitWarning } = process;
  process.emitWarning = ((warning: string | Error, ...rest: never[]) => {
    if (!/^SQLite is an experimental/.test(String(warning))) emitWarning.call(process, warning, ...rest);
  }) as typeof emitWarning;
  try {
    return await import('node:sqlite');
  } finally {
    process.emitWarning = emitWarning;
  }
}

/** Node's driver in the shape that kysely knows. */
function adapt(database: DatabaseSync): SqliteDatabase {
  type Values = Parameters<ReturnType<DatabaseSync['prepare']>['all']>;
  return {
    close: () => database.close(),
    prepare(sql) {
      const statement = database.prepare(sql);
      return {
        reader: statement.columns().length > 0,
        all: (values) => statement.all(...(values as Values)),
        run: (values) => statement.run(...(values as Values)),
        iterate: (values) => statement.iterate(...(values as Values)),
      };
    },
  };
}

class NodeSqliteDialect extends SqliteDialect {
  readonly #config: SqliteDialectConfig;
  constructor(config: SqliteDialectConfig) {
    super(config);
    this.#config = config;
  }
  override createDriver() {
    return new ImmediateDriver(this.#config);
  }
  override createAdapter() {
    return new TransactionalAdapter();
  }
}

class ImmediateDriver extends SqliteDriver {
  /** A transaction that first reads and then finds that it may not write would have to begin again. */
  override async beginTransaction(connection: DatabaseConnection, settings?: TransactionSettings): Promise<void> {
    const begin = settings?.accessMode === 'read only' ? 'begin' : 'begin immediate';
    await connection.executeQuery(CompiledQuery.raw(begin));
  }
}

/** So that the migrations, too, are one transaction, and no two processes make them at once. */
class TransactionalAdapter extends SqliteAdapter {
  override get supportsTransactionalDdl() {
    return true;
  }
}

async function leftovers(db: Db, folder: string): Promise<string[]> {
  const files = await readdir(folder).catch(() => []);
  if (files.length === 0) return [];
  const rows = await db.selectFrom('weights').select('hash').execute();
  const named = new Set(rows.map((row) => row.hash));
  const old: string[] = [];
  for (const file of files) {
    if (named.has(hashOfFile(file) ?? '')) continue;
    const found = await stat(join(folder, file)).catch(() => null);
    if (found?.isFile() && Date.now() - found.mtimeMs > DAY_MS && /\.fw($|\..*tmp$)/.test(file)) old.push(file);
  }
  return old;
}
