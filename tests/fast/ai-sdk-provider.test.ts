/** Where the provider's models come from, and which there are. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { NoSuchModelError } from '@ai-sdk/provider';
import { createProviderRegistry, generateText } from 'ai';
import { createTmem } from '../../src/ai-sdk/index.ts';
import { TmemError } from '../../src/engine/errors.ts';
import { ScriptedRuntime } from '../support/scripted-runtime.ts';

test('a runtime is opened when it is first needed, once, and again after a failure; it is closed by who opened it', async () => {
  const runtime = new ScriptedRuntime({ reply: () => 'Hello.' });
  let opened = 0;
  const tmem = createTmem({
    async runtime() {
      if (++opened === 1) throw new TmemError('missing', 'There is no model.');
      return runtime;
    },
  });
  const ask = () => generateText({ model: tmem('m'), prompt: 'Hi' });
  assert.equal(opened, 0);
  await assert.rejects(ask(), { message: 'There is no model.' });
  await Promise.all([ask(), ask()]);
  assert.equal(opened, 2);
  await tmem.close();
  assert.equal(runtime.closed, true);

  const given = new ScriptedRuntime({ reply: () => 'Hello.' });
  const other = createTmem({ runtime: given });
  await generateText({ model: other('m'), prompt: 'Hi' });
  await other.close();
  assert.equal(given.closed, false);
});

test('a model that cannot be had is named when it is first needed', async () => {
  const tmem = createTmem({ model: 'no-such-model' });
  await assert.rejects(generateText({ model: tmem(), prompt: 'Hi' }), { code: 'missing', message: /no-such-model/ });
  await tmem.close();
});

test('there are language and embedding models, in a registry too, and none of other kinds', async () => {
  const tmem = createTmem({ runtime: new ScriptedRuntime({ reply: () => 'Hello.' }), model: 'small' });
  assert.equal(tmem().modelId, 'small');
  assert.equal(tmem.languageModel('m').provider, 'tmem.chat');
  assert.equal(tmem.embeddingModel('e').provider, 'tmem.embedding');
  const none = (error: unknown) => NoSuchModelError.isInstance(error);
  for (const kind of ['imageModel', 'transcriptionModel', 'speechModel', 'rerankingModel'] as const)
    assert.throws(() => tmem[kind]?.('x'), none);
  const registry = createProviderRegistry({ tmem });
  const { text } = await generateText({ model: registry.languageModel('tmem:m'), prompt: 'Hi' });
  assert.equal(text, 'Hello.');
});
