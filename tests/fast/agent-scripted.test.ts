import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { ScriptedEngine } from '../../src/engine/scripted.ts';
import { complete } from '../../src/engine/types.ts';

test('tokens are words and give the text back', async () => {
  const engine = new ScriptedEngine({ reply: () => '' });
  assert.equal((await engine.tokenize('one two  three\n')).length, 4);
  await fc.assert(
    fc.asyncProperty(fc.string(), async (text) => {
      assert.equal(await engine.detokenize(await engine.tokenize(text)), text);
    }),
  );
});

test('streams, stops at stop strings and at the limit, obeys an abort, keeps a record', async () => {
  const engine = new ScriptedEngine({ reply: () => 'a b c d' });
  const prompt = [{ role: 'user' as const, content: 'q' }];
  const texts: string[] = [];
  for await (const event of engine.generate({ prompt })) if (event.type === 'text') texts.push(event.text);
  assert.deepEqual(texts, ['a', ' b', ' c', ' d']);
  const stopped = await complete(engine, { prompt, stop: [' c'] });
  assert.deepEqual([stopped.text, stopped.finish], ['a b', 'stop']);
  const short = await complete(engine, { prompt, maxTokens: 1 });
  assert.deepEqual([short.text, short.finish, short.outputTokens], ['a', 'length', 1]);
  const controller = new AbortController();
  await assert.rejects(
    async () => {
      for await (const _ of engine.generate({ prompt, signal: controller.signal })) controller.abort();
    },
    { code: 'aborted' },
  );
  assert.equal(engine.calls.length, 4);
});

test('training marks B, its loss falls, and the weights it was given are not touched', async () => {
  const engine = new ScriptedEngine({ reply: () => '' });
  const weights = await engine.initialise({ init: { kind: 'random' }, rank: 2, layers: 1 });
  const samples = [await engine.renderSample('q', 'a')];
  const result = await engine.train({ samples, weights, optimizer: { kind: 'sgd', lr: 1 }, epochs: 3 });
  const losses = result.steps.map((step) => step.loss);
  assert.deepEqual(
    losses,
    [...losses].sort((a, b) => b - a),
  );
  assert.ok(result.weights.tensors[0]!.b.every((x) => x === 3));
  assert.ok(weights.tensors[0]!.b.every((x) => x === 0));
});
