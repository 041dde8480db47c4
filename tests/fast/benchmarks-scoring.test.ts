/**
 * The tables in tests/fixtures/scoring were worked out by hand from the published rules. Those of LoCoMo, the stems, the
 * plain scores and MEM1's were then checked against the original Python code (NLTK 3.10.4); the hashes are of the
 * prompts that LongMemEval's own code gives.
 */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { allMet, parseVerdict, rubricPrompt } from '../../src/tasks/scoring/clbench.ts';
import { adversarialChoice, type LocomoCategory, scoreLocomo } from '../../src/tasks/scoring/locomo.ts';
import { judgedRight, judgePrompt } from '../../src/tasks/scoring/longmemeval.ts';
import { stem } from '../../src/tasks/scoring/porter.ts';
import { answerBlock, scoreAnswers, splitAnswers } from '../../src/tasks/scoring/search.ts';
import { exactMatch, f1, plainWords } from '../../src/tasks/scoring/text.ts';

function table<T>(name: string): T {
  return JSON.parse(readFileSync(new URL(`../fixtures/scoring/${name}.json`, import.meta.url), 'utf8'));
}

/** "2/3" as a number. */
function fraction(text: string): number {
  const [over, under = 1] = text.split('/').map(Number);
  return over! / under;
}

function near(actual: number, expected: number, message: string): void {
  assert.ok(Math.abs(actual - expected) < 1e-12, `${message}: ${actual}, not ${expected}`);
}

/** Answers with everything that the rules speak of. */
const parts = [
  'Paris',
  'paris',
  'the',
  'A',
  'and',
  'dogs',
  'dog',
  '7',
  '1,000',
  'x-ray',
  "it's",
  'café',
  ',',
  ';',
  '.',
];
const answers = fc.array(fc.constantFrom(...parts, '“', '東京', '\n'), { maxLength: 8 }).map((all) => all.join(' '));
/** Words that no rule changes. */
const plain = fc.array(fc.constantFrom('red', 'blue', 'car', 'boat', 'deep'), { minLength: 1, maxLength: 6 });
const CATEGORIES: readonly LocomoCategory[] = [1, 2, 3, 4, 5];

describe('plain F1 and exact match', () => {
  for (const c of table<{ answer: string; reference: string; f1: string; em: number; why: string }[]>('text'))
    it(`"${c.answer}" for "${c.reference}": ${c.why}`, () => {
      near(f1(c.answer, c.reference), fraction(c.f1), 'F1');
      assert.equal(exactMatch(c.answer, c.reference), c.em);
    });

  it('lie between 0 and 1, are the same both ways, and an exact match has an F1 of 1', () => {
    fc.assert(
      fc.property(answers, answers, (one, other) => {
        const score = f1(one, other);
        assert.ok(score >= 0 && score <= 1);
        assert.equal(score, f1(other, one));
        assert.equal(exactMatch(one, other), exactMatch(other, one));
        if (exactMatch(one, other) === 1) assert.equal(score, 1);
        assert.equal(exactMatch(one, one), 1);
      }),
    );
  });

  it('of F1 the order of words does not matter, and 1 means the same words as often', () => {
    fc.assert(
      fc.property(answers, answers, (one, other) => {
        const sorted = (text: string) => plainWords(text).sort();
        assert.equal(f1(sorted(one).join(' '), other), f1(one, other));
        assert.equal(f1(one, other) === 1, sorted(one).join(' ') === sorted(other).join(' '));
      }),
    );
  });

  it('do not change with case, articles and punctuation between words', () => {
    fc.assert(
      fc.property(plain, plain, (one, other) => {
        const dressed = `The ${one.join(', a ').toUpperCase()}!`;
        assert.equal(f1(dressed, other.join(' ')), f1(one.join(' '), other.join(' ')));
        assert.equal(exactMatch(dressed, one.join(' ')), 1);
      }),
    );
  });
});

