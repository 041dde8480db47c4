import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { extract } from '../../src/agent/extract.ts';
import { ScriptedEngine } from '../../src/engine/scripted.ts';
import { datesInstead, withDates, withoutDates } from '../../src/memory/dates.ts';
import { withoutPairs } from '../../src/memory/forget.ts';
import type { Pair } from '../../src/memory/types.ts';

/** A Thursday. */
const SAID = '2023-07-20T16:04';

for (const [said, dated] of [
  ['I lost my job yesterday, so I am free.', 'I lost my job yesterday [19 July 2023], so I am free.'],
  [
    'Last Friday I ran; two days ago I rested.',
    'Last Friday [Friday 14 July 2023] I ran; two days ago [18 July 2023] I rested.',
  ],
  ['We met last week.', 'We met last week [the week before 20 July 2023].'],
  ['Next week we move.', 'Next week [the week after 20 July 2023] we move.'],
  ['I sang last weekend!', 'I sang last weekend [the weekend before 20 July 2023]!'],
  ['The fair is next month.', 'The fair is next month [August 2023].'],
  ['She adopted a dog last year.', 'She adopted a dog last year [2022].'],
  ['I saw it three years ago.', 'I saw it three years ago [2020].'],
  ['It opened two weeks ago.', 'It opened two weeks ago [around 6 July 2023].'],
  ['The opening is tomorrow', 'The opening is tomorrow [21 July 2023]'],
] as const)
  test(`"${said}"`, () => assert.equal(withDates(said, SAID), dated));

for (const said of [
  'I got it a few years ago.',
  'I have been in Rome for two weeks.',
  'I may march on Sunday mornings.',
  'In 2019 we met on 3 May.',
  'Last time you were here, next to him, this was new.',
  'I ate five minutes ago.',
  'I sang yesterday [19 July 2023].',
  '',
])
  test(`nothing is added to "${said}"`, () => assert.equal(withDates(said, SAID), said));

for (const [said, dated] of [
  ['Jon lost his job yesterday.', 'Jon lost his job on 19 July 2023.'],
  ['Jon lost his job yesterday [19 July 2023].', 'Jon lost his job on 19 July 2023.'],
  ['Last Friday Jon ran.', 'On Friday 14 July 2023 Jon ran.'],
  ['Jon has been ill since last Friday.', 'Jon has been ill since Friday 14 July 2023.'],
  ['The fair is next month.', 'The fair is in August 2023.'],
  ['What did Ann do last week?', 'What did Ann do in the week before 20 July 2023?'],
  ['Ann sang on the last weekend.', 'Ann sang on the weekend before 20 July 2023.'],
  ['It opened two weeks ago.', 'It opened around 6 July 2023.'],
  ["Yesterday's bread is old.", "Yesterday's bread is old."],
  ['Jon lost his job on 19 July 2023.', 'Jon lost his job on 19 July 2023.'],
] as const)
  test(`"${said}" as a fact`, () => assert.equal(datesInstead(said, SAID), dated));

test('without a day nothing is known', () => {
  for (const time of [undefined, '', 'some day', '2023-13-40'])
    assert.equal(withDates('I sang yesterday.', time), 'I sang yesterday.');
});

test('the clock is that of who speaks', () => {
  assert.equal(withDates('Tomorrow!', '2023-12-31T23:59'), 'Tomorrow [1 January 2024]!');
  assert.equal(withDates('Yesterday!', '2024-03-01'), 'Yesterday [29 February 2024]!');
});

test('whatever is said, dates are added to it and nothing is taken away', () => {
  const words = fc.constantFrom(
    'yesterday',
    'last',
    'next',
    'week',
    'Friday',
    'in',
    '3',
    'days',
    'ago',
    'year',
    ',',
    '. ',
    '[',
    ']',
    'May',
    'I',
  );
  fc.assert(
    fc.property(
      fc.array(words).map((list) => list.join(' ')),
      fc.date({ noInvalidDate: true, min: new Date('1980-01-01'), max: new Date('2090-01-01') }),
      (text, day) => {
        const dated = withDates(text, day.toISOString().slice(0, 16));
        assert.equal(withoutDates(dated), text);
        assert.equal(withDates(dated, undefined), dated);
      },
    ),
  );
});

test('an extraction sees the date, its pairs quote it, and what is forgotten is found as it was said', async () => {
  const turn = {
    role: 'user',
    speaker: 'Jon',
    time: SAID,
    content: 'I lost my job yesterday. The sea is blue.',
  } as const;
  const engine = new ScriptedEngine({
    reply: () =>
      JSON.stringify({ pairs: [{ output: 'Jon lost his job yesterday.', instruction: 'When did Jon lose his job?' }] }),
  });
  const { pairs } = await extract(engine, [{ turn, index: 0 }]);
  assert.deepEqual(
    pairs.map(({ output, source }) => [output, source]),
    [['Jon lost his job on 19 July 2023.', 'I lost my job yesterday [19 July 2023].']],
  );
  assert.ok(engine.calls.some((call) => JSON.stringify(call).includes('yesterday [19 July 2023]. The sea')));

  const pair: Pair = {
    ...{ id: 'a1b2c3d4', instruction: 'When did Jon lose his job?', output: 'Jon lost it on 19 July 2023.' },
    ...{ source: 'I lost my job yesterday [19 July 2023].', turn: 0, origin: 'user' },
  };
  assert.equal(withoutPairs(turn.content, [pair]), 'The sea is blue.');
  assert.equal(withoutPairs('I lost my job yesterday [19 July 2023]. The sea is blue.', [pair]), 'The sea is blue.');
});
