import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import type { AnswerLine, MemoryLine } from '../../src/benchmarks/results.ts';
import { bootstrapInterval, deviation, mean, pairedDifference } from '../../src/benchmarks/statistics.ts';
import { summarise } from '../../src/benchmarks/summary.ts';
import { randomSource } from '../../src/engine/training/random.ts';

test('mean and sample deviation are those worked by hand', () => {
  assert.equal(mean([1, 2, 6]), 3);
  assert.equal(deviation([2, 4, 4, 4, 5, 5, 7, 9]), Math.sqrt(32 / 7));
  assert.equal(deviation([3]), 0);
});

test('the interval of a mean is inside its values, holds the mean, and is the same for the same seed', () => {
  fc.assert(
    fc.property(
      fc.array(fc.double({ min: 0, max: 1, noNaN: true }), { minLength: 2, maxLength: 30 }),
      fc.nat(),
      (values, seed) => {
        const { low, high } = bootstrapInterval(values, seed);
        assert.ok(low <= high && low >= Math.min(...values) - 1e-9 && high <= Math.max(...values) + 1e-9);
        assert.deepEqual(bootstrapInterval(values, seed), { low, high });
      },
    ),
    { numRuns: 50 },
  );
});

test('the interval of many values is as wide as the normal approximation says', () => {
  const random = randomSource(7);
  const values = Array.from({ length: 400 }, () => (random() < 0.3 ? 1 : 0));
  const share = mean(values);
  const { low, high } = bootstrapInterval(values);
  const half = 1.96 * Math.sqrt((share * (1 - share)) / values.length);
  assert.ok(Math.abs(low - (share - half)) < 0.01, `${low} ${share - half}`);
  assert.ok(Math.abs(high - (share + half)) < 0.01, `${high} ${share + half}`);
});

test('a difference that is the same on every question has an interval of no width', () => {
  const { difference, low, high } = pairedDifference([0.9, 0.4, 0.6], [0.8, 0.3, 0.5]);
  for (const value of [difference, low, high]) assert.ok(Math.abs(value - 0.1) < 1e-12);
});

function answer(method: string, id: string, f1: number, more: Partial<AnswerLine> = {}): AnswerLine {
  const text = { question: 'q', reference: 'r', answer: 'a' };
  return {
    run: 1,
    method,
    sample: 's',
    id,
    category: 'one',
    ...text,
    scores: { f1 },
    contextTokens: 10,
    ms: 1,
    ...more,
  };
}

function memory(method: string, more: Partial<MemoryLine> = {}): MemoryLine {
  const nothing = {
    text: '',
    items: 0,
    weights: 0,
    seconds: 1,
    reused: 0,
    peakMiB: null,
    promptTokens: 1,
    outputTokens: 2,
    trainedTokens: 3,
  };
  return { run: 1, method, sample: 's', ...nothing, contexts: [5, 9, 7], ...more };
}

test('methods are compared on the questions that all of them have answered', () => {
  const lines = [answer('tmem', 'b', 0.5), answer('tmem', 'a', 1), answer('none', 'a', 0.25), answer('none', 'c', 1)];
  const { rows, differences, rowsWithAll } = summarise({ metric: 'f1' }, ['tmem', 'none'], lines, [], 1);
  assert.deepEqual(
    rows.map(({ method, n, scores }) => [method, n, scores]),
    [
      ['tmem', 1, { f1: 1 }],
      ['none', 1, { f1: 0.25 }],
    ],
  );
  assert.deepEqual(differences, [{ method: 'tmem', over: 'none', difference: 0.75, low: 0.75, high: 0.75 }]);
  assert.equal(rowsWithAll, undefined);
});

test('categories that are reported apart are not in the first rows, but in rows of their own beside the others', () => {
  const lines = [answer('tmem', 'a', 1), answer('tmem', 'b', 0, { category: 'adversarial' })];
  const { rows, rowsWithAll } = summarise({ metric: 'f1', apart: ['adversarial'] }, ['tmem'], lines, [], 1);
  assert.deepEqual([rows[0]!.n, rows[0]!.scores], [1, { f1: 1 }]);
  assert.deepEqual([rowsWithAll![0]!.n, rowsWithAll![0]!.scores], [2, { f1: 0.5 }]);
  assert.deepEqual(rowsWithAll![0]!.categories, { adversarial: { n: 1, score: 0 }, one: { n: 1, score: 1 } });
});

test('several runs give the mean over all and the deviation of their means; what they cost is added up', () => {
  const lines = [1, 2].flatMap((run) => [
    answer('tmem', 'a', run === 1 ? 1 : 0, { run }),
    answer('tmem', 'b', 0.5, { run }),
  ]);
  const memories = [
    memory('tmem', { peakMiB: 10 }),
    memory('tmem', { run: 2, peakMiB: 12, contexts: [4, 11] }),
    memory('none'),
  ];
  const [row] = summarise({ metric: 'f1' }, ['tmem'], lines, memories, 2).rows;
  assert.deepEqual([row!.n, row!.scores], [2, { f1: 0.5 }]);
  assert.equal(row!.deviation, deviation([0.75, 0.25]));
  const { seconds, promptTokens, outputTokens, trainedTokens, peakMiB, longestContext, contextTokens } = row!.cost;
  assert.deepEqual([seconds, promptTokens, outputTokens, trainedTokens, peakMiB, longestContext], [2, 2, 4, 6, 12, 11]);
  assert.equal(contextTokens, 10);
});

test('a question that was not answered in every run is left out', () => {
  const lines = [answer('tmem', 'a', 1), answer('tmem', 'b', 1), answer('tmem', 'a', 0, { run: 2 })];
  assert.equal(summarise({ metric: 'f1' }, ['tmem'], lines, [], 2).rows[0]!.n, 1);
});