describe("LoCoMo's scores", () => {
  const cases =
    table<{ category: LocomoCategory; answer: string; reference: string; score: string; why: string }[]>('locomo');
  for (const c of cases)
    it(`category ${c.category}, "${c.answer}" for "${c.reference}": ${c.why}`, () => {
      near(scoreLocomo(c.category, c.answer, c.reference), fraction(c.score), 'score');
    });

  it('lie between 0 and 1 in every category', () => {
    fc.assert(
      fc.property(fc.constantFrom(...CATEGORIES), answers, answers, (category, answer, reference) => {
        const score = scoreLocomo(category, answer, reference);
        assert.ok(score >= 0 && score <= 1);
      }),
    );
  });

  it('are the same both ways and in all of categories 1 to 4 where neither comma nor semicolon is', () => {
    fc.assert(
      fc.property(plain, plain, (one, other) => {
        const [a, b] = [one.join(' '), other.join(' ')];
        const score = scoreLocomo(4, a, b);
        near(score, scoreLocomo(4, b, a), 'both ways');
        near(score, f1(a, b), 'as plain F1 for words that are their own stems');
        for (const category of [1, 2, 3] as const) near(scoreLocomo(category, a, b), score, `category ${category}`);
      }),
    );
  });

  it('never fall in category 1 when one more answer is given', () => {
    fc.assert(
      fc.property(answers, answers, answers, (one, more, reference) => {
        assert.ok(scoreLocomo(1, `${one},${more}`, reference) >= scoreLocomo(1, one, reference) - 1e-12);
      }),
    );
  });
});

describe('an adversarial question', () => {
  const wrong = 'self-care is important';
  const ask = (i: number, seed = 0) => adversarialChoice(`What did Ann say of ${i}?`, wrong, seed);
  const rightFirst = (i: number, seed = 0) => ask(i, seed).question.includes('(a) Not mentioned');
  const numbers = Array.from({ length: 400 }, (_, i) => i);

  it('offers the wrong answer and that there is none, in either order about as often', () => {
    const first = numbers.filter((i) => rightFirst(i)).length;
    assert.ok(first > 150 && first < 250, `${first} of 400`);
    const [i, j] = [numbers.find((n) => rightFirst(n))!, numbers.find((n) => !rightFirst(n))!];
    const choose = 'Select the correct answer:';
    assert.equal(
      ask(i).question,
      `What did Ann say of ${i}? ${choose} (a) Not mentioned in the conversation (b) ${wrong}. `,
    );
    assert.equal(
      ask(j).question,
      `What did Ann say of ${j}? ${choose} (a) ${wrong} (b) Not mentioned in the conversation. `,
    );
  });

  it('is asked in the same order with the same seed, and with another in another for some', () => {
    assert.deepEqual(
      numbers.map((i) => rightFirst(i, 7)),
      numbers.map((i) => rightFirst(i, 7)),
    );
    assert.notDeepEqual(
      numbers.map((i) => rightFirst(i, 7)),
      numbers.map((i) => rightFirst(i, 8)),
    );
  });

  it('takes a bare letter for the choice, and everything longer as it is said', () => {
    const right = ask(numbers.find((i) => rightFirst(i))!);
    const score = (reply: string) => scoreLocomo(5, right.answerOf(reply), '');
    assert.deepEqual(['a', ' A\n', '(a)', '(A)'].map(score), [1, 1, 1, 1]);
    for (const reply of ['b', '(b)', 'c', '😀', 'xyz']) assert.equal(right.answerOf(reply), wrong, reply);
    for (const reply of ['(a).', 'a)', '(a) yes', '']) assert.equal(right.answerOf(reply), reply);
    assert.equal(right.answerOf('(a) Not mentioned in the conversation'), '(a) not mentioned in the conversation');
    assert.equal(score('(b) Not mentioned in the conversation'), 1);
    const left = ask(numbers.find((i) => !rightFirst(i))!);
    assert.equal(left.answerOf('a'), wrong);
    assert.equal(left.answerOf('b'), 'Not mentioned in the conversation');
  });
});

describe('the stem', () => {
  for (const c of table<{ word: string; stem: string; why: string }[]>('stems'))
    it(`of ${c.word} is ${c.stem}: ${c.why}`, () => assert.equal(stem(c.word), c.stem));

  it('is never longer than the word, and never empty', () => {
    const letters = fc.string({ unit: fc.constantFrom(...'aeioybdlnstz'), minLength: 1, maxLength: 6 });
    const endings = fc.constantFrom(
      '',
      's',
      'ies',
      'ed',
      'ing',
      'ally',
      'ational',
      'fully',
      'ness',
      'ement',
      'ion',
      'ize',
    );
    fc.assert(
      fc.property(letters, endings, endings, (beginning, middle, end) => {
        const word = beginning + middle + end;
        const { length } = stem(word);
        assert.ok(length > 0 && length <= word.length, `${word}: ${stem(word)}`);
      }),
    );
  });
});

