import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { accepts, holds, normalise, recalls } from '../../src/memory/recall.ts';

const phrases = fc.array(fc.constantFrom('Blue', 'heron', 'the', 'of', '14', 'März', 'x-ray', 'is'), { minLength: 1 });

describe('normalise', () => {
  it('leaves lower-case words between single spaces', () => {
    assert.equal(normalise('  The “Blue”, Heron!\n'), 'the blue heron');
    assert.equal(normalise('Café, März: 1.850'), 'cafe marz 1 850');
    fc.assert(
      fc.property(fc.string(), (text) => {
        const once = normalise(text);
        assert.equal(normalise(once), once);
        assert.equal(once, once.trim());
        assert.ok(!/ {2}/.test(once));
      }),
    );
  });
});

describe('holds', () => {
  it('finds the expected words in order, whatever stands around and between them', () => {
    assert.ok(holds('The boat is called Blue Heron, I think.', 'blue heron'));
    assert.ok(holds('She lives at the house on the hill', 'house, hill'));
    assert.ok(holds('on March 14', 'March the 14'));
    assert.ok(!holds('heron blue', 'blue heron'));
    assert.ok(!holds('blue and grey heron', 'blue heron'));
  });

  it('does not take a part of a word or number', () => {
    assert.ok(!holds('port 84170', '8417'));
    assert.ok(!holds('a catalogue', 'cat'));
    assert.ok(!holds('', 'cat'));
  });

  it('compares words as they are when the expected text has only small ones', () => {
    assert.ok(holds('It is on', 'on'));
    assert.ok(!holds('It is off', 'on'));
  });

  it('finds any text in itself, between anything', () => {
    fc.assert(
      fc.property(phrases, phrases, phrases, (before, text, after) => {
        const expected = text.join(' ');
        const meaningful = text.some((word) => !['the', 'of', 'is'].includes(word));
        fc.pre(meaningful);
        assert.ok(holds([...before, ...text, ...after].join(' '), expected));
      }),
    );
  });
});

describe('accepts', () => {
  it('takes the answer or any accepted beside it', () => {
    assert.ok(accepts('in the tin', { answer: 'a box', accept: ['a tin', 'a can'] }));
    assert.ok(accepts('in a box', { answer: 'box' }));
    assert.ok(!accepts('in a bag', { answer: 'box', accept: ['tin'] }));
  });
});

describe('recalls', () => {
  const pair = {
    instruction: 'Which port does the staging server listen on?',
    output: 'The staging server listens on port 8417.',
  };

  it('asks for what the output adds to the question', () => {
    assert.ok(recalls('It listens on 8417.', pair));
    assert.ok(!recalls('The staging server listens on port 80.', pair));
    assert.ok(!recalls('The staging server, on a port.', pair));
    assert.ok(!recalls('', pair));
  });

  it('is content with two thirds of it', () => {
    const three = { instruction: 'What grows there?', output: 'Quince, plum, cherry.' };
    assert.ok(recalls('plum and quince', three));
    assert.ok(!recalls('plum', three));
  });

  it('asks for the whole output when that only repeats the question', () => {
    const echo = { instruction: 'Is the ferry red?', output: 'Red ferry' };
    assert.ok(recalls('a red ferry', echo));
    assert.ok(!recalls('yes', echo));
  });
});
