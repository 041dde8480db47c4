/** The store of sessions, on SQLite and, where its programs are, on PostgreSQL, against a model in memory. */
import assert from 'node:assert/strict';
import { DatabaseSync } from 'node:sqlite';
import { test } from 'node:test';
import fc from 'fast-check';
import {
  branchSession,
  copySessions,
  peekSession,
  Session,
  type Snapshot,
  sessionNames,
} from '../../src/memory/session.ts';
import { emptyMemory, type MemoryState, type WriteRecord } from '../../src/memory/types.ts';
import { KINDS, postgres, postgresPlace, sqlitePlace } from '../support/places.ts';
import { noPostgres } from '../support/postgres.ts';
import { MODEL, marked, summary } from '../support/store.ts';

// Anything that a model may say, and what databases and encodings stumble over.
const text = fc
  .array(
    fc.oneof(fc.string({ unit: 'binary', maxLength: 8 }), fc.constantFrom('\0', '\ud800', '\udc00', '\uFFFE0041', '')),
  )
  .map((parts) => parts.join(''));
const word = text.map((said) => said || 'x');
const origin = fc.constantFrom('user' as const, 'assistant' as const, 'tool' as const, 'document' as const);
const count = fc.nat(Number.MAX_SAFE_INTEGER);
const wording = fc.record({ instruction: word, output: word }, { noNullPrototype: true });
const also = fc.array(wording, { maxLength: 3 });
const pair = fc.record(
  { id: word, instruction: word, output: word, source: word, turn: count, time: text, origin, also },
  { noNullPrototype: true, requiredKeys: ['id', 'instruction', 'output', 'source', 'turn', 'origin'] },
);
const quiz = fc.record(
  {
    kind: fc.constantFrom('pair' as const, 'paraphrase' as const, 'earlier' as const),
    pair: text,
    question: text,
    answer: text,
    ok: fc.boolean(),
  },
  { noNullPrototype: true },
);
const record: fc.Arbitrary<WriteRecord> = fc.record(
  {
    id: fc.uuid(),
    time: text,
    pairs: fc.array(pair, { maxLength: 4 }),
    recipe: text,
    layers: fc.integer({ min: 1 }),
    verdict: fc.constantFrom('committed' as const, 'refused' as const, 'empty' as const),
    reason: text,
    consolidated: fc.record(
      { rank: fc.integer({ min: 1, max: 64 }), pairs: fc.array(text, { maxLength: 3 }) },
      { noNullPrototype: true },
    ),
    superseded: fc.array(fc.record({ pair: text, by: text }, { noNullPrototype: true }), { maxLength: 3 }),
    quiz: fc.array(quiz, { maxLength: 3 }),
    // JSON has no -0, and what is not finite comes back as NaN.
    loss: fc.array(fc.double({ min: 0 }).map((x) => (Number.isFinite(x) ? x : Number.NaN))),
    recalled: count,
    ms: fc.double({ min: 0, noNaN: true, noDefaultInfinity: true }),
  },
  { noNullPrototype: true, requiredKeys: ['id', 'time', 'pairs', 'recipe', 'verdict', 'loss', 'recalled', 'ms'] },
);
const working = fc.array(
  fc.record(
    {
      index: count,
      turn: fc.record(
        {
          role: fc.constantFrom('user' as const, 'assistant' as const, 'tool' as const),
          content: word,
          speaker: fc.constantFrom('Ann', 'B\0b'),
          time: fc.constantFrom('2025', 'x\ud800'),
          origin,
        },
        { noNullPrototype: true, requiredKeys: ['role', 'content'] },
      ),
    },
    { noNullPrototype: true },
  ),
  { maxLength: 3 },
);
const mark = fc.option(fc.nat(3));
const session = fc.constantFrom('a', 'b', 'c');
const step = fc.oneof(
  { weight: 5, arbitrary: fc.record({ do: fc.constant('write' as const), session, record, mark, explicit: text }) },
  {
    weight: 2,
    arbitrary: fc.record({ do: fc.constant('turn' as const), session, working, turns: count, explicit: text }),
  },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('weights' as const), session, mark }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('undo' as const), session }) },
  {
    weight: 2,
    arbitrary: fc.record({ do: fc.constant('rewrite' as const), session, from: fc.nat(4), record, mark, working }),
  },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('branch' as const), session, to: session }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('reopen' as const), session }) },
);
type Step = typeof step extends fc.Arbitrary<infer T> ? T : never;

