/** Real answers: the same as another binding of llama.cpp gives, and the same through the engine's process. */
import assert from 'node:assert/strict';
import { before, describe, it } from 'node:test';
import { type ChatMessage, complete, type Engine } from '../../src/engine/types.ts';
import { fixture, openReal } from '../support/real-model.ts';

interface Chat {
  readonly messages: readonly ChatMessage[];
  readonly rendered: string;
  /** By the kind of processor that the peer said it on. */
  readonly text: Readonly<Record<string, string>>;
}
// The peer said it without ggml's build for AMX, which rounds otherwise.
process.env.TMEM_AMX = 'off';
const { chats } = JSON.parse(fixture('parity/chat.json')) as { chats: readonly Chat[] };

for (const where of ['in this process', 'in a child process']) {
  describe(`chat ${where}`, () => {
    let engine: Engine;
    before(async () => {
      engine = await openReal(undefined, { inProcess: where === 'in this process' });
    });

    it('says greedily what the peer library says', async () => {
      // One after the other, as it was asked there: a batch of several goes through other kernels, which round differently.
      const said: string[] = [];
      for (const { messages } of chats) said.push((await complete(engine, { prompt: messages, maxTokens: 24 })).text);
      const expected = Object.keys(chats[0]!.text).map((processor) => chats.map((chat) => chat.text[processor]));
      const near = expected.find((texts) => texts[0] === said[0]) ?? expected[0];
      assert.deepEqual(said, near);
    });

    it('renders the chat template that it says it on', async () => {
      for (const { messages, rendered } of chats) assert.equal(await engine.renderChat(messages), rendered);
    });

    it('keeps to a schema', async () => {
      const schema = {
        type: 'object',
        properties: { city: { type: 'string', maxLength: 30 }, population: { type: 'integer' } },
        required: ['city', 'population'],
        additionalProperties: false,
      };
      const prompt = [{ role: 'user', content: 'Name a city in Italy and its population, as JSON.' }] as const;
      const { text, finish } = await complete(engine, { prompt, schema, maxTokens: 80 });
      assert.equal(finish, 'end');
      const value = JSON.parse(text);
      assert.deepEqual(Object.keys(value), ['city', 'population']);
      assert.ok(typeof value.city === 'string' && Number.isInteger(value.population));
    });

    it('trains, puts the fast weights in force and takes them off', async () => {
      const question = 'What is the name of the boat?';
      const sample = await engine.renderSample(question, 'Blue Heron.');
      const ask = async () =>
        (await complete(engine, { prompt: [{ role: 'user', content: question }], maxTokens: 8 })).text;
      const before = await ask();
      const weights = await engine.initialise({ init: { kind: 'random' }, rank: 4, layers: 2 });
      const optimizer = { kind: 'adamw', lr: 3e-2 } as const;
      const kinds: string[] = [];
      const request = { samples: [sample], weights, optimizer, epochs: 12 };
      const result = await engine.train(request, (event) => kinds.push(event.type));
      assert.deepEqual(kinds, ['prefix', ...result.steps.map(() => 'step')]);
      assert.ok(result.steps.at(-1)!.loss < result.steps[0]!.loss / 3);
      assert.equal(await ask(), before);
      await engine.setFastWeights(result.weights);
      assert.match(await ask(), /^Blue Heron/);
      const { logProbs } = await engine.score(sample);
      const loss = -logProbs.reduce((a, b) => a + b) / logProbs.length;
      assert.ok(loss < result.steps[0]!.loss / 3, `${loss}`);
      await engine.setFastWeights(null);
      assert.equal(await ask(), before);
    });
  });
}
