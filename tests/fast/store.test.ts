/** The store of sessions, on SQLite and, where its programs are, on PostgreSQL: against a model in memory, and against kill -9. */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdtempSync, readdirSync, readFileSync, rmSync, utimesSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { after, type TestContext, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import fc from 'fast-check';
import pg from 'pg';
import {
  branchSession,
  copySessions,
  peekSession,
  Session,
  type Snapshot,
  sessionNames,
} from '../../src/memory/session.ts';
import { emptyMemory, type MemoryState, type WriteRecord } from '../../src/memory/types.ts';
import { noPostgres, type Postgres, startPostgres } from '../support/postgres.ts';
import { MODEL, marked, summary } from '../support/store.ts';

const KILLS = Number(process.env.TMEM_KILLS || 40);

let postgres: Postgres | undefined;
/** Of the processes that are started so often. */
const compiled = mkdtempSync(join(tmpdir(), 'tmem-compiled-'));
after(() => {
  postgres?.stop();
  rmSync(compiled, { recursive: true });
});

interface Place {
  readonly url: string;
  /** Hashes of the weights that it keeps, each checked. */
  weights(): Promise<string[]>;
  /** As if a day had gone by since a crash. */
  age(): void;
  /** What `sql` gives. */
  query(sql: string): Promise<unknown[]>;
}

const sha256 = (bytes: Buffer) => createHash('sha256').update(bytes).digest('hex');

function sqlitePlace(t: TestContext): Place {
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

function postgresPlace(): Place {
  postgres ??= startPostgres();
  const url = postgres.newDatabase();
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

const KINDS = [
  { kind: 'SQLite', place: sqlitePlace, options: {} },
  { kind: 'PostgreSQL', place: postgresPlace, options: { skip: noPostgres } },
];

// Anything that a model may say, and what databases and encodings stumble over.
const text = fc
  .array(
    fc.oneof(fc.string({ unit: 'binary', maxLength: 8 }), fc.constantFrom('\0', '\ud800', '\udc00', '\uFFFE0041', '')),
  )
  .map((parts) => parts.join(''));
const word = text.map((said) => said || 'x');
const origin = fc.constantFrom('user' as const, 'assistant' as const, 'tool' as const, 'document' as const);
const count = fc.nat(Number.MAX_SAFE_INTEGER);
const pair = fc.record(
  { id: word, instruction: word, output: word, source: word, turn: count, time: text, origin },
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
        "insert into writes values ('a', 1, 'x', '', '', null, 'empty', null, '[]', 0, 0, null, null, '', null)",
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

  test(
    `${kind}: kill -9 at any moment leaves the state before or after, its weights, and no lock`,
    options,
    async (t) => {
      const { url, weights, age } = place(t);
      const peer = startChild(url, 'peer', 1, 20);
      const figures = { kills: 0, inside: 0, applied: 0, changes: 0 };
      let next = startChild(url, 'killed', 100, 0);
      try {
        await peer.go();
        let last = summary([nothing.state], nothing);
        while (figures.kills < KILLS) {
          const child = next;
          await child.go();
          next = startChild(url, 'killed', 101 + figures.kills, 0);
          // While it opens the session, or some changes later.
          if (figures.kills % 10 > 0) await child.begins();
          await sleep(Math.random() * 50);
          await child.kill();
          figures.kills++;
          assert.equal(child.errors(), '');
          const { done, begun } = child.changes();
          figures.changes += done.length;
          const before = done.at(-1) ?? last;
          const opened = await Session.open('killed', MODEL, url);
          last = JSON.parse(JSON.stringify(summary(await opened.history(), opened.snapshot)));
          await opened.close();
          if (begun === undefined) assert.deepEqual(last, before);
          else {
            figures.inside++;
            const after = JSON.stringify(last) === JSON.stringify(begun);
            if (after) figures.applied++;
            else assert.deepEqual(last, before);
          }
          assert.ok(peer.isAlive(), peer.errors());
        }
      } finally {
        await Promise.all([next.kill(), peer.kill()]);
      }
      assert.equal(peer.errors(), '');
      t.diagnostic(
        `${figures.kills} kills, ${figures.inside} inside a change, of which ${figures.applied} are in the store; ` +
          `${figures.changes} changes were acknowledged before, none is lost; beside ${peer.changes().done.length} of another process`,
      );
      assert.ok(figures.inside > 0);
      const named = new Set<string>();
      for (const name of await sessionNames(url)) {
        const { weights, writes } = await peekSession(name, url);
        for (const hash of [weights, ...writes.map((w) => w.before.weights)]) if (hash) named.add(hash);
      }
      // What crashes have left goes when it is a day old.
      age();
      await (await Session.open('peer', MODEL, url)).close();
      assert.deepEqual(await weights(), [...named].sort());
    },
  );
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
  postgres!.restart();
  const next = { ...opened.snapshot, turns: 5 };
  // The first to use a connection that is gone may be told so.
  await opened.commit(next).catch(() => opened.commit(next));
  await assert.rejects(Session.open('a', MODEL, url), { code: 'failed', message: /in use/ });
  await opened.close();
  assert.equal((await peekSession('a', url)).turns, 5);
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

type Summary = ReturnType<typeof summary>;

function startChild(url: string, name: string, seed: number, pause: number) {
  const program = join(import.meta.dirname, '../support/store-child.ts');
  const env = { ...process.env, NODE_COMPILE_CACHE: compiled };
  const child: ChildProcess = spawn(process.execPath, [program, url, name, String(seed), String(pause)], { env });
  let [said, errors] = ['', ''];
  child.stdout!.on('data', (chunk) => {
    said += chunk;
  });
  child.stderr!.on('data', (chunk) => {
    errors += chunk;
  });
  child.stdin!.on('error', () => {});
  const closed = new Promise<void>((resolve) => child.on('close', () => resolve()));
  const lines = () => said.split('\n').slice(1, -1);
  const parse = (line: string): Summary => JSON.parse(line.slice(2));
  return {
    /** Lets it begin, once it has loaded everything. */
    async go() {
      while (!said.startsWith('ready\n') && child.exitCode === null) await sleep(5);
      child.stdin!.write('go\n');
    },
    async begins() {
      while (!said.includes('\n>') && child.exitCode === null) await sleep(1);
    },
    async kill() {
      child.kill('SIGKILL');
      await closed;
    },
    isAlive: () => child.exitCode === null,
    errors: () => errors,
    /** The states that it was told are stored, and the one that it has begun to store. */
    changes() {
      const all = lines();
      const done = all.filter((_, i) => all[i + 1] === '<').map(parse);
      const begun = all.at(-1)?.startsWith('>') ? parse(all.at(-1)!) : undefined;
      return { done, begun };
    },
  };
}
