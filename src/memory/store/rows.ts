/** A session as rows and back. */
import { isDeepStrictEqual } from 'node:util';
import { TmemError } from '../../engine/errors.ts';
import type { Db, Tables } from './schema.ts';
import { type StoredState, stateSchema } from './state.ts';

/** Rows that one statement inserts: databases limit its parameters. */
const ROWS_AT_ONCE = 500;

/** null when there is none. @throws TmemError `missing` when its rows do not make a session. */
export async function readState(db: Db, name: string): Promise<StoredState | null> {
  const session = await db.selectFrom('sessions').selectAll().where('name', '=', name).executeTakeFirst();
  if (!session) return null;
  const working = await db.selectFrom('working').selectAll().where('session', '=', name).orderBy('ordinal').execute();
  const writes = await db.selectFrom('writes').selectAll().where('session', '=', name).orderBy('ordinal').execute();
  const ofWrites = async (table: 'pairs' | 'quiz' | 'superseded') => {
    const rows = await db
      .selectFrom(table)
      .selectAll()
      .where('session', '=', name)
      .orderBy('write')
      .orderBy('ordinal')
      .execute();
    const byWrite = Map.groupBy(rows, (row) => row.write);
    return (write: number) => (byWrite.get(write) ?? []).map(({ session, write, ordinal, ...row }) => fromRow(row));
  };
  const pairs = await ofWrites('pairs');
  const quiz = await ofWrites('quiz');
  const superseded = await ofWrites('superseded');
  /** A list of the length that the row of the write says; undefined for none. */
  const list = (rows: object[], length: number | null) =>
    length === null ? undefined : rows.length === length ? rows : 'not all of it';
  try {
    return stateSchema.parse({
      model: { name: fromText(session.model), fingerprint: fromText(session.fingerprint) },
      weights: session.weights,
      explicit: fromText(session.explicit),
      working: working.map(({ session, ordinal, turn: index, ...turn }) => ({ index, turn: fromRow(turn) })),
      turns: session.turns,
      ...(session.seen !== null && { seen: JSON.parse(session.seen) }),
      writes: writes.map(({ session, ordinal, explicit_before, weights_before, loss, consolidated, ...row }) => ({
        record: withoutUndefined({
          ...fromRow(row),
          loss: JSON.parse(loss),
          consolidated: consolidated === null ? undefined : JSON.parse(fromText(consolidated)),
          pairs: pairs(ordinal).map((pair) =>
            'also' in pair ? { ...pair, also: JSON.parse(pair.also as string) } : pair,
          ),
          quiz: list(
            quiz(ordinal).map((q) => ({ ...q, ok: 'ok' in q && q.ok === 1 })),
            row.quiz,
          ),
          superseded: list(superseded(ordinal), row.superseded),
        }),
        before: { weights: weights_before, explicit: fromText(explicit_before) },
      })),
      created: session.created,
      revision: session.revision,
    });
  } catch (cause) {
    throw new TmemError('missing', `Session ${name} is damaged: its rows are not a session; restore the store.`, {
      cause,
    });
  }
}

/**
 * Puts `next` in the place of `before`, writing only what differs; in a transaction.
 * @returns `next` with its revision
 * @throws TmemError `failed` when the session is not at the revision of `before`.
 */
export async function saveState(db: Db, name: string, before: StoredState, next: StoredState): Promise<StoredState> {
  const { model, weights, explicit, turns, seen, created } = next;
  const revision = before.revision + 1;
  const told = seen === undefined ? null : JSON.stringify(seen);
  const changing = { explicit: toText(explicit), weights, turns, seen: told, revision };
  const { fingerprint } = model;
  const done =
    before.revision === 0
      ? await db
          .insertInto('sessions')
          .values({ ...escaped({ name, model: model.name, fingerprint, created }), ...changing })
          .onConflict((conflict) => conflict.doNothing())
          .executeTakeFirst()
      : await db
          .updateTable('sessions')
          .set(changing)
          .where('name', '=', name)
          .where('revision', '=', before.revision)
          .executeTakeFirst();
  if (('numUpdatedRows' in done ? done.numUpdatedRows : done.numInsertedOrUpdatedRows) !== 1n)
    throw new TmemError('failed', `Session ${name} was changed by another process meanwhile; open it again.`);
  if (!isDeepStrictEqual(before.working, next.working)) {
    await db.deleteFrom('working').where('session', '=', name).execute();
    await insertAll(
      db,
      'working',
      next.working.map(({ turn, index }, ordinal) => ({
        ...{ session: name, ordinal, turn: index, speaker: null, time: null, origin: null },
        ...turn,
      })),
    );
  }
  let same = 0;
  while (same < before.writes.length && isDeepStrictEqual(before.writes[same], next.writes[same])) same++;
  if (same < before.writes.length)
    await db.deleteFrom('writes').where('session', '=', name).where('ordinal', '>=', same).execute();
  await insertWrites(db, name, same, next.writes.slice(same));
  return { ...next, revision };
}

