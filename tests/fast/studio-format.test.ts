/** What the studio shows in words, Markdown, and the loss curve. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { lossCurve } from '../../src/studio/curve.ts';
import {
  droppedInWords,
  duration,
  leaning,
  parsePairs,
  sessionNameFault,
  verdictInWords,
  when,
} from '../../src/studio/format.ts';
import { type Block, type Inline, parseInline, parseMarkdown } from '../../src/studio/markdown.ts';
import { matches } from '../../src/studio/search.ts';

test('times are told in the unit that one would say', () => {
  assert.deepEqual([0, 840, 999.6, 12_400, 59_960, 152_000, 3_599_600, 3_900_000].map(duration), [
    ...['0 ms', '840 ms', '1.0 s', '12.4 s', '1 min 0 s', '2 min 32 s', '1 h 0 min', '1 h 5 min'],
  ]);
});

test('a time that is no date stands as it was said', () => {
  assert.equal(when('last Tuesday'), 'last Tuesday');
  assert.equal(when('2025'), '2025');
  assert.match(when('2025-03-08', new Date('2026-01-01')), /2025/);
  assert.doesNotMatch(when('2025-03-08T12:00', new Date('2025-06-01')), /2025/);
});

test('a verdict is told in sentences, with the reason of a refusal', () => {
  const parts = { pairs: { length: 28 }, recalled: 27 };
  assert.match(verdictInWords({ ...parts, verdict: 'committed' }), /27 of 28 facts/);
  assert.match(verdictInWords({ ...parts, verdict: 'committed', consolidated: { pairs: ['a'] } }), /27 of 1 fact\./);
  assert.match(
    verdictInWords({ ...parts, verdict: 'refused', reason: 'loss diverged' }),
    /^Refused: loss diverged\. .*notes/,
  );
  assert.match(verdictInWords({ ...parts, verdict: 'empty' }), /Nothing/);
  assert.equal(droppedInWords({ duplicate: 2, vague: 0, newest: 1 }), '2 said already, 1 newest');
  assert.deepEqual([null, 2, 0.5, 0, -1].map(leaning).length, 5);
  assert.notEqual(leaning(2), leaning(0.1));
});

test('session names are checked as the server does', () => {
  for (const name of ['a', 'A-1_b.c', 'x'.repeat(64)]) assert.equal(sessionNameFault(name), null);
  for (const name of ['', '-a', 'a b', 'a/b', 'ü', 'a.', 'x'.repeat(65)]) assert.ok(sessionNameFault(name), name);
  assert.match(sessionNameFault('a', ['a'])!, /already/);
});

test('pairs to import are lines or an array of JSON, and a fault names its place', () => {
  const pairs = [
    { instruction: 'Which port?', output: '8417' },
    { instruction: 'Who?', output: 'Ann' },
  ];
  assert.deepEqual(parsePairs(JSON.stringify(pairs, null, 2)), pairs);
  assert.deepEqual(parsePairs(`\n${pairs.map((pair) => JSON.stringify({ ...pair, id: 1 })).join('\r\n\n')}\n`), pairs);
  assert.throws(() => parsePairs(`${JSON.stringify(pairs[0])}\nnot json`), /Line 2/);
  assert.throws(() => parsePairs('[{"instruction": "Who?", "output": " "}]'), /Entry 1/);
  assert.throws(() => parsePairs('null'), /Entry 1/);
});

test('a search finds all of its words anywhere, whatever their case and accents', () => {
  const pair = { instruction: 'Where will Theo fly?', output: 'To Reykjavík.', source: 'in May' };
  for (const query of ['', 'reykjavik', 'THEO may', '  fly ']) assert.equal(matches(pair, query), true, query);
  assert.equal(matches(pair, 'theo june'), false);
});

const textOf = (parts: readonly Inline[]) => parts.map(({ text }) => text).join('');
const blockText = (block: Block): string =>
  block.type === 'code' ? block.text : block.type === 'list' ? block.items.map(textOf).join('\n') : textOf(block.text);

test('Markdown of models becomes blocks', () => {
  const text =
    '# Title\nOne *two* **three** `four`\n\n- a\n- b\n1. c\n> d\n```js\nx\n\n* y\n```\nsee [docs](https://a.b/c)';
  assert.deepEqual(
    parseMarkdown(text).map((block) => [block.type, blockText(block)]),
    [
      ['heading', 'Title'],
      ['paragraph', 'One two three four'],
      ['list', 'a\nb'],
      ['list', 'c'],
      ['quote', 'd'],
      ['code', 'x\n\n* y'],
      ['paragraph', 'see docs'],
    ],
  );
  assert.deepEqual(parseMarkdown('```\nnot closed yet').map(blockText), ['not closed yet']);
});

test('only links to the web are links, and what is no emphasis stays as it is', () => {
  for (const text of ['[x](javascript:alert(1))', '2 * 3 * 4', 'a ** b', 'snake_case_name', '`open'])
    assert.deepEqual(parseInline(text), [{ type: 'text', text }]);
});

test('no word is lost by the reading of Markdown', () => {
  const piece = fc.constantFrom(
    'word',
    ' ',
    '\n',
    '*',
    '**',
    '`',
    '```',
    '# ',
    '- ',
    '1. ',
    '> ',
    '[',
    '](https://x.y)',
    'two',
  );
  fc.assert(
    fc.property(fc.array(piece, { maxLength: 40 }), (pieces) => {
      const source = pieces.join('');
      const words = (text: string) => text.match(/word|two/g) ?? [];
      // What stands behind a fence names the language.
      const read = words(source.replace(/^\s*```.*$/gm, ''));
      assert.deepEqual(words(parseMarkdown(source).map(blockText).join('\n')), read);
    }),
  );
});

test('the loss curve stays in its box, begins at the left and reaches the right side with the last step', () => {
  const box = { width: 320, height: 96 };
  const loss = fc.oneof(
    fc.double({ min: 0, max: 1e6, noNaN: true }),
    fc.constantFrom(null, Number.NaN, Number.POSITIVE_INFINITY),
  );
  fc.assert(
    fc.property(fc.array(loss, { maxLength: 30 }), fc.nat(40), (values, steps) => {
      const { path, end } = lossCurve(values, steps, box);
      const points = [...path.matchAll(/[ML]([\d.]+) ([\d.]+)/g)].map(([, x, y]) => [Number(x), Number(y)] as const);
      assert.equal(points.length, values.filter(Number.isFinite).length);
      for (const [x, y] of points) assert.ok(x >= 0 && x <= 320 && y >= 0 && y <= 96, path);
      assert.deepEqual(points.at(-1) ?? null, end);
      assert.equal(path === '' || path.startsWith('M'), true);
    }),
  );
  assert.equal(lossCurve([2, 1, 0], 3, box).path, 'M0 0L160 48L320 96');
  assert.equal(lossCurve([2, null, 1], 3, box).path, 'M0 0M320 48', 'a gap where the loss was not finite');
});
