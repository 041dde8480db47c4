import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { ScriptedEngine } from '../../src/engine/scripted.ts';
import { complete } from '../../src/engine/types.ts';
import { withMethods } from '../../src/engine/with-methods.ts';
import { metered } from '../../src/methods/metered.ts';

const scripted = () => new ScriptedEngine({ reply: () => 'one two three' });

test('tokens and contexts of generations are counted, those found in the cache are not computed', async () => {
  const cached = withMethods(scripted(), {
    async *generate({ prompt }) {
      const n = (prompt as string).length;
      yield { type: 'done', text: '', finish: 'end', promptTokens: n, cachedTokens: 2, outputTokens: 5, ms: 1 };
    },
  });
  const { engine, cost } = metered(cached);
  await complete(engine, { prompt: 'abcdef' });
  await complete(engine, { prompt: 'abc' });
  const { calls, promptTokens, outputTokens, contexts } = cost();
  assert.deepEqual(
    { calls, promptTokens, outputTokens, contexts },
    { calls: 2, promptTokens: 5, outputTokens: 10, contexts: [6, 3] },
  );
});

test('what is asked of the engine itself is not counted, and nothing costs nothing', async () => {
  const inner = scripted();
  const { engine, cost } = metered(inner);
  await complete(inner, { prompt: 'hello' });
  assert.equal(engine.model, inner.model);
  assert.deepEqual(await engine.tokenize('a b'), await inner.tokenize('a b'));
  assert.deepEqual(cost(), {
    ...{ calls: 0, promptTokens: 0, outputTokens: 0, trainedTokens: 0, contexts: [] },
    ...{ generationMs: 0, trainingMs: 0 },
  });
});

test('trained tokens count once for every epoch that was run', async () => {
  const { engine, cost } = metered(scripted());
  const weights = await engine.initialise({ init: { kind: 'svd' }, rank: 1, layers: 1 });
  const samples = [{ prompt: 'a b ', answer: 'c d' }];
  const events: string[] = [];
  const request = { samples, weights, optimizer: { kind: 'sgd' as const, lr: 1 }, epochs: 3 };
  const { tokens } = await engine.train(request, (event) => events.push(event.type));
  assert.equal(tokens, 4);
  assert.equal(cost().trainedTokens, 12);
  assert.ok(events.includes('step'));
  assert.equal(cost().calls, 0);
  await engine.score({ prompt: 'a', answer: 'b' });
  assert.equal(cost().calls, 1);
});

test('generations at the same time take their time once; training has a time of its own', async () => {
  const inner = scripted();
  const slow = withMethods(inner, {
    async *generate(request) {
      await sleep(60);
      yield* inner.generate(request);
    },
    async train(request) {
      await sleep(60);
      return inner.train(request);
    },
  });
  const { engine, cost } = metered(slow);
  await Promise.all([1, 2, 3, 4, 5].map(() => complete(engine, { prompt: 'x' })));
  const { generationMs, trainingMs, calls } = cost();
  assert.equal(calls, 5);
  assert.ok(generationMs >= 55 && generationMs < 250, `${generationMs}`);
  assert.equal(trainingMs, 0);
  const weights = await engine.initialise({ init: { kind: 'svd' }, rank: 1, layers: 1 });
  await engine.train({ samples: [], weights, optimizer: { kind: 'sgd', lr: 1 }, epochs: 1 });
  assert.ok(cost().trainingMs >= 55);
  assert.equal(cost().generationMs, generationMs);
});

test('a generation that fails, or is left early, ends its time', async () => {
  const { engine, cost } = metered(scripted());
  await assert.rejects(complete(engine, { prompt: 'x', signal: AbortSignal.abort() }), { code: 'aborted' });
  for await (const _ of engine.generate({ prompt: 'x' })) break;
  const { generationMs, outputTokens, calls } = cost();
  await sleep(20);
  assert.equal(cost().generationMs, generationMs);
  assert.deepEqual([calls, outputTokens], [2, 0]);
});
