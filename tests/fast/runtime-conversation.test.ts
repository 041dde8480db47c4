import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import type { Snapshot } from '../../src/memory/session.ts';
import { emptyMemory } from '../../src/memory/types.ts';
import { chain, messagesOf, reconcile, withSeen } from '../../src/serve/runtime/conversation.ts';
import { ToolStream } from '../../src/serve/runtime/tool-stream.ts';
import type { ConversationMessage } from '../../src/serve/types.ts';

const nothing: Snapshot = { state: emptyMemory('f'), working: [], turns: 0, seen: [] };
const user = (content: string): ConversationMessage => ({ role: 'user', content });
const assistant = (content: string): ConversationMessage => ({ role: 'assistant', content });

/** What the session holds after it has taken in a conversation and answered it. */
function taken(before: Snapshot, conversation: readonly ConversationMessage[], answer?: string): Snapshot {
  const messages = messagesOf(conversation);
  const { snapshot, added } = reconcile(before, messages);
  const turns = added.map(({ turn, hash }) => ({ turn, hash }));
  if (answer !== undefined) {
    const turn = { role: 'assistant' as const, content: answer };
    turns.push({ turn, hash: chain(messages.at(-1)!.hash, turn) });
  }
  let { working, seen, turns: index } = snapshot;
  for (const { turn, hash } of turns) {
    working = [...working, { turn, index }];
    seen = withSeen(seen, hash, index++);
  }
  return { ...snapshot, working, seen, turns: index };
}

const contents = ({ working }: Snapshot) => working.map(({ turn }) => turn.content);

test('a conversation that grows is taken in once, in order, whatever is written in between', () => {
  const text = fc.string({ minLength: 1, maxLength: 6 }).filter((s) => s.trim() !== '');
  fc.assert(
    fc.property(fc.array(fc.tuple(text, text, fc.boolean()), { minLength: 1, maxLength: 8 }), (rounds) => {
      let snapshot = nothing;
      const conversation: ConversationMessage[] = [];
      const expected: string[] = [];
      let written: string[] = [];
      for (const [question, answer, writes] of rounds) {
        conversation.push(user(question));
        snapshot = taken(snapshot, conversation, answer);
        conversation.push(assistant(answer));
        expected.push(question, answer);
        if (writes) {
          written = [...written, ...contents(snapshot)];
          snapshot = { ...snapshot, working: [] };
        }
      }
      assert.deepEqual([...written, ...contents(snapshot)], expected);
    }),
  );
});

test('an answer that is asked for again takes the place of the first one', () => {
  const first = taken(nothing, [user('a'), assistant('b'), user('c')], 'bad answer');
  const again = taken(first, [user('a'), assistant('b'), user('c')], 'good answer');
  assert.deepEqual(contents(again), ['a', 'b', 'c', 'good answer']);
});

test('a message that was edited takes the place of what followed the one before it', () => {
  const first = taken(taken(nothing, [user('a')], 'b'), [user('a'), assistant('b'), user('my cat is Bob')], 'ah');
  const edited = taken(first, [user('a'), assistant('b'), user('my cat is Rob')], 'oh');
  assert.deepEqual(contents(edited), ['a', 'b', 'my cat is Rob', 'oh']);
});

test('another conversation leaves what was said in the first one', () => {
  const first = taken(nothing, [user('one'), assistant('x'), user('two')], 'y');
  const second = taken(first, [user('three')], 'z');
  assert.deepEqual(contents(second), ['one', 'x', 'two', 'y', 'three', 'z']);
  const back = taken(second, [user('one'), assistant('x'), user('two'), assistant('y'), user('four')], 'w');
  assert.deepEqual(contents(back), ['one', 'x', 'two', 'y', 'three', 'z', 'four', 'w']);
});

test('one that begins like the first and ends there takes back no words of the user', () => {
  const first = taken(taken(nothing, [user('hi')], 'hello'), [user('hi'), assistant('hello'), user('I am Ann')], 'ok');
  const again = taken(first, [user('hi')], 'hello');
  assert.deepEqual(contents(again), ['hi', 'hello', 'I am Ann', 'ok', 'hi', 'hello']);
  const on = taken(again, [user('hi'), assistant('hello'), user('I am Bob')], 'oh');
  assert.deepEqual(contents(on).slice(4), ['hi', 'hello', 'I am Bob', 'oh']);
  assert.ok(contents(on).includes('I am Ann'));
});

test('what was written stays, and is not taken in again', () => {
  const first = taken(nothing, [user('a'), assistant('b'), user('c')], 'd');
  const written = { ...first, working: [] };
  const added = (...conversation: ConversationMessage[]) =>
    reconcile(written, messagesOf(conversation)).added.map(({ turn }) => turn.content);
  const before = [user('a'), assistant('b'), user('c')];
  assert.deepEqual(added(...before, assistant('d'), user('e')), ['e']);
  assert.deepEqual(added(...before), ['c'], 'but for what is to be answered');
});

test('calls and results of tools are turns that name them', () => {
  const messages = messagesOf([
    user('how warm?'),
    { role: 'assistant', content: '', toolCalls: [{ id: 'c1', name: 'weather', arguments: '{"city":"Ghent"}' }] },
    { role: 'tool', content: '12 degrees', callId: 'c1' },
  ]);
  assert.deepEqual(
    messages.map(({ turn }) => [turn.role, turn.content]),
    [
      ['user', 'how warm?'],
      ['assistant', '{"tool": "weather", "arguments": {"city":"Ghent"}}'],
      ['tool', 'Result of weather:\n12 degrees'],
    ],
  );
});

test('text that is no call comes out whole, however it comes in, and calls do not come out as text', () => {
  const piece = fc.constantFrom(
    'Hello ',
    '{',
    '"tool"',
    ': ',
    '"weather"',
    '}',
    '`',
    '<b>',
    'x',
    '\n',
    ', "arguments": {}',
  );
  fc.assert(
    fc.property(fc.array(piece, { maxLength: 14 }), (pieces) => {
      const stream = new ToolStream(['weather']);
      const given = pieces.map((p) => stream.push(p)).join('');
      const { call, text } = stream.end();
      if (call) assert.equal(call.name, 'weather');
      else assert.equal(given + text, pieces.join(''));
    }),
  );
  const stream = new ToolStream(['weather']);
  assert.equal(stream.push('Let me look. {"tool": "weather", "arg'), 'Let me look. ');
  assert.equal(stream.push('uments": {"city": "Ghent"}}'), '');
  assert.deepEqual(stream.end(), { text: '', call: { name: 'weather', arguments: '{"city":"Ghent"}' } });
  const other = new ToolStream(['weather']);
  assert.equal(other.push('{"tool": "rm"}') + other.end().text, '{"tool": "rm"}');
});
