import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { parseExtraction, parseLenient } from '../../src/agent/parse.ts';

/** Without the prototypes, which the lenient reader's objects lack. */
const plain = (value: unknown) => (value === undefined ? undefined : JSON.parse(JSON.stringify(value)));

const pair = (n: number) => ({ output: `answer ${n}`, instruction: `question ${n}?` });

test('reads every JSON object and array as JSON.parse does, also pretty-printed', () => {
  const structure = fc.oneof(fc.dictionary(fc.string(), fc.jsonValue()), fc.array(fc.jsonValue()));
  fc.assert(
    fc.property(structure, fc.constantFrom(0, 2), (value, indent) => {
      const text = JSON.stringify(value, null, indent);
      assert.deepEqual(plain(parseLenient(text)), JSON.parse(text));
    }),
  );
});

test('never throws, whatever the text is', () => {
  fc.assert(
    fc.property(fc.string({ unit: fc.constantFrom(...'{}[]",:\\u00ab1 \n-t') }), (s) => void parseExtraction(s)),
  );
  fc.assert(fc.property(fc.string(), (s) => void parseExtraction(`{"pairs": [${s}`)));
  assert.doesNotThrow(() => parseExtraction('['.repeat(100_000)));
  assert.deepEqual(parseLenient('[007, -00.5, 1e999,\n'), [7, -0.5, Number.POSITIVE_INFINITY]);
});

test('of an answer that is cut off anywhere, exactly the complete pairs are kept', () => {
  const pairs = [pair(1), pair(2), pair(3)];
  const text = JSON.stringify({ pairs });
  fc.assert(
    fc.property(fc.integer({ min: 0, max: text.length }), (length) => {
      const kept = parseExtraction(text.slice(0, length))?.pairs.filter((p) => p.instruction && p.output) ?? [];
      const complete = pairs
        .filter((p) => text.slice(0, length).includes(`${p.instruction}"`))
        .map(({ instruction, output }) => ({ instruction, output, source: '' }));
      assert.deepEqual(kept, complete);
    }),
  );
});

test('reads fences, prose, trailing commas, raw newlines, other names and bare lists', () => {
  const body = `{"memory": "note", "pairs": [{"instruction": "q?", "output": "a", "source": "s"},],}`;
  const expected = { memory: 'note', pairs: [{ instruction: 'q?', output: 'a', source: 's' }] };
  for (const text of [body, `Here {it} is:\n\`\`\`json\n${body}\n\`\`\`\nDone.`, `<think>{"pairs": []}</think>${body}`])
    assert.deepEqual(parseExtraction(text), expected, text);
  assert.deepEqual(parseExtraction('[{"question": "q?", "answer": 7, "quote": "a\nb"}]'), {
    memory: '',
    pairs: [{ instruction: 'q?', output: '7', source: 'a\nb' }],
  });
});

test('no extraction at all is null; an empty list is not', () => {
  for (const text of ['', 'I cannot do that.', '{"answer": 1}', '[1, 2]', 'null'])
    assert.equal(parseExtraction(text), null, text);
  assert.deepEqual(parseExtraction('{"memory": "", "pairs": []}'), { memory: '', pairs: [] });
});
