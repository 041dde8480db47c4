import assert from 'node:assert/strict';
import { test } from 'node:test';
import { overlooked } from '../../src/agent/coverage.ts';
import { extract } from '../../src/agent/extract.ts';
import { ScriptedEngine } from '../../src/engine/scripted.ts';
import type { Pair } from '../../src/memory/types.ts';
import { isPart, lastMessage, said, writeNote } from '../support/scripted.ts';

const turns = (...contents: string[]) =>
  contents.map((content, index) => ({ turn: said(content, { speaker: 'Ann' }), index }));
const pair = (instruction: string, output: string): Pair => ({
  id: output,
  instruction,
  output,
  source: output,
  turn: 0,
  origin: 'user',
});
const words = (session: ReturnType<typeof turns>, pairs: readonly Pair[] = []) =>
  overlooked(session, pairs).map(({ sentence, about }) => [sentence, about]);

test('names and numbers that no pair answers with are found with their sentence, each once', () => {
  const session = turns('I met Ruben in New York. He paid 4719 euros. Ruben laughed.', "Ruben's boat left at 6:40.");
  assert.deepEqual(words(session), [
    ['I met Ruben in New York.', ['Ruben', 'New York']],
    ['He paid 4719 euros.', ['4719']],
    ["Ruben's boat left at 6:40.", ['6:40']],
  ]);
  assert.deepEqual(words(session, [pair('Who met Ann in New York?', 'Ruben paid 4719 euros.')]), [
    ['I met Ruben in New York.', ['New York']],
    ["Ruben's boat left at 6:40.", ['6:40']],
  ]);
});

test('the first word of a sentence, "I", lower case and the speakers make no name', () => {
  assert.deepEqual(words(turns("Soup is what I like, and I'm sure that Ann does.", 'Hello!')), []);
});

test('a sentence is handed on with what was said before it in its turn', () => {
  const [found] = overlooked(turns('My code is long. It is 4719, see?'), []);
  assert.deepEqual([found!.before, found!.sentence], ['My code is long.', 'It is 4719, see?']);
});

test('the extraction asks again about what was overlooked, and takes only pairs that answer with it', async () => {
  const asked: string[] = [];
  const engine = new ScriptedEngine({
    reply: (request) => {
      if (!isPart(request)) return writeNote(request);
      const message = lastMessage(request);
      asked.push(message);
      return JSON.stringify({
        pairs: message.includes('One card')
          ? [
              { output: 'The code of Ann is 4719.', instruction: 'What is the code of Ann?' },
              { output: 'The code of Ann is long.', instruction: 'How long is the code of Ann?' },
              { output: 'Ann has the code 4719.', instruction: 'Who has the code 4719?' },
            ]
          : [{ output: 'The dog of Ann is called Rex.', instruction: 'What is the dog of Ann called?' }],
      });
    },
  });
  const session = turns('My dog is called Rex. My long code is 4719.');
  const { pairs } = await extract(engine, session);
  assert.deepEqual(
    pairs.map((p) => [p.output, p.source]),
    [
      ['The dog of Ann is called Rex.', 'My dog is called Rex.'],
      ['The code of Ann is 4719.', 'My long code is 4719.'],
    ],
  );
  assert.equal(asked.length, 2);
  assert.match(asked[1]!, /4719\)$/);
  asked.length = 0;
  assert.equal((await extract(engine, session, { secondLook: false })).pairs.length, 1);
  assert.equal(asked.length, 1);
});
