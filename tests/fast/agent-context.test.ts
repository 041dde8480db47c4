import assert from 'node:assert/strict';
import { test } from 'node:test';
import { answerContext, extractionContext, noteContext, transcript, workingContext } from '../../src/agent/context.ts';
import { extract, PAIRS_SCHEMA } from '../../src/agent/extract.ts';
import { EXTRACTION } from '../../src/agent/prompts.ts';
import { schemaToGrammar } from '../../src/engine/grammar.ts';
import { ScriptedEngine } from '../../src/engine/scripted.ts';
import { spellTime } from '../../src/memory/spell-time.ts';
import type { Turn } from '../../src/memory/types.ts';
import { parseGbnf } from '../support/gbnf.ts';

test('ISO times are spelled out with the day of the week, others stay', () => {
  assert.equal(spellTime('2026-03-14'), 'Saturday 14 March 2026');
  assert.equal(spellTime('2024-02-29T09:30:00Z'), 'Thursday 29 February 2024, 09:30');
  assert.equal(spellTime('last spring'), 'last spring');
  assert.equal(spellTime('2026-13-01'), '2026-13-01');
});

test('the working context names speakers, tells tools as user, and merges neighbours of one role', () => {
  const turns: Turn[] = [
    { role: 'user', speaker: 'Ann', content: 'Hi' },
    { role: 'user', speaker: 'Bob', content: 'Hello' },
    { role: 'assistant', content: 'Welcome' },
    { role: 'tool', content: '42' },
  ];
  const history = turns.map((turn, index) => ({ turn, index }));
  const [system, ...rest] = workingContext({ task: 'Q', history, memory: 'M', extra: 'E' });
  assert.match(system!.content, /Q\n\nE\n\n.*\nM$/);
  assert.deepEqual(rest, [
    { role: 'user', content: 'Ann: Hi\nBob: Hello' },
    { role: 'assistant', content: 'Welcome' },
    { role: 'user', content: '42' },
  ]);
  assert.equal(transcript([{ role: 'user', content: 'x', origin: 'document' }]), 'Text: x');
});

test('an answer without explicit memory sees the bare question, as it was trained', () => {
  assert.deepEqual(answerContext('Why?', ''), [{ role: 'user', content: 'Why?' }]);
  assert.match(answerContext('Why?', 'because')[0]!.content, /because/);
});

const talk: Turn[] = [
  { role: 'user', speaker: 'Ann', time: '2025-03-08T10:00', content: 'Hi! I have a dog.\nHe is 3.5 years old.' },
  { role: 'user', speaker: 'Bob', time: '2025-03-08T11:00', content: 'Oh  nice' },
  { role: 'assistant', time: '2025-03-09', content: 'Yes.' },
];

test('extraction and note see turns with their speakers, under the date when it changes', () => {
  const shown = `Saturday 8 March 2025
Ann: Hi! I have a dog.
He is 3.5 years old.
Bob: Oh  nice
Sunday 9 March 2025
Assistant: Yes.`;
  assert.equal(extractionContext({ earlier: [], part: talk }).at(-1)!.content, `Message:\n${shown}`);
  assert.equal(noteContext(talk)[1].content, shown);
});

test('the turns before a part stand before it, each marked as said before', () => {
  const { content } = extractionContext({ earlier: talk.slice(0, 2), part: talk.slice(2) }).at(-1)!;
  const [before, part] = content.split('Message:\n');
  assert.equal(before, 'Said before: Ann: Hi! I have a dog.\nHe is 3.5 years old.\nSaid before: Bob: Oh  nice\n');
  assert.equal(part, 'Sunday 9 March 2025\nAssistant: Yes.');
});

test('the examples are laid out as parts are, are what the schema allows, and nothing of them would be dropped', async () => {
  const grammar = parseGbnf(schemaToGrammar(PAIRS_SCHEMA));
  const context = extractionContext({ earlier: [], part: talk });
  for (const [i, { part, about, pairs: expected }] of EXTRACTION.examples.entries()) {
    const answer = context[2 + 2 * i]!;
    assert.equal(answer.role, 'assistant');
    assert.ok(grammar.accepts(answer.content), answer.content);
    assert.deepEqual(JSON.parse(answer.content).pairs, expected);

    const [, time, speaker, content] = /^(?:(\w+ \d+ \w+ \d{4})\n)?(\w+): (.*)$/.exec(part)!;
    const named = speaker === 'User' ? {} : { speaker };
    const turn: Turn = { role: 'user', content: content!, time, ...named };
    assert.equal(context[1 + 2 * i]!.content, extractionContext({ earlier: [], part: [turn], about }).at(-1)!.content);

    const engine = new ScriptedEngine({
      reply: (request) => (request.schema === PAIRS_SCHEMA ? answer.content : '{"memory": "note"}'),
    });
    const { pairs, dropped } = await extract(engine, [{ turn, index: 0 }]);
    assert.deepEqual(dropped, {});
    assert.equal(pairs.length, expected.length);
    assert.ok(pairs.every((pair) => content!.includes(pair.source)));
  }
});

test('the question is in the extraction context only when it is aware of it', () => {
  const part: Turn[] = [{ role: 'user', content: 'x' }];
  const text = (task?: string) => extractionContext({ task, earlier: [], part }).at(-1)!.content;
  assert.equal(text(), 'Message:\nUser: x');
  assert.equal(text('Who is $& it?'), 'Message:\nUser: x\nFacts that help with this come first: Who is $& it?');
});
