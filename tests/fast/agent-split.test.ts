import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { cut } from '../../src/agent/split.ts';

const within = (limit: number) => async (s: string) => s.length <= limit;

test('cuts behind a sentence, else behind a word, else anywhere', async () => {
  assert.deepEqual(await cut('One two. Three four. Five.', within(22)), ['One two. Three four. ', 'Five.']);
  assert.deepEqual(await cut('One two three four.', within(9)), ['One two ', 'three four.']);
  assert.deepEqual(await cut('abcdefgh', within(3)), ['abc', 'defgh']);
  assert.deepEqual(await cut('first line\nsecond line', within(12)), ['first line\n', 'second line']);
});

test('beginning and rest are the text, the beginning is not empty, and fits unless it is one character', async () => {
  const words = fc.array(fc.constantFrom('a', 'word', 'end. ', ' ', '\n', '😀', 'Überlang', '!'), { minLength: 1 });
  await fc.assert(
    fc.asyncProperty(words, fc.nat(30), async (units, limit) => {
      const text = units.join('');
      const [beginning, rest] = await cut(text, within(limit));
      assert.equal(beginning + rest, text);
      assert.ok(beginning.length > 0);
      assert.ok(beginning.length <= limit || [...beginning].length === 1);
      assert.ok(!/[\ud800-\udbff]$/.test(beginning), 'no half character');
    }),
  );
});
