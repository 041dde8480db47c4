import assert from 'node:assert/strict';
import { test } from 'node:test';
import { asTheUserAsks } from '../../src/agent/person.ts';
import { questionKey } from '../../src/memory/ledger.ts';

const CASES: readonly (readonly [string, string, string, string])[] = [
  [
    "What is the name of the user's kitten?",
    "The user's kitten is called Marzipan.",
    'What is the name of my kitten?',
    'Your kitten is called Marzipan.',
  ],
  [
    'What is the user allergic to?',
    'The user is allergic to celery.',
    'What am I allergic to?',
    'You are allergic to celery.',
  ],
  [
    'What subject does the user teach?',
    'The user teaches chemistry.',
    'What subject do I teach?',
    'You teach chemistry.',
  ],
  [
    'Where is the user moving to?',
    'The user is moving to Trieste.',
    'Where am I moving to?',
    'You are moving to Trieste.',
  ],
  ['What did the user break?', 'The user broke their left wrist.', 'What did I break?', 'You broke your left wrist.'],
  [
    'Who gave the user a piano?',
    'Valentina gave the user a piano.',
    'Who gave me a piano?',
    'Valentina gave you a piano.',
  ],
  ['Who lives with the user?', 'Emil lives with the user.', 'Who lives with me?', 'Emil lives with you.'],
  [
    'How long has the user been in plaster?',
    'The user has been in plaster for a week.',
    'How long have I been in plaster?',
    'You have been in plaster for a week.',
  ],
  [
    'What does the user study?',
    'The user studies law and goes to Ghent.',
    'What do I study?',
    'You study law and goes to Ghent.',
  ],
  ['When was the user born?', 'The user was born in May.', 'When was I born?', 'You were born in May.'],
  ['What is the capital of France?', 'It is Paris.', 'What is the capital of France?', 'It is Paris.'],
];
for (const [instruction, output, asked, told] of CASES)
  test(`"${instruction}" is asked as "${asked}"`, () => {
    assert.deepEqual(asTheUserAsks({ instruction, output }), { instruction: asked, output: told });
  });

test('what something is called and what it does are two questions', () => {
  const keys = [
    'What is the name of the kitten?',
    'What did the kitten do?',
    'What is the kitten doing?',
    'Where is the kitten?',
  ];
  assert.equal(new Set(keys.map(questionKey)).size, keys.length);
  assert.equal(questionKey("What is the name of Ann's dog?"), questionKey("What is Ann's dog called?"));
});
