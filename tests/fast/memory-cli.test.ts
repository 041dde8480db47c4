/** `tmem memory` on a session of three writes: seeing, undoing, forgetting, checking and exporting it. */
import assert from 'node:assert/strict';
import { existsSync, readdirSync, readFileSync, utimesSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { Command } from 'commander';
import { register } from '../../src/cli/commands/memory.ts';
import { ScriptedEngine } from '../../src/engine/scripted.ts';
import { findPairs, withoutPairs } from '../../src/memory/forget.ts';
import { getRecipe } from '../../src/memory/recipe.ts';
import { Session } from '../../src/memory/session.ts';
import type { Pair } from '../../src/memory/types.ts';
import { writePairs } from '../../src/memory/write.ts';
import { recordingIo, temporaryHome } from '../support/home.ts';
import { lastMessage } from '../support/scripted.ts';

function fact(subject: string, value = `${subject}ish`): Pair {
  const output = `The ${subject} is ${value}.`;
  const instruction = `What is the ${subject}?`;
  return {
    id: `id-${subject}-${value}`,
    instruction,
    output,
    source: output,
    turn: 1,
    time: '2025-03-08',
    origin: 'user',
  };
}

const WRITES = [
  [fact('sky'), fact('door')],
  [fact('dog'), fact('sea')],
  [fact('sky', 'grey'), fact('sun')],
];

/** It answers what it was trained on most recently, if its Delta says so. */
function learner(refusing: { on: boolean } = { on: false }): ScriptedEngine {
  const engine: ScriptedEngine = new ScriptedEngine({
    reply: (request, weights) => {
      const question = lastMessage(request);
      if (!weights) return `on: ${question}`;
      if (refusing.on) return 'spoilt';
      const samples = engine.calls.flatMap((call) =>
        call.type === 'train' ? call.request.samples.slice(0, call.request.stop!.samples) : [],
      );
      const trained = samples.findLast(({ prompt }) => prompt.includes(` ${question} `));
      return trained ? trained.answer.replace(/ <\|end\|>$/, '') : `on: ${question}`;
    },
  });
  // Weights that depend on what they were trained on.
  const { train } = engine;
  engine.train = async (request, onEvent) => {
    const result = await train.call(engine, request, onEvent);
    const mark = request.samples.reduce((n, sample) => (n * 31 + sample.answer.length) % 1000, 7);
    const tensors = result.weights.tensors.map((w) => ({ ...w, b: w.b.map((x) => x + mark) }));
    return { ...result, weights: { ...result.weights, tensors } };
  };
  return engine;
}

/** A home with a session `s` of three writes. */
async function setUp(t: TestContext, engine = learner()) {
  const root = temporaryHome(t);
  const session = await Session.open('s', engine.model);
  for (const [i, pairs] of WRITES.entries()) {
    const { state } = await writePairs(engine, session.snapshot.state, pairs, getRecipe('default', { layers: 1 }));
    const explicit = `${session.snapshot.state.explicit} ${pairs.map((p) => p.output).join(' ')}`.trim();
    const working = [{ turn: { role: 'user' as const, content: 'So the dog is dogish. Bye.' }, index: 6 }];
    await session.commit({ state: { ...state, explicit }, working, turns: 2 * (i + 1) });
  }
  const final = session.snapshot;
  await session.close();
  const { io, results } = recordingIo<Record<string, never>>(engine);
  const memory = async (...args: string[]) => {
    const program = new Command('tmem').exitOverride().configureOutput({ writeErr: () => {} });
    register(program, io);
    await program.parseAsync(['memory', ...args], { from: 'user' });
    return results.at(-1)!;
  };
  const stored = async () => {
    const again = await Session.open('s', engine.model);
    const { snapshot } = again;
    await again.close();
    return snapshot;
  };
  const blobs = () => readdirSync(join(root, 'weights')).sort();
  const onDisk = () =>
    ['memory.db', 'memory.db-wal']
      .map((file) => join(root, file))
      .filter((file) => existsSync(file))
      .map((file) => readFileSync(file, 'latin1'))
      .join();
  return { engine, memory, stored, final, blobs, onDisk, root };
}

test('list, log and show tell what there is', async (t) => {
  const { memory, stored } = await setUp(t);
  const { value: listed, text } = await memory('list');
  assert.deepEqual(listed.sessions, [
    {
      name: 's',
      model: 'scripted',
      writes: 3,
      pairs: 6,
      unwrittenTurns: 1,
      lastWrite: (await stored()).state.writes[2]!.time,
    },
  ]);
  assert.match(text, /^SESSION {2}MODEL/);
  assert.match((await memory('log', 's')).text, /3 {2}\S+ \S+ {2}committed +2 +2 {2}2\.00 to/);
  const shown = await memory('show', 's', '--recall');
  assert.match(shown.text, /\+ id-sky-g {2}What is the sky\? {2}-> {2}The sky is grey\./);
  assert.match(
    shown.text,
    /- id-sky-s .*The sky is skyish\. \(until \d{4}-\d\d-\d\d, then id-sky-g\)\n.*turn 1, 2025-03-08.*\n {4}now: The sky is grey\./,
  );
  assert.match(shown.text, /5 of 6 are recalled now/);
  assert.match(shown.text, /1 turns are not written yet/);
  await assert.rejects(memory('show', 'none'), { code: 'missing', message: /no session none/ });
});

test('undo takes back the last write and its weights leave the disk', async (t) => {
  const { memory, stored, blobs, root } = await setUp(t);
  assert.equal(blobs().length, 3);
  assert.match((await memory('undo', 's')).text, /Taken back: .* 2 pairs/);
  assert.equal((await stored()).state.writes.length, 2);
  assert.equal(blobs().length, 2);
  // What a crash has left goes when a session is opened and no process can be about to name it.
  const left = join(root, 'weights', `${'0'.repeat(64)}.fw`);
  writeFileSync(left, '');
  await stored();
  assert.equal(blobs().length, 3);
  const yesterday = Date.now() / 1000 - 25 * 60 * 60;
  utimesSync(left, yesterday, yesterday);
  await stored();
  assert.equal(blobs().length, 2);
  await memory('undo', 's');
  await memory('undo', 's');
  assert.deepEqual([(await stored()).state.weights, blobs()], [null, []]);
  await assert.rejects(memory('undo', 's'), { code: 'usage', message: /no write/ });
});

test('a branch remembers the same and goes its own way; diff says how they differ', async (t) => {
  const { memory, stored, engine } = await setUp(t);
  await memory('branch', 's', 'other');
  await assert.rejects(memory('branch', 's', 'other'), { code: 'usage', message: /other already/ });
  await assert.rejects(memory('branch', 'none', 'x'), { code: 'missing' });
  await assert.rejects(memory('branch', 's', '../x'), { code: 'usage' });
  const branch = await Session.open('other', engine.model);
  assert.deepEqual(branch.snapshot, await stored());
  await branch.close();
  await memory('undo', 'other');
  assert.equal((await stored()).state.writes.length, 3);
  const { text } = await memory('diff', 's', 'other');
  assert.match(text, /^- id-sky-g .*\n- id-sun-s .*\n\+ id-sky-s .*\n3 pairs are the same\.$/);
});

test('move copies into another store and says so; what does not work is told', async (t) => {
  const { memory, stored, root, engine } = await setUp(t);
  await memory('branch', 's', 'other');
  const url = `sqlite:${join(root, 'else', 'more.db')}`;
  const { value, text } = await memory('move', 's', '--to', url);
  assert.deepEqual(value.sessions, ['s']);
  assert.match(text, /^Copied to \S+more\.db: s\.\nThey are still in \S+memory\.db; TMEM_STORE says/);
  assert.deepEqual(
    readdirSync(join(root, 'else', 'more.db.weights')).sort(),
    readdirSync(join(root, 'weights')).sort(),
  );
  await assert.rejects(memory('move', '--to', url), { code: 'usage', message: /already: s; nothing was copied/ });
  await assert.rejects(memory('move', 'none', '--to', url), { code: 'missing', message: /no session none/ });
  await assert.rejects(memory('move', 's'), { code: 'usage', message: /--to URL or --from URL/ });
  await assert.rejects(memory('move', '--to', 'nowhere'), { code: 'usage', message: /"nowhere" is not a store/ });
  process.env.TMEM_STORE = `sqlite:${join(root, 'third.db')}`;
  t.after(() => delete process.env.TMEM_STORE);
  assert.deepEqual((await memory('list')).value.sessions, []);
  assert.deepEqual((await memory('move', '--from', url)).value.sessions, ['s']);
  const third = await stored();
  const first = await Session.open('s', engine.model, `sqlite:${join(root, 'memory.db')}`);
  assert.deepEqual(third, first.snapshot);
  await first.close();
});

test('what is forgotten leaves ledger, weights, notes, unwritten turns and disk; the rest is as if it had never been', async (t) => {
  const { memory, stored, engine, blobs, onDisk } = await setUp(t);
  const before = await stored();
  assert.ok(onDisk().includes('dog'));
  const blobsBefore = blobs();
  const dry = await memory('forget', 's', 'dog', '--dry-run');
  assert.match(dry.text, /Would be forgotten:\n {2}id-dog-d.*\n2 of 3 writes are made again/);
  assert.deepEqual(await stored(), before);
  const calls = engine.calls.length;
  const { value } = await memory('forget', 's', 'dog');
  assert.deepEqual([value.pairsLeft, value.writesAgain], [5, 2]);
  const again = engine.calls.slice(calls);
  // A write begins with one A, and may go on training.
  assert.equal(again.filter((c) => c.type === 'initialise').length, 2, 'the first write is kept as it was');
  const trained = again.flatMap((c) => (c.type === 'train' ? [c.request] : []));
  assert.ok(trained.length >= 2);
  assert.ok(!JSON.stringify(trained.map((r) => [r.samples, r.replay, r.still])).includes('dog'));
  const after = await stored();
  assert.deepEqual(after.state.writes[0], before.state.writes[0]);
  assert.deepEqual(
    after.state.writes.map((w) => [w.id, w.time, w.layers]),
    before.state.writes.map((w) => [w.id, w.time, 1]),
  );
  assert.deepEqual(after.state.writes[1]!.pairs, [{ ...fact('sea'), also: [] }]);
  assert.equal(after.state.explicit, before.state.explicit.replace('The dog is dogish. ', ''));
  assert.deepEqual(after.working, [{ turn: { role: 'user', content: 'Bye.' }, index: 6 }]);
  assert.ok(!onDisk().includes('dog'));
  assert.equal(blobs().length, 3);
  assert.equal(blobs().filter((b) => blobsBefore.includes(b)).length, 1);
});

test('forgetting several needs a yes, and none of nothing', async (t) => {
  const { memory, stored } = await setUp(t);
  const before = await stored();
  await assert.rejects(memory('forget', 's', 'sky'), { code: 'usage', message: /names 2 pairs/ });
  await assert.rejects(memory('forget', 's', 'moon'), { code: 'usage', message: /No pair/ });
  assert.deepEqual(await stored(), before);
  assert.equal((await memory('forget', 's', 'sky', '--yes')).value.pairsLeft, 4);
  await memory('forget', 's', 'id-sea-s');
  assert.deepEqual(
    (await stored()).state.writes.map((w) => w.pairs.map((p) => p.id)),
    [['id-door-doorish'], ['id-dog-dogish'], ['id-sun-sunish']],
  );
  await memory('forget', 's', 'sun');
  assert.deepEqual((await stored()).state.writes[2]!.verdict, 'empty');
});

test('nothing changes when a write does not pass the gate a second time', async (t) => {
  const refusing = { on: false };
  const { memory, stored } = await setUp(t, learner(refusing));
  const before = await stored();
  refusing.on = true;
  await assert.rejects(memory('forget', 's', 'dog'), { code: 'refused', message: /Write 2 .* nothing was changed/ });
  assert.deepEqual(await stored(), before);
  await memory('forget', 's', 'dog', '--force');
  const { writes, explicit, weights } = (await stored()).state;
  assert.deepEqual(
    writes.map((w) => w.verdict),
    ['committed', 'refused', 'refused'],
  );
  assert.deepEqual(weights, (await stored()).state.weights);
  for (const line of ['What is the sea? The sea is seaish.', 'What is the sun? The sun is sunish.'])
    assert.ok(explicit.split('\n').includes(line), explicit);
  assert.ok(!JSON.stringify([writes, explicit]).includes('dog'));
});

test('verify makes all writes again and says where the bits differ', async (t) => {
  const { memory, engine, stored } = await setUp(t);
  const before = await stored();
  const { value, text } = await memory('verify', 's');
  assert.equal(value.ok, true);
  assert.match(text, /3 {2}committed {2}the same bits\nThe weights are what the ledger says/);
  assert.deepEqual(await stored(), before);
  const { train } = engine;
  engine.train = async (...args) => {
    const result = await train.apply(engine, args);
    const tensors = result.weights.tensors.map((w) => ({ ...w, b: w.b.map((x) => x * 1.5) }));
    return { ...result, weights: { ...result.weights, tensors } };
  };
  await assert.rejects(memory('verify', 's'), { code: 'failed', message: /not made again bit by bit/ });
});

test('pairs are found by id, by its beginning, or by all of the words', () => {
  const writes = WRITES.map((pairs, i) => ({
    ...{ id: `w${i}`, time: '', recipe: 'default', verdict: 'committed' as const, loss: [], recalled: 2, ms: 1 },
    pairs,
  }));
  const ids = (query: string) => findPairs(writes, query).map(({ pair, write }) => `${write} ${pair.id}`);
  assert.deepEqual(ids('id-sky-grey'), ['2 id-sky-grey']);
  assert.deepEqual(ids('id-sky-'), ['0 id-sky-skyish', '2 id-sky-grey']);
  assert.deepEqual(ids('GREY sky?'), ['2 id-sky-grey']);
  assert.deepEqual(ids('sk'), []);
  assert.deepEqual(ids('  ?'), []);
});

test('text loses the sentences that tell a pair, and nothing else', () => {
  const kitten: Pair = {
    ...fact('x'),
    instruction: "What is the name of Nadia's kitten?",
    output: "Nadia's kitten is called Marzipan.",
    source: 'I got a kitten yesterday! She is called Marzipan.',
  };
  assert.equal(withoutPairs('Nadia is 30. Her cat is Marzipan! She runs.', [kitten]), 'Nadia is 30. She runs.');
  assert.equal(withoutPairs('I got a kitten yesterday. Fine.', [kitten]), 'Fine.');
  for (const text of ['', 'Nadia is 30.\nShe  runs.', 'no end', '...'])
    assert.equal(withoutPairs(text, [kitten]), text);
});

test('a proof compares with a model that never saw what is forgotten', async (t) => {
  const { memory } = await setUp(t);
  const { value, text } = await memory('forget', 's', 'dog', '--prove');
  const { same, proofs } = value.proof as unknown as { same: boolean; proofs: Record<string, number>[] };
  assert.equal(same, true);
  assert.equal(value.verified, true);
  assert.equal(proofs.length, 1);
  assert.match(text, /NEVER SEEN.*\nThe dog is dogish\. +\S+ +\S+ +\S+ +\S+\nThe weights are to the bit/);
});

test('consolidate puts all that holds into weights of one size, can be undone, and is made again bit by bit', async (t) => {
  const { memory, stored, final } = await setUp(t);
  const { value, text } = await memory('consolidate', 's', '--rank', '7');
  assert.deepEqual([value.pairs, value.rankAfter], [5, 7]);
  assert.equal(value.rankBefore, final.state.weights!.rank);
  assert.match(text, /5 pairs in weights of rank 7 instead of 18/);
  const { state } = await stored();
  assert.equal(state.weights!.rank, 7);
  assert.deepEqual(state.writes.slice(0, 3), final.state.writes, 'the history remains');
  assert.equal(state.writes[3]!.consolidated!.pairs.length, 5);
  assert.deepEqual(state.writes[3]!.pairs, []);
  assert.match((await memory('log', 's')).text, /^ *4 .* committed +5 .* consolidated$/m);
  assert.equal((await memory('verify', 's')).value.ok, true);
  assert.match((await memory('show', 's')).text, /id-sky-s .*until/);
  const left = await memory('forget', 's', 'sea');
  assert.equal(left.value.pairsLeft, 5);
  assert.equal((await stored()).state.writes[3]!.consolidated!.pairs.length, 4, 'it is consolidated again without it');
  assert.match((await memory('undo', 's')).text, /^Taken back: the consolidation of \S+ with 4 pairs\./);
  assert.equal((await stored()).state.writes.length, 3);
});

test('a consolidation that the gate refuses changes nothing', async (t) => {
  const refusing = { on: false };
  const { memory, stored } = await setUp(t, learner(refusing));
  const before = await stored();
  refusing.on = true;
  await assert.rejects(memory('consolidate', 's'), { code: 'refused', message: /Not consolidated: / });
  assert.deepEqual(await stored(), before);
});

test('merge brings what another session holds; of two answers the later one wins', async (t) => {
  const { memory, stored, engine } = await setUp(t);
  await memory('branch', 's', 'other');
  const other = await Session.open('other', engine.model);
  const more = [fact('sky', 'purple'), fact('moon')];
  const { state } = await writePairs(engine, other.snapshot.state, more, getRecipe('default', { layers: 1 }));
  await other.commit({ ...other.snapshot, state });
  await other.close();
  const { value, text } = await memory('merge', 's', 'other');
  assert.deepEqual([value.written, value.recalled], [2, 2]);
  assert.match(text, /2 pairs written in 1 write, 2 recalled/);
  const { writes } = (await stored()).state;
  assert.deepEqual(
    writes[3]!.pairs.map(({ id }) => id),
    more.map(({ id }) => id),
  );
  assert.deepEqual(writes[3]!.superseded, [{ pair: 'id-sky-grey', by: 'id-sky-purple' }]);
  assert.match((await memory('merge', 's', 'other')).text, /holds all of that already/);
  assert.equal((await memory('merge', 'other', 's')).value.written, 0, 'what it superseded does not come back');
});

test('what export wrote, import learns; so are bare questions and answers', async (t) => {
  const { memory, engine, root } = await setUp(t);
  const file = join(root, 'pairs.jsonl');
  const { source: _, ...bare } = { instruction: 'What is the tree?', output: 'The tree is old.', source: '' };
  writeFileSync(file, `${JSON.stringify(fact('cat'))}\n${JSON.stringify(bare)}\n`);
  const { value } = await memory('import', 'fresh', file);
  assert.deepEqual([value.written, value.recalled], [2, 2]);
  const fresh = await Session.open('fresh', engine.model);
  const [cat, tree] = fresh.snapshot.state.writes[0]!.pairs;
  await fresh.close();
  assert.deepEqual(cat, { ...fact('cat'), also: [] });
  assert.deepEqual([tree!.source, tree!.origin], [tree!.output, 'document']);
  writeFileSync(file, '{"instruction": 3}\n');
  await assert.rejects(memory('import', 'fresh', file), { code: 'usage', message: /line 1/ });
});

test('migrate learns what holds again, on another model, in a new session', async (t) => {
  const { memory, stored, engine } = await setUp(t);
  const before = await stored();
  const { value } = await memory('migrate', 's', '--to', 'models/Other-1B.gguf');
  assert.equal(value.session, 's-Other-1B.gguf');
  assert.deepEqual([value.written, value.recalled], [5, 5]);
  assert.deepEqual(await stored(), before);
  const moved = await Session.open('s-Other-1B.gguf', engine.model);
  assert.equal(moved.snapshot.state.explicit, before.state.explicit);
  assert.deepEqual(moved.snapshot.working, before.working);
  await moved.close();
  await assert.rejects(memory('migrate', 's', '--to', 'x', '--as', 's'), { code: 'usage', message: /--as/ });
});

test('capacity tells recall write by write', async (t) => {
  const { memory } = await setUp(t);
  const { value, text } = await memory('capacity', 's');
  assert.deepEqual([value.pairs, value.recalled, value.share], [5, 5, 1]);
  assert.match(text, /WRITE {2}PAIRS .*\n +1 +1 +1 +1 +1\n +2 +2 +2 +3 +3\n +3 +2 +2 +5 +5\n100 % .* room for more/);
});

test('switch names the session that is meant when none is', async (t) => {
  const { memory } = await setUp(t);
  const { currentSession } = await import('../../src/memory/current.ts');
  assert.equal((await memory('switch')).value.session, null);
  await assert.rejects(memory('switch', 'nobody'), { code: 'missing' });
  assert.match((await memory('switch', 's')).text, /session s\./);
  assert.equal(await currentSession(), 's');
  process.env.TMEM_SESSION = 'other';
  t.after(() => delete process.env.TMEM_SESSION);
  assert.equal(await currentSession(), 'other');
  delete process.env.TMEM_SESSION;
  await assert.rejects(memory('switch', 's', '--none'), { code: 'usage' });
  await memory('switch', '--none');
  assert.equal(await currentSession(), undefined);
});
