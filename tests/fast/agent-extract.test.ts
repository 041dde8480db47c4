import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { chunk, type ExtractEvent, extract, remember } from '../../src/agent/extract.ts';
import { ScriptedEngine } from '../../src/engine/scripted.ts';
import type { GenerateRequest } from '../../src/engine/types.ts';
import { extractFacts, lastMessage, partOf, said, scriptedPolicy } from '../support/scripted.ts';

const session = (...contents: string[]) => contents.map((content, index) => ({ turn: said(content), index }));

test('parts hold every turn, in order, within their bounds; long turns are cut', async () => {
  const engine = scriptedPolicy();
  const content = fc.array(fc.constantFrom('word', 'end.', 'a', '\n', 'Ünï'), { minLength: 1, maxLength: 40 });
  await fc.assert(
    fc.asyncProperty(fc.array(content, { maxLength: 6 }), fc.integer({ min: 1, max: 3 }), async (turns, chunkTurns) => {
      const items = session(...turns.map((words) => words.join(' ')));
      const parts = await chunk(engine, items, { chunkTurns, chunkTokens: 8 });
      for (const part of parts) {
        const sizes = await Promise.all(part.map(async (p) => (await engine.tokenize(p.turn.content)).length));
        assert.ok(sizes.reduce((a, b) => a + b) <= 8 && part.length <= chunkTurns);
      }
      const joined = items.map(({ index }) =>
        parts
          .flat()
          .filter((p) => p.index === index)
          .map((p) => p.turn.content)
          .join(''),
      );
      assert.deepEqual(
        joined,
        items.map((item) => item.turn.content),
      );
    }),
  );
});

test('pairs and notes of all parts come together; each part is shown the turn before it', async () => {
  const engine = scriptedPolicy();
  const events: ExtractEvent[] = [];
  const items = session('The sky is grey.', 'Hello there.', 'The door is green.', 'The dog is brown.');
  const result = await extract(engine, items, { chunkTurns: 2, onEvent: (e) => events.push(e) });
  assert.deepEqual(
    result.pairs.map((p) => [p.instruction, p.output, p.turn]),
    [
      ['What is the sky?', 'grey', 0],
      ['What is the door?', 'green', 2],
      ['What is the dog?', 'brown', 3],
    ],
  );
  assert.deepEqual(result.notes, ['What is the sky?', 'What is the door? What is the dog?']);
  assert.deepEqual(
    events.map((e) => [e.part, e.parts, e.pairs?.length]),
    [
      [0, 2, 1],
      [1, 2, 2],
    ],
  );
  const second = engine.calls.flatMap((c) => (c.type === 'generate' ? [lastMessage(c.request)] : []))[1]!;
  assert.match(second, /^Before this part.*\nUser: Hello there\.\n\nPart:\nUser: The door/);
});

test('the policy quotes by the line, of which the schema leaves it no others; the pair has the sentence', async () => {
  const requests: GenerateRequest[] = [];
  const line = 'Ann: The sky is grey.';
  const pair = { source: line, instruction: 'What is the sky?', output: 'grey' };
  const engine = new ScriptedEngine({
    reply: (request) => {
      requests.push(request);
      return JSON.stringify({ memory: '', pairs: [pair] });
    },
  });
  const turn = said('Hi! The sky is grey.', { speaker: 'Ann' });
  const { pairs } = await extract(
    engine,
    [
      { turn, index: 0 },
      { turn: said('  '), index: 1 },
    ],
    { chunkTurns: 1 },
  );
  assert.equal(pairs[0]!.source, 'The sky is grey.');
  assert.equal(requests.length, 1, 'blanks are not asked about');
  assert.match(JSON.stringify(requests[0]!.schema), /"enum":\["Ann: Hi!","Ann: The sky is grey\."\]/);
});

test('an unreadable answer is tried once more with another seed', async () => {
  const requests: GenerateRequest[] = [];
  const engine = new ScriptedEngine({
    reply: (request) => (requests.push(request) === 1 ? 'Sure! Here you go' : extractFacts(request)),
  });
  const result = await extract(engine, session('The sky is grey.'));
  assert.equal(result.pairs.length, 1);
  assert.equal(result.unreadable, 0);
  assert.equal(requests.length, 2);
  assert.notEqual(requests[0]!.temperature, requests[1]!.temperature);
  assert.notEqual(requests[0]!.seed ?? 0, requests[1]!.seed);
});

test('a part that stays unreadable is kept as text and counted; the others are not lost', async () => {
  const reply = (request: GenerateRequest) => (partOf(request).includes('bad') ? 'no' : extractFacts(request));
  const engine = new ScriptedEngine({ reply });
  const result = await extract(engine, session('Something bad.', 'The sky is grey.'), { chunkTurns: 1 });
  assert.equal(result.unreadable, 1);
  assert.deepEqual(result.notes, ['User: Something bad.', 'What is the sky?']);
  assert.equal(result.pairs.length, 1);
});

test('the task is shown to the extraction when it is aware', async () => {
  const engine = scriptedPolicy();
  await extract(engine, session('Hi.'), { task: 'Which door?' });
  await extract(engine, session('Hi.'));
  const shown = engine.calls.map((c) => c.type === 'generate' && lastMessage(c.request).includes('Which door?'));
  assert.deepEqual(shown, [true, false]);
});

test('the explicit memory grows by lines, is rewritten when it is too long, and never passes its bound', async () => {
  const engine = scriptedPolicy();
  assert.equal(await remember(engine, 'one', ['two', 'one', 'two'], 10), 'one\ntwo');
  assert.equal(engine.calls.length, 0);
  assert.equal(await remember(engine, 'one two three', ['four five'], 4), 'short notes');
  const stubborn = new ScriptedEngine({ reply: () => '' });
  assert.equal(await remember(stubborn, 'one two three', ['four five', 'six'], 4), 'four five\nsix');
  assert.equal(await remember(stubborn, '', ['a single line that is long'], 4), 'a single line');
});
