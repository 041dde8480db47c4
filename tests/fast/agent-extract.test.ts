import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { chunk, type ExtractEvent, extract, NOTE_SCHEMA, PAIRS_SCHEMA, remember } from '../../src/agent/extract.ts';
import { schemaToGrammar } from '../../src/engine/grammar.ts';
import { ScriptedEngine } from '../../src/engine/scripted.ts';
import type { GenerateRequest } from '../../src/engine/types.ts';
import { parseGbnf } from '../support/gbnf.ts';
import {
  extractFacts,
  isNote,
  isPart,
  lastMessage,
  partOf,
  said,
  scriptedPolicy,
  writeNote,
} from '../support/scripted.ts';

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

const generations = (engine: ScriptedEngine) =>
  engine.calls.flatMap((call) => (call.type === 'generate' ? [call.request] : []));

test('pairs of all parts come together with one note; each part is shown the turn before it', async () => {
  const engine = scriptedPolicy();
  const events: ExtractEvent[] = [];
  const items = session('The sky is grey.', 'Hello there.', 'The door is green. The dog is brown.');
  const result = await extract(engine, items, { onEvent: (e) => events.push(e) });
  assert.deepEqual(
    result.pairs.map((p) => [p.instruction, p.output, p.source, p.turn]),
    [
      ['What is the sky?', 'grey', 'The sky is grey.', 0],
      ['What is the door?', 'green', 'The door is green.', 2],
      ['What is the dog?', 'brown', 'The dog is brown.', 2],
    ],
  );
  assert.deepEqual(result.notes, ['Talk grey green brown']);
  assert.deepEqual(events.map((e) => [e.part, e.parts, e.attempt, e.pairs?.length]).sort(), [
    [0, 3, 0, 1],
    [1, 3, 0, 0],
    [2, 3, 0, 2],
  ]);
  const asked = generations(engine).filter(isPart).map(lastMessage);
  assert.deepEqual(asked, [
    'Message:\nUser: The sky is grey.',
    'Said before: User: The sky is grey.\nMessage:\nUser: Hello there.',
    'Said before: User: Hello there.\nMessage:\nUser: The door is green. The dog is brown.',
  ]);
  assert.ok(generations(engine).every((request) => request.fastWeights === false));
});

test('turns of a part, and turns before it, are as many as asked for', async () => {
  const engine = scriptedPolicy();
  const items = session('One.', 'Two.', 'Three.', 'Four.');
  await extract(engine, items, { chunkTurns: 2, earlierTurns: 0 });
  await extract(engine, items, { chunkTurns: 3, earlierTurns: 2 });
  assert.deepEqual(generations(engine).filter(isPart).map(lastMessage), [
    'Message:\nUser: One.\nUser: Two.',
    'Message:\nUser: Three.\nUser: Four.',
    'Message:\nUser: One.\nUser: Two.\nUser: Three.',
    'Said before: User: Two.\nSaid before: User: Three.\nMessage:\nUser: Four.',
  ]);
});

test('the parts are asked for at once, the note when their facts are there', async () => {
  let waiting = 0;
  const all = Promise.withResolvers<void>();
  const engine = new ScriptedEngine({
    reply: async (request) => {
      if (isNote(request)) return writeNote(request);
      if (++waiting === 3) all.resolve();
      await all.promise; // for ever, if they come one after another
      return extractFacts(request);
    },
  });
  const items = session('The sky is grey.', 'The door is green.', 'The dog is brown.');
  const { pairs, notes } = await extract(engine, items);
  assert.equal(pairs.length, 3);
  assert.deepEqual(notes, ['Talk grey green brown']);
});

