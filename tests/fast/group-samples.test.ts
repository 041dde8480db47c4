/** How samples are cut into runs that are computed at once. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { commonPrefix, groupSamples, type TokenisedSample } from '../../src/engine/training/packed-batch.ts';

const sample = fc
  .record({ prompt: fc.array(fc.integer({ min: 0, max: 1 }), { minLength: 1, maxLength: 12 }), answers: fc.nat(9) })
  .map(
    ({ prompt, answers }): TokenisedSample => ({
      tokens: Int32Array.from([...prompt, ...Array<number>(answers).fill(2)]),
      promptLength: prompt.length,
    }),
  );
const limit = fc.integer({ min: 1, max: 40 });

test('runs hold every sample once and in order, within the limits unless a sample alone is beyond them', () => {
  fc.assert(
    fc.property(fc.array(sample, { maxLength: 20 }), limit, limit, limit, (list, tokens, samples, answerTokens) => {
      const groups = groupSamples(list, { tokens, samples, answerTokens });
      assert.deepEqual(groups.flat(), list);
      for (const group of groups) {
        assert.ok(group.length > 0);
        if (group.length === 1) continue;
        const prefix = commonPrefix(group);
        assert.ok(group.reduce((n, s) => n + s.tokens.length - prefix, prefix) <= tokens);
        assert.ok(group.length <= samples);
        assert.ok(group.reduce((n, s) => n + s.tokens.length - s.promptLength, 0) <= answerTokens);
      }
    }),
  );
});

test('a run ends only where the next sample does not fit', () => {
  const one: TokenisedSample = { tokens: Int32Array.of(1, 2, 3, 4), promptLength: 3 };
  const runs = (limits: Parameters<typeof groupSamples>[1]) =>
    groupSamples(Array<TokenisedSample>(6).fill(one), limits).map((group) => group.length);
  // What all begin with, 2 tokens, is counted once: the prompt's last token predicts the answer.
  assert.deepEqual(runs({ tokens: 2 + 2 * 3 }), [3, 3]);
  assert.deepEqual(runs({ tokens: 100, samples: 4 }), [4, 2]);
  assert.deepEqual(runs({ tokens: 100, answerTokens: 5 }), [5, 1]);
  assert.deepEqual(runs({ tokens: 1 }), [1, 1, 1, 1, 1, 1]);
});