interface Model extends Snapshot {
  readonly before: readonly MemoryState[];
}

const weightsOf = (mark: number | null) => (mark === null ? null : marked(mark));

/** What a step makes of a session. */
function expected(model: Model, todo: Step): Model {
  const { state, before } = model;
  if (todo.do === 'write') {
    const { explicit, record } = todo;
    const next = { ...state, writes: [...state.writes, record], explicit, weights: weightsOf(todo.mark) };
    return { ...model, state: next, before: [...before, state] };
  }
  if (todo.do === 'turn')
    return { ...model, state: { ...state, explicit: todo.explicit }, working: todo.working, turns: todo.turns };
  if (todo.do === 'weights') return { ...model, state: { ...state, weights: weightsOf(todo.mark) } };
  if (todo.do === 'undo')
    return before.length === 0 ? model : { ...model, state: before.at(-1)!, before: before.slice(0, -1) };
  if (todo.do === 'rewrite') {
    const kept = before.slice(0, todo.from % (before.length + 1));
    const last = [...before, state][kept.length]!;
    const again = { ...last, writes: [...last.writes, todo.record], weights: weightsOf(todo.mark) };
    return { ...model, before: [...kept, last], state: again, working: todo.working };
  }
  return model;
}

const nothing: Model = { state: emptyMemory(MODEL.fingerprint), working: [], turns: 0, before: [] };

async function apply(opened: Session, todo: Step, next: Model): Promise<void> {
  const { before, ...snapshot } = next;
  if (todo.do === 'undo') await opened.undo();
  else if (todo.do === 'rewrite') await opened.rewrite([...before, next.state], next.working);
  else if (todo.do !== 'branch' && todo.do !== 'reopen') await opened.commit(snapshot);
}

async function assertIs(opened: Session, { before, ...snapshot }: Model): Promise<void> {
  assert.deepEqual(opened.snapshot, snapshot);
  assert.deepEqual(await opened.history(), [...before, snapshot.state]);
}