test('the quote of a pair is the sentence of its part that holds the answer, as it was said; blanks are not asked about', async () => {
  const pairs = [
    { output: 'Ann has a dog that is called Rex.', instruction: "What is Ann's dog called?" },
    { output: 'Ann has a dog of 3.5 years.', instruction: 'How old is the dog of Ann?' },
    { output: 'a red  leash', instruction: 'What did Ann buy for Rex?' },
    { output: 'The dog of Ann sleeps in the kitchen.', instruction: 'Where does the dog of Ann sleep?' },
  ];
  const engine = new ScriptedEngine({ reply: (r) => JSON.stringify(isPart(r) ? { pairs } : { memory: 'note' }) });
  const content = '  \n My DOG is\tRex! He’s 3.5 years old…\nI bought  a red leash for him, Rex is glad.';
  const turns = [said(content, { speaker: 'Ann' }), said(' \n ')];
  const result = await extract(
    engine,
    turns.map((turn, index) => ({ turn, index })),
  );
  assert.deepEqual(
    result.pairs.map((pair) => [pair.output, pair.source]),
    [
      ['Ann has a dog that is called Rex.', 'My DOG is\tRex!'],
      ['Ann has a dog of 3.5 years.', 'He’s 3.5 years old…'],
      ['a red  leash', 'I bought  a red leash for him, Rex is glad.'],
    ],
  );
  assert.ok(result.pairs.every((pair) => content.includes(pair.source)));
  assert.deepEqual(result.dropped, { unsupported: 1 });
  assert.equal(generations(engine).filter(isPart).length, 1);
  assert.equal(result.unreadable, 0);
});

test('a sentence that was said more than once is quoted from the turn that the pair is from', async () => {
  const engine = new ScriptedEngine({
    reply: (request) => {
      if (!isPart(request)) return writeNote(request);
      const speaker = /^\w+/.exec(partOf(request))![0];
      return JSON.stringify({
        pairs: [{ output: `${speaker} likes tea.`, instruction: `What does ${speaker} like?` }],
      });
    },
  });
  const turns = ['Ann', 'Bob', 'Eve'].map((speaker) => said('I like tea.', { speaker }));
  const items = turns.map((turn, index) => ({ turn: index < 2 ? turn : { ...turn, role: 'tool' as const }, index }));
  const { pairs, dropped } = await extract(engine, items);
  assert.deepEqual(
    pairs.map((pair) => [pair.instruction, pair.turn]),
    [
      ['What does Ann like?', 0],
      ['What does Bob like?', 1],
    ],
  );
  assert.deepEqual(dropped, { untrusted: 1 });
});

test('an unreadable answer is tried once more with another seed', async () => {
  for (const kind of [isPart, isNote]) {
    const requests: GenerateRequest[] = [];
    const engine = new ScriptedEngine({
      reply: (request) => {
        if (kind(request) && requests.push(request) === 1) return 'Sure! Here you go';
        return isPart(request) ? extractFacts(request) : writeNote(request);
      },
    });
    const events: ExtractEvent[] = [];
    const result = await extract(engine, session('The sky is grey.'), { onEvent: (e) => events.push(e) });
    assert.equal(result.pairs.length, 1);
    assert.equal(result.unreadable, 0);
    assert.deepEqual(result.notes, ['Talk grey']);
    assert.equal(requests.length, 2);
    assert.notEqual(requests[0]!.temperature, requests[1]!.temperature);
    assert.notEqual(requests[0]!.seed ?? 0, requests[1]!.seed);
    assert.deepEqual(
      events.map((e) => [e.attempt, e.pairs?.length ?? null]),
      kind === isPart
        ? [
            [0, null],
            [1, 1],
          ]
        : [[0, 1]],
    );
  }
});

test('a part that stays unreadable is kept as text and counted; the others are not lost', async () => {
  const engine = new ScriptedEngine({
    reply: (request) => {
      if (isNote(request)) return writeNote(request);
      return partOf(request).includes('bad') ? 'no' : extractFacts(request);
    },
  });
  const result = await extract(engine, session('Something bad.', 'The sky is grey.'));
  assert.equal(result.unreadable, 1);
  assert.deepEqual(result.notes, ['Talk grey', 'User: Something bad.']);
  assert.equal(result.pairs.length, 1);
  assert.equal(generations(engine).length, 4, 'the bad part twice');
});

test('without a readable note the session is kept as text', async () => {
  const engine = new ScriptedEngine({
    reply: (request) => (isPart(request) ? extractFacts(request) : '{"memory": "a'),
  });
  const result = await extract(engine, session('Something.', 'The sky is grey.'));
  assert.deepEqual(result.notes, ['User: Something.', 'User: The sky is grey.']);
  assert.equal(result.pairs.length, 1);
  assert.equal(generations(engine).filter(isNote).length, 2);
});

