/** Which pairs hold, which took whose place, and what is wrong with pairs. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import {
  contradictions,
  ends,
  notRecalled,
  questionKey,
  standingPairs,
  supersededBy,
  unsupported,
} from '../../src/memory/ledger.ts';
import type { Pair, WriteRecord } from '../../src/memory/types.ts';

let ids = 0;
function pair(instruction: string, output: string, source = output): Pair {
  return { id: `p${++ids}`, instruction, output, source, turn: 0, origin: 'user' };
}
function write(pairs: Pair[], more: Partial<WriteRecord> = {}): WriteRecord {
  const time = new Date(ids * 1000).toISOString();
  return { id: `w${++ids}`, time, pairs, recipe: 'x', verdict: 'committed', loss: [], recalled: 0, ms: 0, ...more };
}
const ids_ = (pairs: readonly Pair[]) => pairs.map(({ id }) => id);

describe('the key of a question', () => {
  it('is the same for "of" and the possessive', () => {
    for (const [one, other] of [
      ['What is the job of Ann Lee?', "What is Ann Lee's job?"],
      ["What is the name of Theo's boat?", 'What is Theo’s boat called?'],
      ['what is  THE capital of France', "What is France's capital?"],
    ])
      assert.equal(questionKey(one!), questionKey(other!));
  });

  it('tells apart who does what to whom, and what is asked for', () => {
    const keys = [
      'What did Ann give Bob?',
      'What did Bob give Ann?',
      'When did Ann give Bob a boat?',
      'Where does Ann live?',
      'Who does Ann live with?',
      'What is the job of Ann?',
      'What is the job of Anna?',
    ].map(questionKey);
    assert.equal(new Set(keys).size, keys.length);
  });

  it('is never empty where there is a word', () => {
    fc.assert(fc.property(fc.stringMatching(/^[a-z]{1,8}( [a-z]{1,8}){0,5}\\?$/), (q) => questionKey(q) !== ''));
  });
});

describe('a newer answer', () => {
  const old = pair('What is the job of Ann?', 'Ann is a baker.');
  const other = pair('Where does Ann live?', 'Ann lives in Ghent.');
  const newer = pair("What is Ann's job?", 'Ann is a pilot.');

  it('takes the place of the older one, which has an end', () => {
    const writes = [write([old, other])];
    assert.deepEqual(supersededBy(writes, [newer]), [{ pair: old.id, by: newer.id }]);
    const second = write([newer], { superseded: supersededBy(writes, [newer]) });
    const all = [...writes, second];
    assert.deepEqual(ids_(standingPairs(all)).sort(), [newer.id, other.id].sort());
    assert.deepEqual([...ends(all)], [[old.id, { time: second.time, by: newer.id }]]);
    assert.deepEqual(ids_(standingPairs(writes, [newer])), [other.id]);
  });

  it('that says the same ends nothing', () => {
    assert.deepEqual(supersededBy([write([old])], [pair("What is Ann's job?", 'a baker')]), []);
  });

  it('of a refused write changes nothing', () => {
    const refused = write([newer], { verdict: 'refused', superseded: [{ pair: old.id, by: newer.id }] });
    assert.deepEqual(ids_(standingPairs([write([old]), refused])), [old.id]);
    assert.equal(ends([refused]).size, 0);
  });

  it('ends only the one that stands', () => {
    const third = pair('What is the job of Ann?', 'Ann is a nurse.');
    const writes = [write([old]), write([newer], { superseded: [{ pair: old.id, by: newer.id }] })];
    assert.deepEqual(supersededBy(writes, [third]), [{ pair: newer.id, by: third.id }]);
  });
});

describe('flaws', () => {
  it('are two answers to one question', () => {
    const [a, b] = [pair('What is the job of Ann?', 'baker'), pair("What is Ann's job?", 'pilot')];
    assert.deepEqual(contradictions([a, pair('Where?', 'here'), b]), [[a, b]]);
    assert.deepEqual(contradictions([a, pair('What is the job of Ann?', 'a baker')]), []);
  });

  it('are answers that the source does not give', () => {
    const wrong = pair('What is the job of Ann?', 'Ann is a pilot.', 'Ann is a baker.');
    const dated = pair('When did Ann come?', 'Ann came on 3 June.', 'I came yesterday, on 3 June!');
    assert.deepEqual(unsupported([wrong, dated]), [wrong]);
  });

  it('are pairs that are not recalled', () => {
    const [a, b] = [pair('one?', '1'), pair('two?', '2')];
    const asked = (p: Pair, ok: boolean, kind: 'pair' | 'paraphrase' = 'pair') => ({
      ...{ kind, pair: p.id, question: p.instruction, answer: '', ok },
    });
    const record = write([a, b], { quiz: [asked(a, true), asked(b, false), asked(a, false, 'paraphrase')] });
    assert.deepEqual(notRecalled(record), [b]);
    assert.deepEqual(notRecalled(write([a])), []);
  });
});
