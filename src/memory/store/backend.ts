/** What SQLite and PostgreSQL do each in their own way. */
import { TmemError } from '../../engine/errors.ts';
import type { Db } from './schema.ts';

export interface Backend {
  /** What it is called in errors: a path, or a URL without its password. */
  readonly place: string;
  readonly db: Db;
  /** The first thing in a transaction that writes: other such transactions wait until it ends. */
  beginWrite(db: Db): Promise<void>;
  /** Does of `putBlob` what takes long and needs no transaction, so that others need not wait for it. */
  stageBlob(hash: string, bytes: Buffer): Promise<void>;
  /** Puts the bytes where `getBlob` finds them; its row is there already. In a transaction that writes. */
  putBlob(db: Db, hash: string, bytes: Buffer): Promise<void>;
  /** null when there are none. */
  getBlob(db: Db, hash: string): Promise<Buffer | null>;
  /** Removes what is kept outside the row, if there is anything. In a transaction that writes. */
  removeBlob(hash: string): Promise<void>;
  /** Files that no row speaks of and that are so old that no process can be about to name them. */
  leftovers(db: Db): Promise<string[]>;
  removeLeftover(file: string): Promise<void>;
  /** Takes what deleted rows have left out of the files, as far as that is in our power. */
  scrub(): Promise<void>;
  /** Keeps other processes out of a session. @throws TmemError `failed` naming who has it. */
  lock(session: string): Promise<SessionLock>;
  close(): Promise<void>;
}

export interface SessionLock {
  /** Through which the holder changes the session: what it has begun there ends before the lock does, should it crash. */
  readonly db: Db;
  release(): Promise<void>;
}

/** An error of a database as one sentence; one that is not of a database is handed on as it is. */
export function storeError(place: string, error: unknown): unknown {
  if (error instanceof TmemError || !(error instanceof Error)) return error;
  const { code, errcode } = error as { code?: string; errcode?: number };
  if (code === undefined && !/connect|terminat/i.test(error.message)) return error;
  // SQLite's extended codes hold the plain one in their lowest byte.
  const plain = code === 'ERR_SQLITE_ERROR' ? (errcode ?? 0) & 0xff : undefined;
  if (plain === SQLITE_FULL)
    return new TmemError('failed', `The disk is full: could not write ${place}; free some space and try again.`, {
      cause: error,
    });
  if (plain === SQLITE_CORRUPT || plain === SQLITE_NOTADB)
    return new TmemError('missing', `${place} is damaged or not a memory of tmem; restore the file or remove it.`, {
      cause: error,
    });
  return new TmemError('failed', `The store ${place} failed (${reasonOf(error)}); try again.`, { cause: error });
}

/** Of several attempts to connect only the codes say what was wrong. */
export function reasonOf(error: Error): string {
  return error.message || (error as NodeJS.ErrnoException).code || error.name;
}

const SQLITE_CORRUPT = 11;
const SQLITE_FULL = 13;
const SQLITE_NOTADB = 26;