test('the note is one call, over the session when it has no facts, and on its end when that does not fit the context', async () => {
  const contents = Array.from({ length: 40 }, (_, i) => `Number ${i} is ${'word '.repeat(20)}.`);
  const notes = async (items: ReturnType<typeof session>, contextSize: number) => {
    const engine = scriptedPolicy(undefined, { contextSize });
    engine.generate = ((generate) => (request: GenerateRequest) => {
      if (isPart(request)) return generate.call(engine, { ...request, prompt: lastMessage(request) });
      return generate.call(engine, request);
    })(engine.generate); // the examples of the extraction need more room than a small context has
    await extract(engine, items);
    return generations(engine).filter(isNote);
  };
  const [whole, ...more] = await notes(session(...contents), 32768);
  assert.equal(more.length, 0);
  assert.equal(lastMessage(whole!), contents.map((content) => `User: ${content}`).join('\n'));
  const [end] = await notes(session(...contents), 600);
  const shown = lastMessage(end!);
  assert.ok(lastMessage(whole!).endsWith(`\n${shown}`));
  assert.ok(shown.split('\n').length >= 10, 'as much as fits');
  const [beginning] = await notes(session(contents.join(' ')), 600);
  assert.ok(lastMessage(beginning!).startsWith('User: Number 0 is word'));
});

test('the task is shown to the extraction of pairs when it is aware', async () => {
  const engine = scriptedPolicy();
  await extract(engine, session('Hi.'), { task: 'Which door?' });
  await extract(engine, session('Hi.'));
  const shown = generations(engine)
    .filter(isPart)
    .map((request) => [lastMessage(request).includes('Which door?'), partOf(request)]);
  assert.deepEqual(shown, [
    [true, 'User: Hi.'],
    [false, 'User: Hi.'],
  ]);
});

test('the schemas allow complete pairs or none, and a note', () => {
  const grammar = parseGbnf(schemaToGrammar(PAIRS_SCHEMA));
  const pair = { output: 'o', instruction: 'q' };
  assert.ok(grammar.accepts(JSON.stringify({ pairs: [] })));
  assert.ok(grammar.accepts(JSON.stringify({ pairs: [pair, pair] })));
  for (const bad of [{ pairs: [{ ...pair, output: '' }] }, { pairs: [{ ...pair, source: 's' }] }, { memory: 'm' }])
    assert.ok(!grammar.accepts(JSON.stringify(bad)), JSON.stringify(bad));
  assert.ok(parseGbnf(schemaToGrammar(NOTE_SCHEMA)).accepts(JSON.stringify({ memory: 'm' })));
});

test('the explicit memory grows by lines, is rewritten when it is too long, and never passes its bound', async () => {
  const engine = scriptedPolicy();
  assert.equal(await remember(engine, 'one', ['two', 'one', 'two'], 10), 'one\ntwo');
  assert.equal(engine.calls.length, 0);
  assert.equal(await remember(engine, 'one two three', ['four five'], 4), 'short notes');
  assert.equal(generations(engine)[0]!.fastWeights, false);
  const stubborn = new ScriptedEngine({ reply: () => '' });
  assert.equal(await remember(stubborn, 'one two three', ['four five', 'six'], 4), 'four five\nsix');
  assert.equal(await remember(stubborn, '', ['a single line that is long'], 4), 'a single line');
});

test('what a user without a name tells is asked as the user asks; the note, and the words of others, stay as they are', async () => {
  const shown: string[] = [];
  const engine = new ScriptedEngine({
    reply: (request) => {
      if (isNote(request)) {
        shown.push(lastMessage(request));
        return writeNote(request);
      }
      return JSON.stringify({
        pairs: [{ output: "The user's kitten is called Marzipan.", instruction: "What is the user's kitten called?" }],
      });
    },
  });
  const told = async (speaker?: string) =>
    (await extract(engine, [{ turn: said('My kitten is called Marzipan.', speaker ? { speaker } : {}), index: 0 }]))
      .pairs;
  const [own] = await told();
  assert.deepEqual([own!.instruction, own!.output], ['What is my kitten called?', 'Your kitten is called Marzipan.']);
  assert.match(shown[0]!, /The user's kitten is called Marzipan/);
  const [other] = await told('Ann');
  assert.match(other!.instruction, /user's/);
});
