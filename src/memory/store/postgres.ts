/**
 * A store in a PostgreSQL database; the fast weights are rows. A session is locked by an advisory lock of the one connection through which
 * it is changed, so the server itself lets go of it when the process is gone, and not before what that has begun is done or undone.
 */
import { createHash } from 'node:crypto';
import { hostname } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import { Kysely, PostgresDialect, sql } from 'kysely';
import type { Pool, PoolClient, PoolConfig } from 'pg';
import { TmemError } from '../../engine/errors.ts';
import type { Backend, SessionLock } from './backend.ts';
import type { Tables } from './schema.ts';

const CONNECT_MS = 10_000;
/** The server may take a moment to see that a process has gone. */
const ATTEMPTS = 10;
const ATTEMPT_MS = 100;
const INT8 = 20;

type NewPool = (more: PoolConfig) => Pool;

/**
 * Connects at the first query.
 * @param place what it is called in messages
 */
export async function openPostgres(url: string, place: string): Promise<Backend> {
  const { default: pg } = await import('pg');
  const newPool: NewPool = (more) => {
    const pool = new pg.Pool({
      connectionString: url,
      connectionTimeoutMillis: CONNECT_MS,
      application_name: `tmem ${process.pid} ${hostname()}`,
      allowExitOnIdle: true,
      types: {
        getTypeParser: (type: number, format?: 'text' | 'binary') =>
          type === INT8 ? Number : pg.types.getTypeParser(type, format as 'text'),
      },
      ...more,
    });
    // A connection that breaks makes the next query fail, which is where it is told.
    pool.on('error', () => {});
    pool.on('connect', (client) => void client.on('error', () => {}));
    return pool;
  };
  const db = kyselyOf(newPool({ max: 4 }));
  const [high, low] = keyOf('tmem', 'writer');

  return {
    place,
    db,
    async beginWrite(tx) {
      await sql`select pg_advisory_xact_lock(${high}::int4, ${low}::int4)`.execute(tx);
    },
    async stageBlob() {},
    async putBlob(tx, hash, bytes) {
      await tx.updateTable('weights').set({ bytes }).where('hash', '=', hash).execute();
    },
    async getBlob(tx, hash) {
      const row = await tx.selectFrom('weights').select('bytes').where('hash', '=', hash).executeTakeFirst();
      return row?.bytes ?? null;
    },
    async removeBlob() {},
    async leftovers() {
      return [];
    },
    async removeLeftover() {},
    async scrub() {}, // its files and what is archived of them are the server's
    lock: (session) => lock(session, newPool),
    async close() {
      await db.destroy();
    },
  };
}

const kyselyOf = (pool: Pool) => new Kysely<Tables>({ dialect: new PostgresDialect({ pool }) });

async function lock(session: string, newPool: NewPool): Promise<SessionLock> {
  const [high, low] = keyOf('tmem session', session);
  /** Every new connection, also one after the first has broken, has the lock before anything is done through it. */
  const take = async (client: PoolClient) => {
    for (let attempt = 1; ; attempt++) {
      const { rows } = await client.query('select pg_try_advisory_lock($1::int4, $2::int4) as taken', [high, low]);
      if (rows[0].taken) return;
      if (attempt === ATTEMPTS) throw await inUse(session, client, [high, low]);
      await sleep(ATTEMPT_MS);
    }
  };
  const db = kyselyOf(
    newPool({ max: 1, idleTimeoutMillis: 0, verify: (client, done) => void take(client).then(() => done(), done) }),
  );
  try {
    await sql`select 1`.execute(db);
  } catch (error) {
    await db.destroy();
    throw error;
  }
  return { db, release: () => db.destroy() };
}

async function inUse(session: string, client: PoolClient, key: readonly number[]): Promise<TmemError> {
  const { rows } = await client.query(
    `select application_name as name, client_addr::text as address
     from pg_locks join pg_stat_activity using (pid)
     where locktype = 'advisory' and granted and objsubid = 2
       and classid = $1::int4::oid and objid = $2::int4::oid and pg_locks.database =
         (select oid from pg_database where datname = current_database())`,
    [...key],
  );
  const [, pid, host] = /^tmem (\d+) (.+)$/.exec(rows[0]?.name ?? '') ?? [];
  const who = pid ? `process ${pid} on ${host}` : `another program at ${rows[0]?.address ?? 'the same server'}`;
  return new TmemError('failed', `Session ${session} is in use by ${who}; close it there.`);
}

/** Two int4: the key of an advisory lock. */
function keyOf(kind: string, name: string): [number, number] {
  const hash = createHash('sha256').update(`${kind} ${name}`).digest();
  return [hash.readInt32BE(0), hash.readInt32BE(4)];
}
