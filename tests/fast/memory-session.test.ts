import assert from 'node:assert/strict';
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { hostname, tmpdir } from 'node:os';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { type TestContext, test } from 'node:test';
import fc from 'fast-check';
import type { FastWeights } from '../../src/engine/types.ts';
import { checkSessionName, openVolatile, peekSession, Session, type Snapshot } from '../../src/memory/session.ts';
import { decodeWeights, encodeWeights } from '../../src/memory/store/blobs.ts';
import { emptyMemory, type WriteRecord } from '../../src/memory/types.ts';

const MODEL = { name: 'tiny', fingerprint: 'f1' };

async function folder(t: TestContext): Promise<string> {
  const path = await mkdtemp(join(tmpdir(), 'tmem-session-'));
  t.after(() => rm(path, { recursive: true }));
  return path;
}

const urlIn = (root: string) => `sqlite:${join(root, 'memory.db')}`;

const weights = (mark: number): FastWeights => {
  const tensor = { name: 'blk.0.ffn_up.weight', a: Float32Array.of(1, 2, mark), b: Float32Array.of(mark, 0.1) };
  return { rank: 1, alpha: 1, tensors: [{ ...tensor, inputs: 3, outputs: 2 }] };
};

const record = (id: string, verdict: WriteRecord['verdict'] = 'committed'): WriteRecord => {
  const pair = { id: 'p', instruction: 'q', output: 'a', source: 's', turn: 0, origin: 'user' as const };
  return { id, time: '2025-01-01T00:00:00Z', pairs: [pair], recipe: 'r', verdict, loss: [2, 0.5], recalled: 1, ms: 3 };
};

/** A snapshot with writes 1..n, the weights and notes of the last. */
function after(n: number, more: Partial<Snapshot> = {}): Snapshot {
  const writes = Array.from({ length: n }, (_, i) => record(`w${i + 1}`));
  const state = { ...emptyMemory('f1'), writes, explicit: `notes ${n}`, weights: n > 0 ? weights(n) : null };
  return { state, working: [], turns: n, ...more };
}

test('weights come back as they were; anything else is refused', () => {
  const float = fc.float({ noNaN: true });
  fc.assert(
    fc.property(fc.array(float, { minLength: 6, maxLength: 6 }), fc.string(), (values, name) => {
      const tensor = {
        name,
        inputs: 2,
        outputs: 1,
        a: Float32Array.from(values.slice(0, 4)),
        b: Float32Array.from(values.slice(4)),
      };
      const original = { rank: 2, alpha: 2, tensors: [tensor] };
      assert.deepEqual(decodeWeights(encodeWeights(original)), original);
    }),
  );
  const bytes = encodeWeights(weights(1));
  fc.assert(fc.property(fc.nat(bytes.length - 1), (n) => assert.throws(() => decodeWeights(bytes.subarray(0, n)))));
  assert.throws(() => decodeWeights(Buffer.concat([bytes, Buffer.alloc(4)])), /left over/);
});

test('a session comes back as it was committed, unwritten turns and a diverged loss included', async (t) => {
  const root = await folder(t);
  const session = await Session.open('s', MODEL, urlIn(root));
  assert.deepEqual(session.snapshot, after(0, { state: emptyMemory('f1') }));
  const working = [{ turn: { role: 'user' as const, content: 'hi', speaker: 'Ann' }, index: 1 }];
  const one = after(1, { working });
  const diverged = { ...one, state: { ...one.state, writes: [{ ...record('w1', 'refused'), loss: [2, Number.NaN] }] } };
  await session.commit(diverged);
  await session.close();
  const again = await Session.open('s', MODEL, urlIn(root));
  assert.deepEqual(again.snapshot, diverged);
  await again.close();
});

test('undo goes back write by write, on disk too, and a volatile memory does the same', async (t) => {
  const root = await folder(t);
  const session = await Session.open('s', MODEL, urlIn(root));
  for (const keeper of [session, openVolatile('f1')]) {
    await keeper.commit(after(0));
    await keeper.commit(after(1));
    await keeper.commit(after(2));
    assert.equal((await keeper.undo())!.id, 'w2');
    assert.deepEqual(keeper.snapshot.state, after(1).state);
    await keeper.commit({ ...keeper.snapshot, turns: 9 });
    assert.equal((await keeper.undo())!.id, 'w1');
    assert.deepEqual(keeper.snapshot, { state: after(0).state, working: [], turns: 9 });
    assert.equal(await keeper.undo(), null);
    await keeper.close();
  }
  const again = await Session.open('s', MODEL, urlIn(root));
  assert.deepEqual(again.snapshot.state, after(0).state);
  await again.commit(after(1));
  assert.deepEqual(again.snapshot, after(1));
  await again.close();
});