describe('LongMemEval', () => {
  const { prompts, replies } = table<{
    prompts: { type: string; id: string; sha256: string; why: string }[];
    replies: { reply: string; right: boolean; why: string }[];
  }>('longmemeval');
  const asked = { question: 'How many {}?', reference: '18 days', answer: 'It was $& 19 days.' };

  for (const { type, id, sha256, why } of prompts)
    it(`asks of ${type} ${id} in the original's words: ${why}`, () => {
      const prompt = judgePrompt({ type, id, ...asked });
      assert.equal(createHash('sha256').update(prompt).digest('hex'), sha256, prompt);
    });

  for (const { reply, right, why } of replies)
    it(`takes "${reply}" for ${right ? 'right' : 'wrong'}: ${why}`, () => assert.equal(judgedRight(reply), right));

  it('refuses a type that there is none of, unless the question cannot be answered', () => {
    assert.throws(() => judgePrompt({ type: 'odd', id: 'q7', ...asked }), {
      code: 'usage',
      message: /q7 .*"odd".*multi-session/,
    });
    assert.match(judgePrompt({ type: 'odd', id: 'q7_abs', ...asked }), /unanswerable/);
  });
});

describe("several questions' answers in one block", () => {
  const cases = table<{ text: string; references: string[][]; em: number; f1: string; why: string }[]>('search');
  for (const c of cases)
    it(`${JSON.stringify(c.text)} for ${JSON.stringify(c.references)}: ${c.why}`, () => {
      const score = scoreAnswers(c.text, c.references);
      assert.equal(score.em, c.em);
      near(score.f1, fraction(c.f1), 'F1');
    });

  it('are found in the last block, one for each semicolon and one more', () => {
    assert.equal(answerBlock('one <answer>a</answer> two <answer> B; c </answer> end'), 'B; c');
    assert.equal(answerBlock('nothing'), null);
    assert.deepEqual(splitAnswers('B;  c d ;'), ['B', 'c d', '']);
    assert.deepEqual(splitAnswers(''), ['']);
  });

  it('sum up to the number of questions when all are right, and to nothing when one is missing', () => {
    fc.assert(
      fc.property(fc.array(plain, { minLength: 1, maxLength: 6 }), (wanted) => {
        const all = wanted.map((answer) => answer.join(' '));
        const block = (given: string[]) => `<answer>${given.join('; ')}</answer>`;
        const references = all.map((answer) => ['something else', answer]);
        const { em, f1: sum } = scoreAnswers(block(all), references);
        assert.equal(em, all.length);
        near(sum, all.length, 'F1');
        assert.deepEqual(scoreAnswers(block([...all, 'more']), references), { em: 0, f1: 0 });
        if (all.length > 1) assert.deepEqual(scoreAnswers(block(all.slice(1)), references), { em: 0, f1: 0 });
      }),
    );
  });
});

describe('CL-bench', () => {
  const cases = table<{ reply: string; met: boolean[] | null; counts: boolean; why: string }[]>('clbench');
  for (const c of cases)
    it(`${c.counts ? 'counts' : 'does not count'} ${JSON.stringify(c.reply)}: ${c.why}`, () => {
      const verdict = parseVerdict(c.reply);
      assert.deepEqual(verdict?.met ?? null, c.met);
      assert.equal(allMet(verdict), c.counts);
    });

  it('does not count what could not be judged', () => assert.equal(allMet(null), false));

  it('keeps the reasons of a verdict', () => {
    assert.equal(parseVerdict('{"Grading Rationale": "It is short.", "Overall Score": 0}')!.rationale, 'It is short.');
  });

  it('shows the judge the answer and the rubrics, numbered as they stand without the empty ones, and says the rule', () => {
    const prompt = rubricPrompt({ rubrics: [' Names the king. ', '  ', 'Costs $& at most.'], answer: 'It is {Ann}.' });
    assert.match(prompt, /\nRubrics:\n1\. Names the king\.\n3\. Costs \$& at most\.\n/);
    assert.match(prompt, /answer:\nIt is \{Ann\}\.\n/);
    assert.match(prompt, /0 if it fails even one/);
    for (const key of ['Grading Rationale', 'List of Requirement Satisfaction Status', 'Overall Score'])
      assert.ok(prompt.includes(`"${key}":`), key);
    assert.match(rubricPrompt({ rubrics: [], answer: 'x' }), /No specific rubrics provided\./);
  });
});
