/** Stores of tests: a SQLite file, or a database of a throw-away PostgreSQL that ends with the tests of the file. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { mkdtempSync, readdirSync, readFileSync, rmSync, utimesSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { after, type TestContext } from 'node:test';
import pg from 'pg';
import { noPostgres, type Postgres, startPostgres } from './postgres.ts';

let running: Postgres | undefined;
after(() => running?.stop());

/** Starts it for the first who asks. */
export function postgres(): Postgres {
  running ??= startPostgres();
  return running;
}

export interface Place {
  readonly url: string;
  /** Hashes of the weights that it keeps, each checked. */
  weights(): Promise<string[]>;
  /** As if a day had gone by since a crash. */
  age(): void;
  /** What `sql` gives. */
  query(sql: string): Promise<unknown[]>;
}

const sha256 = (bytes: Buffer) => createHash('sha256').update(bytes).digest('hex');

export function sqlitePlace(t: TestContext): Place {
  const root = mkdtempSync(join(tmpdir(), 'tmem-store-'));
  t.after(() => rmSync(root, { recursive: true }));
  const folder = join(root, 'weights');
  const files = () => (readdirSync(root).includes('weights') ? readdirSync(folder) : []);
  return {
    url: `sqlite:${join(root, 'memory.db')}`,
    async weights() {
      const kept = files().map((file) => ({ file, hash: sha256(readFileSync(join(folder, file))) }));
      for (const { file, hash } of kept) assert.equal(file, `${hash}.fw`);
      return kept.map(({ hash }) => hash).sort();
    },
    age() {
      const yesterday = Date.now() / 1000 - 25 * 60 * 60;
      for (const file of files()) utimesSync(join(folder, file), yesterday, yesterday);
    },
    async query(sql) {
      const database = new DatabaseSync(join(root, 'memory.db'));
      try {
        return database.prepare(sql).all();
      } finally {
        database.close();
      }
    },
  };
}

export function postgresPlace(): Place {
  const url = postgres().newDatabase();
  const query = async (sql: string) => {
    const client = new pg.Client(url);
    await client.connect();
    try {
      return (await client.query(sql)).rows;
    } finally {
      await client.end();
    }
  };
  return {
    url,
    async weights() {
      const rows = (await query('select hash, bytes from weights')) as { hash: string; bytes: Buffer }[];
      for (const { hash, bytes } of rows) assert.equal(sha256(bytes), hash);
      return rows.map(({ hash }) => hash).sort();
    },
    age() {},
    query,
  };
}

export const KINDS = [
  { kind: 'SQLite', place: sqlitePlace, options: {} },
  { kind: 'PostgreSQL', place: postgresPlace, options: { skip: noPostgres } },
];