test('the ledger only grows by one write at a time', async (t) => {
  const session = await Session.open('s', MODEL, urlIn(await folder(t)));
  await assert.rejects(session.commit(after(2)), /one write/);
  await session.commit(after(1));
  await assert.rejects(
    session.commit({ ...after(1), state: { ...after(1).state, writes: [record('other')] } }),
    /one write/,
  );
  await session.close();
});

test('a session belongs to its model', async (t) => {
  const root = await folder(t);
  const session = await Session.open('s', MODEL, urlIn(root));
  await session.commit(after(1));
  await session.close();
  const other = Session.open('s', { name: 'big', fingerprint: 'f2' }, urlIn(root));
  await assert.rejects(other, { code: 'missing', message: /^Session s belongs to model tiny, not to big/ });
  await (await Session.open('s', MODEL, urlIn(root))).close(); // the failed one has left no lock
});

test('one writer at a time; locks of processes that are gone are taken over', async (t) => {
  const root = await folder(t);
  const session = await Session.open('s', MODEL, urlIn(root));
  await assert.rejects(Session.open('s', MODEL, urlIn(root)), {
    code: 'failed',
    message: new RegExp(`process ${process.pid}`),
  });
  await session.close();
  const stale = (pid: number, host = hostname()) =>
    join(root, 'locks', 's', `lock.${pid}.${host}.00000000-0000-4000-8000-000000000000`);
  for (const path of [stale(process.pid), stale(2 ** 30)]) {
    await writeFile(path, '');
    await (await Session.open('s', MODEL, urlIn(root))).close();
    assert.deepEqual(await readdir(join(root, 'locks', 's')), []);
  }
  await writeFile(stale(1, 'else.where'), '');
  await assert.rejects(Session.open('s', MODEL, urlIn(root)), { code: 'failed', message: /process 1 on else\.where/ });
});

test('of many at once no two get in, and the next one does', async (t) => {
  const root = await folder(t);
  const opened = await Promise.allSettled(Array.from({ length: 8 }, () => Session.open('s', MODEL, urlIn(root))));
  const winners = opened.filter((result) => result.status === 'fulfilled');
  assert.ok(winners.length <= 1);
  await winners[0]?.value.close();
  await (await Session.open('s', MODEL, urlIn(root))).close();
});

test('a commit that fails half way leaves the state before it', async (t) => {
  const root = await folder(t);
  const session = await Session.open('s', MODEL, urlIn(root));
  await session.commit(after(1));
  await rm(join(root, 'weights'), { recursive: true });
  await writeFile(join(root, 'weights'), 'a file where the folder should be');
  await assert.rejects(session.commit(after(2)), { code: 'failed' });
  assert.deepEqual(session.snapshot, after(1));
  assert.equal((await peekSession('s', urlIn(root))).writes.length, 1);
  await session.close();
});

test('damage is named, not served', async (t) => {
  const root = await folder(t);
  const session = await Session.open('s', MODEL, urlIn(root));
  await session.commit(after(1));
  await session.close();
  const blobs = join(root, 'weights');
  const blob = join(blobs, (await readdir(blobs))[0]!);
  const bytes = await readFile(blob);
  const broken = Buffer.from(bytes);
  broken[broken.length - 1]! ^= 1;
  await writeFile(blob, broken);
  await assert.rejects(Session.open('s', MODEL, urlIn(root)), { code: 'missing', message: /damaged/ });
  await rm(blob);
  await assert.rejects(Session.open('s', MODEL, urlIn(root)), { code: 'missing', message: /cannot be read/ });
  for (const damage of ["verdict = 'done'", "loss = '['", 'quiz = 1', 'recalled = -1']) {
    const database = new DatabaseSync(join(root, 'memory.db'));
    database.exec(`UPDATE writes SET ${damage}`);
    database.close();
    await assert.rejects(Session.open('s', MODEL, urlIn(root)), { code: 'missing', message: /Session s is damaged/ });
  }
  await writeFile(join(root, 'memory.db'), 'not a database, as it seems'.repeat(100));
  await assert.rejects(Session.open('s', MODEL, urlIn(root)), {
    code: 'missing',
    message: /memory\.db is damaged or not/,
  });
});

test('names that could leave the folder or not be one are refused', () => {
  for (const name of ['a', 'Work-2.b_c', '7']) assert.doesNotThrow(() => checkSessionName(name));
  for (const name of [
    '',
    '.',
    '..',
    '../x',
    'a/b',
    'a\\b',
    '.hidden',
    'a b',
    'x.',
    'con',
    'NUL.txt',
    'x'.repeat(65),
    'é',
  ])
    assert.throws(() => checkSessionName(name), { code: 'usage' }, name);
});
