import assert from 'node:assert/strict';
import { test } from 'node:test';
import { contextFor } from '../../src/agent/context-size.ts';
import type { ScriptedEngine } from '../../src/engine/scripted.ts';
import { openMemory, type TraceEvent } from '../../src/index.ts';
import { temporaryHome } from '../support/home.ts';
import { lastMessage, scriptedPolicy } from '../support/scripted.ts';

/** Says grey when its weights were trained, and nothing of use before. */
const greyAfterTraining = (): ScriptedEngine =>
  scriptedPolicy((request, weights) => {
    if (!/What is the sky\?/.test(lastMessage(request))) return 'I see.';
    return weights?.tensors.some((tensor) => tensor.b.some((x) => x !== 0)) ? 'grey' : 'no idea';
  });

const open = (engine: ScriptedEngine, more = {}) => openMemory({ engine, recipe: 'paper', ...more });

test('what is observed is written, asked with an empty context, listed and taken back', async () => {
  const engine = greyAfterTraining();
  const memory = await open(engine);
  assert.equal((await memory.ask('What is the sky?')).answer, 'no idea');
  await memory.observe('The sky is grey.');
  const record = await memory.write();
  assert.equal(record?.verdict, 'committed');
  assert.equal((await memory.ask('What is the sky?', { useExplicit: false })).answer, 'grey');
  assert.deepEqual(
    memory.pairs().map(({ instruction, output, origin }) => [instruction, output, origin]),
    [['What is the sky?', 'grey', 'user']],
  );
  assert.equal((await memory.undo())?.id, record.id);
  assert.deepEqual(memory.pairs(), []);
  assert.equal((await memory.ask('What is the sky?')).answer, 'no idea');
  assert.equal(await memory.undo(), null);
});

test('a reply is part of the conversation, and is traced', async () => {
  const types: TraceEvent['type'][] = [];
  const memory = await open(greyAfterTraining(), { trace: (event: TraceEvent) => types.push(event.type) });
  const pieces: string[] = [];
  const said = await memory.reply(
    { role: 'user', speaker: 'Ann', content: 'Hello' },
    { onText: (t) => pieces.push(t) },
  );
  assert.equal(said, 'I see.');
  assert.equal(pieces.join(''), 'I see.');
  assert.deepEqual(
    memory.episode.snapshot.working.map(({ turn }) => turn.content),
    ['Hello', 'I see.'],
  );
  assert.deepEqual(types.slice(0, 2), ['swap', 'episode']);
});

test('a session is gone on with, and lets others in when it is closed', async (t) => {
  temporaryHome(t);
  const first = await open(greyAfterTraining(), { session: 'demo' });
  await first.observe('The sky is grey.');
  await first.write();
  await assert.rejects(open(greyAfterTraining(), { session: 'demo' }), { code: 'failed' });
  await first.close();
  const again = await open(greyAfterTraining(), { session: 'demo' });
  assert.equal((await again.ask('What is the sky?', { useExplicit: false })).answer, 'grey');
  assert.equal(again.pairs().length, 1);
  await again.close();
});

test('an engine that was given stays open, and a session is let go when the opening fails', async (t) => {
  temporaryHome(t);
  const engine = greyAfterTraining();
  await assert.rejects(open(engine, { session: 'demo', budget: 3 }), { code: 'usage', message: /smallest possible/ });
  const memory = await open(engine, { session: 'demo' });
  await memory.close();
  assert.equal(engine.closed, false);
});

test('nearest pairs are shown beside a question when it was opened so, unless the question says otherwise', async () => {
  const memory = await open(greyAfterTraining(), { retrieve: 1 });
  await memory.observe('The sky is grey.');
  await memory.write();
  assert.equal((await memory.ask('What is the sky?')).retrieved.length, 1);
  assert.equal((await memory.ask('What is the sky?', { retrieve: 0 })).retrieved.length, 0);
});

test('unknown models, recipes and session names are named before anything is loaded', async () => {
  await assert.rejects(openMemory({ model: 'no-such-model' }), { code: 'missing', message: /no-such-model/ });
  await assert.rejects(openMemory({ model: 'no-such-model', recipe: 'none' }), { code: 'usage', message: /none/ });
  await assert.rejects(open(greyAfterTraining(), { session: 'a b' }), { code: 'usage' });
});

test('a budget gets a context that holds it and an answer', () => {
  assert.equal(contextFor(2048), undefined);
  assert.equal(contextFor(8000), 9024);
});