for (const { kind, place, options } of KINDS) {
  test(`${kind}: sessions are what a model in memory says, after any sequence of changes`, options, async (t) => {
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 12 }), async (steps) => {
        const { url, weights } = place(t);
        const models = new Map<string, Model>();
        const sessions = new Map<string, Session>();
        const open = async (name: string) => {
          const opened = sessions.get(name) ?? (await Session.open(name, MODEL, url));
          sessions.set(name, opened);
          return opened;
        };
        const close = async (name: string) => {
          await sessions.get(name)?.close();
          sessions.delete(name);
        };
        try {
          for (const todo of steps) {
            const opened = await open(todo.session);
            const model = models.get(todo.session);
            const next = expected(model ?? nothing, todo);
            if (todo.do === 'reopen') await close(todo.session);
            else if (todo.do === 'branch') {
              await close(todo.to);
              const made = branchSession(todo.session, todo.to, url);
              if (!model) await assert.rejects(made, { code: 'missing' });
              else if (models.has(todo.to)) await assert.rejects(made, { code: 'usage' });
              else {
                await made;
                models.set(todo.to, model);
                await assertIs(await open(todo.to), model);
              }
            } else {
              await apply(opened, todo, next);
              if (todo.do !== 'undo' || model) models.set(todo.session, next);
            }
            await assertIs(await open(todo.session), next);
          }
          for (const name of [...sessions.keys()]) await close(name);
          assert.deepEqual(await sessionNames(url), [...models.keys()].sort());
          const named = new Set<string>();
          for (const [name, model] of models) {
            await assertIs(await open(name), model);
            await close(name);
            const { points } = summary([...model.before, model.state], model);
            for (const { weights } of points) if (weights) named.add(weights);
          }
          assert.deepEqual(await weights(), [...named].sort());
        } finally {
          for (const name of [...sessions.keys()]) await close(name);
        }
      }),
      { numRuns: kind === 'SQLite' ? 60 : 15 },
    );
  });

  test(
    `${kind}: a commit that fails leaves the store as it was, and so does one on top of another process's`,
    options,
    async (t) => {
      const { url, query, weights } = place(t);
      const opened = await Session.open('a', MODEL, url);
      const write = (id: string, mark: number): Snapshot => ({
        ...opened.snapshot,
        state: {
          ...opened.snapshot.state,
          writes: [...opened.snapshot.state.writes, { ...plain, id }],
          weights: marked(mark),
        },
      });
      await opened.commit(write('w1', 1));
      const stored = await peekSession('a', url);
      // A row in the way of the last insert of the next commit.
      const [before, kept] = [opened.snapshot, await weights()];
      await query(
        "insert into writes values ('a', 1, 'x', '', '', null, 'empty', null, '[]', 0, 0, null, null, null, '', null)",
      );
      await assert.rejects(opened.commit(write('w2', 2)), { code: 'failed' });
      assert.deepEqual(opened.snapshot, before);
      await query("delete from writes where id = 'x'");
      assert.deepEqual(await peekSession('a', url), stored);
      await query('update sessions set revision = revision + 1');
      await assert.rejects(opened.commit(write('w2', 2)), { code: 'failed', message: /changed by another process/ });
      assert.deepEqual((await peekSession('a', url)).writes, stored.writes);
      await opened.close();
      assert.deepEqual(
        (await weights()).filter((hash) => kept.includes(hash)),
        kept,
      );
    },
  );

  test(`${kind}: sessions of one process change at once, with weights in common`, options, async (t) => {
    const { url, weights } = place(t);
    const one = async (name: string) => {
      const opened = await Session.open(name, MODEL, url);
      for (let i = 0; i < 12; i++) {
        const { state } = opened.snapshot;
        const writes = [...state.writes, { ...plain, id: `${i}` }];
        await opened.commit({ ...opened.snapshot, state: { ...state, writes, weights: marked(i % 3) } });
        if (i % 3 > 0) await opened.undo();
        else if (i % 4 === 3) await opened.rewrite(await opened.history(), []);
      }
      const history = await opened.history();
      await opened.close();
      return history.map((state) => state.writes.length);
    };
    for (const lengths of await Promise.all(['a', 'b', 'c'].map(one))) assert.deepEqual(lengths, [0, 1, 2, 3, 4]);
    assert.equal((await weights()).length, 1);
  });
}

test('move takes sessions to PostgreSQL and back as they were', { skip: noPostgres }, async (t) => {
  const [one, two, three] = [sqlitePlace(t), postgresPlace(), sqlitePlace(t)];
  const records = fc.sample(record, { seed: 7, numRuns: 6 });
  for (const name of ['a', 'b']) {
    const opened = await Session.open(name, MODEL, one.url);
    for (const [i, record] of records.entries()) {
      const state = { ...opened.snapshot.state, writes: records.slice(0, i + 1), weights: marked(i), explicit: `${i}` };
      await opened.commit({ state, turns: i, working: fc.sample(working, { seed: i, numRuns: 1 })[0]! });
      assert.equal(opened.snapshot.state.writes.at(-1), record);
    }
    await opened.close();
  }
  assert.deepEqual(await copySessions(one.url, two.url, ['b']), ['b']);
  await assert.rejects(copySessions(one.url, two.url), { code: 'usage', message: /already: b; nothing was copied/ });
  await assert.rejects(copySessions(one.url, two.url, ['c']), { code: 'missing' });
  assert.deepEqual(await sessionNames(two.url), ['b']);
  await copySessions(one.url, two.url, ['a']);
  assert.deepEqual(await copySessions(two.url, three.url), ['a', 'b']);
  for (const name of ['a', 'b']) {
    const revision = 1;
    const [first, ...copies] = await Promise.all([one, two, three].map(({ url }) => peekSession(name, url)));
    for (const copy of copies) assert.deepEqual(copy, { ...first, revision });
  }
  assert.deepEqual(await two.weights(), await one.weights());
  assert.deepEqual(await three.weights(), await one.weights());
  const opened = await Session.open('a', MODEL, one.url);
  await assert.rejects(copySessions(one.url, sqlitePlace(t).url), {
    code: 'failed',
    message: /a is in use by process/,
  });
  await opened.close();
});

