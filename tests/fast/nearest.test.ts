/** Which pairs are nearest to a question. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { nearestPairs, stems } from '../../src/memory/nearest.ts';
import { BOAT, DOG, JOB, pairOf } from '../support/knowing.ts';

const word = fc.constantFrom(
  'boat',
  'dog',
  'job',
  'name',
  'Nadia',
  'Theo',
  'colour',
  'what',
  'the',
  'of',
  'is',
  'bees',
);
const text = fc.array(word, { minLength: 1, maxLength: 6 }).map((words) => words.join(' '));
const ledger = fc.uniqueArray(fc.record({ question: text, answer: text }), {
  selector: (p) => p.question,
  minLength: 1,
  maxLength: 8,
});
const asPairs = (facts: { question: string; answer: string }[]) => facts.map((f) => pairOf(f.question, f.answer));

test('a question is its telling words, stemmed; all of them when it has no others', () => {
  assert.deepEqual(stems("What is the name of Theo's boat?"), ['theo', 'boat']);
  assert.deepEqual(stems('Boats, and boating'), ['boat', 'boat']);
  assert.deepEqual(stems('Who are you?'), ['who', 'ar', 'you']);
  assert.deepEqual(stems('?'), []);
});

test('the pair that is meant comes first, however it is asked', () => {
  const pairs = [BOAT, JOB, DOG];
  for (const [question, pair] of [
    ['How does Theo call his boats?', BOAT],
    ["Tell me Nadia's job, please.", JOB],
    ['Whose dog is Biscuit?', DOG],
  ] as const)
    assert.equal(nearestPairs(pairs, question, 1)[0]!.pair, pair, question);
  assert.deepEqual(nearestPairs(pairs, 'What is the capital of France?', 3), []);
  assert.deepEqual(nearestPairs([], 'Nadia', 3), []);
});

test('a pair is also found by the other wordings that were trained beside it', () => {
  const also = [{ instruction: 'What does Nadia do for a living?', output: JOB.output }];
  const asked = 'What does she do for her living?';
  assert.deepEqual(nearestPairs([BOAT, JOB, DOG], asked, 1), []);
  const [found] = nearestPairs([BOAT, { ...JOB, also }, DOG], asked, 1);
  assert.equal(found!.pair.id, JOB.id);
  const [same] = nearestPairs([BOAT, { ...JOB, also }, DOG], also[0]!.instruction, 1);
  assert.equal(same!.similarity, 1);
});

test('score and similarity are those of the formulas', () => {
  const pairs = [pairOf('red boat?', 'oak'), pairOf('red house?', 'elm tree')];
  const [one, two] = nearestPairs(pairs, 'red boat', 2);
  // idf(red), in 2 of 2, and idf(boat), in 1 of 2; lengths 3 and 4 about a mean of 3.5.
  const [red, boat] = [Math.log(1 + 0.5 / 2.5), Math.log(1 + 1.5 / 1.5)];
  const tf = (length: number) => 2.2 / (1 + 1.2 * (0.25 + (0.75 * length) / 3.5));
  assert.ok(Math.abs(one!.score - (red + boat) * tf(3)) < 1e-12);
  assert.ok(Math.abs(two!.score - red * tf(4)) < 1e-12);
  assert.equal(one!.similarity, 1);
  assert.ok(Math.abs(two!.similarity - (2 * red) / (red + boat + red + boat)) < 1e-12);
});

test('best first, at most n, similarities from 0 to 1, 1 for the same question', () => {
  fc.assert(
    fc.property(ledger, text, fc.integer({ min: 0, max: 9 }), (facts, question, n) => {
      const pairs = asPairs(facts);
      const found = nearestPairs(pairs, question, n);
      assert.ok(found.length <= n);
      found.forEach(({ score, similarity }, i) => {
        assert.ok(score > 0 && score <= (found[i - 1]?.score ?? Number.POSITIVE_INFINITY));
        assert.ok(similarity >= 0 && similarity <= 1);
      });
      for (const { pair } of nearestPairs(pairs, facts[0]!.question, pairs.length).filter(
        ({ pair }) => pair.instruction === facts[0]!.question,
      ))
        assert.equal(nearestPairs([pair], pair.instruction, 1)[0]!.similarity, 1);
    }),
  );
});

test('the order of the ledger changes no score', () => {
  fc.assert(
    fc.property(ledger, text, (facts, question) => {
      const scores = (pairs: ReturnType<typeof asPairs>) =>
        new Map(nearestPairs(pairs, question, pairs.length).map(({ pair, score }) => [pair.id, score.toFixed(9)]));
      const pairs = asPairs(facts);
      const [there, back] = [scores(pairs), scores([...pairs].reverse())];
      assert.equal(there.size, back.size);
      for (const [id, score] of there) assert.equal(back.get(id), score);
    }),
  );
});
