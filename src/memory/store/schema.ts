/** The tables of a store, the same in SQLite and PostgreSQL, and how they came to be. Strings in them are escaped (`rows.ts`). */
import type { Kysely } from 'kysely';
import type { Migration } from 'kysely/migration';

export interface Tables {
  /** Fast weights by the sha256 of their bytes. SQLite keeps the bytes in files beside the database. */
  weights: { hash: string; bytes: Buffer | null };
  sessions: {
    name: string;
    model: string;
    fingerprint: string;
    explicit: string;
    weights: string | null;
    turns: number;
    /** JSON. */
    seen: string | null;
    created: string;
    /** Counts the changes, so that none is made to a state that another process has changed. */
    revision: number;
  };
  /** Turns that no write has taken in yet; `turn` counts over the life of the memory. */
  working: {
    session: string;
    ordinal: number;
    turn: number;
    role: string;
    content: string;
    speaker: string | null;
    time: string | null;
    origin: string | null;
  };
  writes: {
    session: string;
    ordinal: number;
    id: string;
    time: string;
    recipe: string;
    layers: number | null;
    verdict: string;
    reason: string | null;
    /** JSON array; null is a loss that was not finite. */
    loss: string;
    recalled: number;
    ms: number;
    /** How many there are; null where the record has none, which is not the same as an empty list. */
    quiz: number | null;
    superseded: number | null;
    /** JSON. */
    consolidated: string | null;
    explicit_before: string;
    weights_before: string | null;
  };
  pairs: {
    session: string;
    write: number;
    ordinal: number;
    id: string;
    instruction: string;
    output: string;
    source: string;
    turn: number;
    time: string | null;
    origin: string;
    /** JSON. */
    also: string | null;
  };
  quiz: {
    session: string;
    write: number;
    ordinal: number;
    kind: string;
    pair: string;
    question: string;
    answer: string;
    /** 1 is yes. */
    ok: number;
  };
  superseded: { session: string; write: number; ordinal: number; pair: string; by: string };
}

/** The store, or a transaction in it. */
export type Db = Kysely<Tables>;

/** In order of their names. One that has been released is never changed. */
export const MIGRATIONS: Readonly<Record<string, Migration>> = {
  '001-sessions': {
    async up(db: Kysely<unknown>) {
      const { schema } = db;
      await schema
        .createTable('weights')
        .addColumn('hash', 'text', (c) => c.primaryKey())
        .addColumn('bytes', blobType(db))
        .execute();
      await schema
        .createTable('sessions')
        .addColumn('name', 'text', (c) => c.primaryKey())
        .addColumn('model', 'text', (c) => c.notNull())
        .addColumn('fingerprint', 'text', (c) => c.notNull())
        .addColumn('explicit', 'text', (c) => c.notNull())
        .addColumn('weights', 'text', (c) => c.references('weights.hash'))
        .addColumn('turns', 'bigint', (c) => c.notNull())
        .addColumn('created', 'text', (c) => c.notNull())
        .addColumn('revision', 'bigint', (c) => c.notNull())
        .execute();
      await schema
        .createTable('working')
        .addColumn('session', 'text', (c) => c.notNull().references('sessions.name').onDelete('cascade'))
        .addColumn('ordinal', 'integer', (c) => c.notNull())
        .addColumn('turn', 'bigint', (c) => c.notNull())
        .addColumn('role', 'text', (c) => c.notNull())
        .addColumn('content', 'text', (c) => c.notNull())
        .addColumn('speaker', 'text')
        .addColumn('time', 'text')
        .addColumn('origin', 'text')
        .addPrimaryKeyConstraint('working_key', ['session', 'ordinal'])
        .execute();
      await schema
        .createTable('writes')
        .addColumn('session', 'text', (c) => c.notNull().references('sessions.name').onDelete('cascade'))
        .addColumn('ordinal', 'integer', (c) => c.notNull())
        .addColumn('id', 'text', (c) => c.notNull())
        .addColumn('time', 'text', (c) => c.notNull())
        .addColumn('recipe', 'text', (c) => c.notNull())
        .addColumn('layers', 'bigint')
        .addColumn('verdict', 'text', (c) => c.notNull())
        .addColumn('reason', 'text')
        .addColumn('loss', 'text', (c) => c.notNull())
        .addColumn('recalled', 'bigint', (c) => c.notNull())
        .addColumn('ms', 'double precision', (c) => c.notNull())
        .addColumn('quiz', 'integer')
        .addColumn('superseded', 'integer')
        .addColumn('consolidated', 'text')
        .addColumn('explicit_before', 'text', (c) => c.notNull())
        .addColumn('weights_before', 'text', (c) => c.references('weights.hash'))
        .addPrimaryKeyConstraint('writes_key', ['session', 'ordinal'])
        .execute();
      await schema.createIndex('writes_weights').on('writes').column('weights_before').execute();
      const ofWrite = (table: string) =>
        schema
          .createTable(table)
          .addColumn('session', 'text', (c) => c.notNull())
          .addColumn('write', 'integer', (c) => c.notNull())
          .addColumn('ordinal', 'integer', (c) => c.notNull())
          .addPrimaryKeyConstraint(`${table}_key`, ['session', 'write', 'ordinal'])
          .addForeignKeyConstraint(
            `${table}_write`,
            ['session', 'write'],
            'writes',
            ['session', 'ordinal'],
            (constraint) => constraint.onDelete('cascade'),
          );
      await ofWrite('pairs')
        .addColumn('id', 'text', (c) => c.notNull())
        .addColumn('instruction', 'text', (c) => c.notNull())
        .addColumn('output', 'text', (c) => c.notNull())
        .addColumn('source', 'text', (c) => c.notNull())
        .addColumn('turn', 'bigint', (c) => c.notNull())
        .addColumn('time', 'text')
        .addColumn('origin', 'text', (c) => c.notNull())
        .execute();
      await ofWrite('quiz')
        .addColumn('kind', 'text', (c) => c.notNull())
        .addColumn('pair', 'text', (c) => c.notNull())
        .addColumn('question', 'text', (c) => c.notNull())
        .addColumn('answer', 'text', (c) => c.notNull())
        .addColumn('ok', 'integer', (c) => c.notNull())
        .execute();
      await ofWrite('superseded')
        .addColumn('pair', 'text', (c) => c.notNull())
        .addColumn('by', 'text', (c) => c.notNull())
        .execute();
    },
  },
  '002-wordings': {
    async up(db: Kysely<unknown>) {
      await db.schema.alterTable('pairs').addColumn('also', 'text').execute();
    },
  },
  '003-conversations': {
    async up(db: Kysely<unknown>) {
      await db.schema.alterTable('sessions').addColumn('seen', 'text').execute();
    },
  },
};

/** SQLite has no bytea, PostgreSQL no blob. */
function blobType(db: Kysely<unknown>): 'blob' | 'bytea' {
  return db.getExecutor().adapter.supportsMultipleConnections ? 'bytea' : 'blob';
}
