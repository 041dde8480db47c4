import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  answerContext,
  extractionContext,
  layOut,
  spellTime,
  transcript,
  workingContext,
} from '../../src/agent/context.ts';
import { groundPairs } from '../../src/agent/pairs.ts';
import { EXTRACTION } from '../../src/agent/prompts.ts';
import type { Turn } from '../../src/memory/types.ts';

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

test('the extraction sees one sentence a line, with its speaker, under the date; each line gives its sentence back', () => {
  const { text, quotes } = layOut([
    { role: 'user', speaker: 'Ann', time: '2025-03-08T10:00', content: 'Hi! I have a dog.\nHe is 3.5 years old.' },
    { role: 'user', speaker: 'Bob', time: '2025-03-08T11:00', content: 'Oh  nice' },
    { role: 'assistant', time: '2025-03-09', content: ' Yes. ' },
  ]);
  assert.deepEqual(text.split('\n'), [
    'Saturday 8 March 2025',
    'Ann: Hi!',
    'Ann: I have a dog.',
    'Ann: He is 3.5 years old.',
    'Bob: Oh  nice',
    'Sunday 9 March 2025',
    'Assistant: Yes.',
  ]);
  assert.equal(quotes.get('Ann: He is 3.5 years old.'), 'He is 3.5 years old.');
  assert.equal(quotes.size, 5);
  assert.equal(layOut([{ role: 'user', content: ' \n ' }]).quotes.size, 0);
});

test('the examples of the extraction are what the schema allows, and nothing of them would be dropped', () => {
  for (const { part, answer } of EXTRACTION.examples) {
    const [first, ...rest] = part.split('\n');
    const dated = !first!.includes(':');
    const lines = dated ? rest : [first!, ...rest];
    assert.ok(answer.pairs.every((pair) => lines.includes(pair.source)));
    const session = lines.map((line, index) => {
      const [, speaker, content] = /^(\w+): (.*)$/.exec(line)!;
      return { turn: { role: 'user' as const, speaker, content: content!, time: dated ? first : undefined }, index };
    });
    const { quotes } = layOut(session.map((item) => item.turn));
    const quoted = answer.pairs.map((pair) => ({ ...pair, source: quotes.get(pair.source)! }));
    const { pairs, dropped } = groundPairs(quoted, session);
    assert.deepEqual(dropped, {});
    assert.equal(pairs.length, answer.pairs.length);
  }
});

test('the question is in the extraction context only when it is aware of it', () => {
  const part: Turn[] = [{ role: 'user', content: 'x' }];
  const text = (task?: string) => JSON.stringify(extractionContext({ task, earlier: [], part }));
  assert.ok(text('Who is $& it?').includes('Who is $& it?'));
  assert.ok(!text().includes('{task}'));
});
