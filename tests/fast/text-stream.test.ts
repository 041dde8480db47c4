import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { TextStream } from '../../src/engine/llama/text-stream.ts';

/** Text of few letters, so that stop strings occur and half occur in it; some are of more than one byte. */
const letters = fc.constantFrom('a', 'b', 'é', '🙂');
const texts = fc.array(letters, { maxLength: 30 }).map((list) => list.join(''));
const stopLists = fc.array(
  fc.array(letters, { minLength: 1, maxLength: 4 }).map((list) => list.join('')),
  { maxLength: 3 },
);
const cutsIn = fc.array(fc.nat({ max: 200 }), { maxLength: 12 });

function chunks(bytes: Uint8Array, cuts: readonly number[]): Uint8Array[] {
  const at = [...new Set([0, ...cuts.map((cut) => cut % (bytes.length + 1)), bytes.length])].sort((a, b) => a - b);
  return at.slice(1).map((end, i) => bytes.subarray(at[i], end));
}

function read(text: string, stops: readonly string[], cuts: readonly number[]) {
  const stream = new TextStream(stops);
  let out = '';
  for (const part of chunks(new TextEncoder().encode(text), cuts)) out += stream.push(part);
  return { stream, given: out, all: out + stream.end() };
}

describe('TextStream', () => {
  it('gives the text up to the first stop string, however it is cut into chunks', () => {
    fc.assert(
      fc.property(texts, stopLists, cutsIn, (text, stops, cuts) => {
        // The first stop string to be complete ends the text; of several, the longest.
        const ends = stops
          .filter((stop) => text.includes(stop))
          .map((stop) => ({ from: text.indexOf(stop), to: text.indexOf(stop) + stop.length }));
        const to = Math.min(...ends.map((end) => end.to));
        const expected = text.slice(0, Math.min(...ends.filter((end) => end.to === to).map((end) => end.from)));
        const { stream, all } = read(text, stops, cuts);
        assert.equal(all, expected);
        assert.equal(stream.stopped, ends.length > 0);
        assert.equal(stream.text, all);
      }),
      { numRuns: 2000 },
    );
  });

  it('never gives out what turns out to be part of a stop string', () => {
    fc.assert(
      fc.property(texts, stopLists, cutsIn, (text, stops, cuts) => {
        const { all } = read(text, stops, cuts);
        assert.ok(stops.every((s) => !all.includes(s)));
        assert.ok(text.startsWith(all));
      }),
      { numRuns: 2000 },
    );
  });

  it('holds back no more than a possible beginning of a stop string', () => {
    const stream = new TextStream(['</end>']);
    const push = (text: string) => stream.push(new TextEncoder().encode(text));
    assert.equal(push('one '), 'one ');
    assert.equal(push('two </e'), 'two ');
    assert.equal(push('m>'), '</em>');
    assert.equal(push('three</end> four'), 'three');
    assert.equal(push('five'), '');
    assert.equal(stream.end(), '');
    assert.equal(stream.text, 'one two </em>three');
  });

  it('gives whole characters only, and an incomplete one at the end as the replacement character', () => {
    const bytes = new TextEncoder().encode('🙂é');
    const stream = new TextStream();
    assert.deepEqual(
      Array.from(bytes, (byte) => stream.push(Uint8Array.of(byte))),
      ['', '', '', '🙂', '', 'é'],
    );
    const broken = new TextStream(['x']);
    assert.equal(broken.push(bytes.subarray(0, 2)) + broken.end(), '\ufffd');
  });

  it('ignores empty stop strings', () => {
    assert.equal(read('abc', ['', 'c'], [1]).all, 'ab');
    assert.equal(read('abc', [''], []).all, 'abc');
  });
});
