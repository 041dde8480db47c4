/** The conversation on the studio's screen. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import {
  type Comparison,
  type Entry,
  type Exchange,
  fromStored,
  fromWorking,
  messagesOf,
  type TranscriptAction,
  transcript,
} from '../../src/studio/transcript.ts';

const after = (...actions: TranscriptAction[]) => actions.reduce(transcript, [] as readonly Entry[]);
const begin = (id: number, question: string): TranscriptAction => ({ type: 'begin', kind: 'exchange', id, question });

test('an answer grows by its pieces and is sent with the next question', () => {
  const entries = after(
    begin(1, 'Who am I?'),
    { type: 'status', id: 1, text: 'writing' },
    { type: 'text', id: 1, text: 'You are ' },
    { type: 'text', id: 1, text: 'Nadia.' },
    { type: 'end', id: 1, state: 'done' },
  );
  assert.deepEqual(messagesOf(entries), [
    { role: 'user', content: 'Who am I?' },
    { role: 'assistant', content: 'You are Nadia.' },
  ]);
  assert.equal((entries[0] as Exchange).status, '', 'the answer takes the place of the status');
});

test('a question that failed without an answer is kept on the screen and not sent', () => {
  const failed = after(begin(1, 'Lost?'), { type: 'end', id: 1, state: 'failed' });
  assert.deepEqual([failed[0]!.question, messagesOf(failed)], ['Lost?', []]);
  const half = after(begin(1, 'Half?'), { type: 'text', id: 1, text: 'Yes' }, { type: 'end', id: 1, state: 'stopped' });
  assert.equal(messagesOf(half).length, 2);
});

test('what is tried again moves to the end, without its earlier answer', () => {
  const entries = after(begin(1, 'a'), { type: 'end', id: 1, state: 'failed' }, begin(2, 'b'), begin(1, 'a'));
  assert.deepEqual(
    entries.map(({ id, state }) => [id, state]),
    [
      [2, 'running'],
      [1, 'running'],
    ],
  );
});

test('a comparison is no part of the conversation', () => {
  const result = { answer: 'Marzipan', confidence: 0.9, abstained: false };
  const entries = after(
    { type: 'begin', kind: 'comparison', id: 1, question: 'Which kitten?' },
    { type: 'side', id: 1, side: 'without', result },
  );
  assert.deepEqual(messagesOf(entries), []);
  const { with: own, without } = entries[0] as Comparison;
  assert.deepEqual([own, without], [null, result]);
});

test('turns that a session still has in its context give the same messages again', () => {
  const role = fc.constantFrom('user', 'assistant');
  const turn = fc.record({ role, content: fc.string({ minLength: 1 }) }, { noNullPrototype: true });
  fc.assert(
    fc.property(fc.array(turn), (turns) => {
      const entries = fromWorking(turns.map((given, index) => ({ ...given, index })));
      assert.deepEqual(messagesOf(entries), turns);
      assert.equal(new Set(entries.map(({ id }) => id)).size, entries.length);
    }),
  );
});

test('what was kept of an earlier visit is no longer running, and rubbish is nothing', () => {
  const kept = fromStored(JSON.stringify(after(begin(1, 'a'))));
  assert.equal(kept[0]!.state, 'stopped');
  for (const text of [null, '', '{', '7', '{}']) assert.deepEqual(fromStored(text), []);
});