test('PostgreSQL: one writer at a time, by name; a lost connection gets the lock again', {
  skip: noPostgres,
}, async () => {
  const { url } = postgresPlace();
  const opened = await Session.open('a', MODEL, url);
  await assert.rejects(Session.open('a', MODEL, url), {
    code: 'failed',
    message: new RegExp(`^Session a is in use by process ${process.pid} on .*; close it there\\.$`),
  });
  postgres().restart();
  const next = { ...opened.snapshot, turns: 5 };
  // The first to use a connection that is gone may be told so.
  await opened.commit(next).catch(() => opened.commit(next));
  await assert.rejects(Session.open('a', MODEL, url), { code: 'failed', message: /in use/ });
  await opened.close();
  assert.equal((await peekSession('a', url)).turns, 5);
});

test('a store of an earlier tmem is brought up to date, and holds what it held', async (t) => {
  const { url } = sqlitePlace(t);
  const opened = await Session.open('a', MODEL, url);
  const fact = { id: 'p', instruction: 'q', output: 'o', source: 's', turn: 0, origin: 'user' as const };
  const state = { ...emptyMemory(MODEL.fingerprint), writes: [{ ...plain, id: '1', pairs: [fact] }] };
  await opened.commit({ ...opened.snapshot, state });
  await opened.close();
  const database = new DatabaseSync(url.slice('sqlite:'.length));
  database.exec(`
    ALTER TABLE pairs DROP COLUMN also;
    ALTER TABLE sessions DROP COLUMN seen;
    DELETE FROM kysely_migration WHERE name > '001-sessions';
  `);
  database.close();
  const again = await Session.open('a', MODEL, url);
  assert.deepEqual(again.snapshot.state, state);
  const worded = { ...fact, also: [{ instruction: 'q again', output: 'o' }] };
  const next = { ...state, writes: [...state.writes, { ...plain, id: '2', pairs: [worded] }] };
  const seen = [{ hash: 'of a message', turn: 0 }];
  await again.commit({ ...again.snapshot, state: next, seen });
  const stored = await peekSession('a', url);
  assert.deepEqual(stored.writes.at(-1)!.record.pairs, [worded]);
  assert.deepEqual(stored.seen, seen);
  await again.close();
});

test('a store that cannot be used is one sentence without the password', async (t) => {
  const { url } = sqlitePlace(t);
  await assert.rejects(sessionNames('mysql://x'), {
    code: 'usage',
    message: /^"mysql:\/\/x" is not a store; give sqlite/,
  });
  await assert.rejects(sessionNames('postgres://me:secret@127.0.0.1:1/none'), {
    code: 'failed',
    message:
      /^The store postgres:\/\/me@127\.0\.0\.1:1\/none cannot be used \(.*ECONNREFUSED.*\); check its address and that/,
  });
  await assert.rejects(copySessions(url, url), { code: 'usage' });
  await sessionNames(url);
  const database = new DatabaseSync(url.slice('sqlite:'.length));
  database.exec("INSERT INTO kysely_migration VALUES ('900-later', '2030-01-01T00:00:00Z')");
  database.close();
  await assert.rejects(sessionNames(url), { code: 'missing', message: /made by a newer tmem; update this one/ });
});

const plain: WriteRecord = {
  id: '',
  time: '',
  pairs: [],
  recipe: 'r',
  verdict: 'committed',
  loss: [],
  recalled: 0,
  ms: 0,
};