async function insertWrites(db: Db, session: string, first: number, writes: StoredState['writes']): Promise<void> {
  const rows = { writes: [], pairs: [], quiz: [], superseded: [] } as {
    [T in 'writes' | 'pairs' | 'quiz' | 'superseded']: Tables[T][];
  };
  for (const [i, { record, before }] of writes.entries()) {
    const { pairs, quiz, superseded, consolidated, loss, ...fields } = record;
    rows.writes.push({
      ...{ session, ordinal: first + i, layers: null, reason: null },
      ...fields,
      loss: JSON.stringify(loss),
      consolidated: consolidated === undefined ? null : JSON.stringify(consolidated),
      quiz: quiz?.length ?? null,
      superseded: superseded?.length ?? null,
      explicit_before: before.explicit,
      weights_before: before.weights,
    });
    const key = (ordinal: number) => ({ session, write: first + i, ordinal });
    rows.pairs.push(
      ...pairs.map(({ also, ...pair }, n) => ({
        ...{ ...key(n), time: null },
        ...pair,
        also: also === undefined ? null : JSON.stringify(also),
      })),
    );
    rows.quiz.push(...(quiz ?? []).map((q, n) => ({ ...key(n), ...q, ok: q.ok ? 1 : 0 })));
    rows.superseded.push(...(superseded ?? []).map((s, n) => ({ ...key(n), ...s })));
  }
  for (const table of ['writes', 'pairs', 'quiz', 'superseded'] as const) await insertAll(db, table, rows[table]);
}

async function insertAll<T extends keyof Tables>(db: Db, table: T, rows: readonly Tables[T][]): Promise<void> {
  for (let i = 0; i < rows.length; i += ROWS_AT_ONCE)
    await db
      .insertInto(table)
      .values(rows.slice(i, i + ROWS_AT_ONCE).map((row) => escaped(nulled(row))) as never)
      .execute();
}

// Text of models may hold what PostgreSQL does not take (NUL) or UTF-8 cannot say (half a surrogate pair): U+FFFE and its code.
const toText = (text: string) =>
  text
    .replace(/[\uFFFE\p{Surrogate}]/gu, (c) => `\uFFFE${c.charCodeAt(0).toString(16)}`)
    .replaceAll('\0', '\uFFFE0000');
const fromText = (text: string) =>
  text.replace(/\uFFFE([0-9a-f]{4})/g, (_, code) => String.fromCharCode(Number.parseInt(code, 16)));

function escaped<T extends object>(row: T): T {
  return mapValues(row, (value) => (typeof value === 'string' ? toText(value) : value)) as T;
}

/** Fields that are undefined are not there, as in JSON. */
function nulled(row: object): object {
  return mapValues(row, (value) => value ?? null);
}

function withoutUndefined(record: object): object {
  return Object.fromEntries(Object.entries(record).filter(([, value]) => value !== undefined));
}

/** The fields of a row that are there, as they were before they were escaped. */
function fromRow(row: object): object {
  const present = Object.entries(row).filter(([, value]) => value !== null);
  return mapValues(Object.fromEntries(present), (value) => (typeof value === 'string' ? fromText(value) : value));
}

function mapValues(object: object, change: (value: unknown) => unknown): object {
  return Object.fromEntries(Object.entries(object).map(([key, value]) => [key, change(value)]));
}
