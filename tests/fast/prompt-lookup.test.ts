/** Prompt lookup changes how fast tokens come, never which. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { PromptLookup } from '../../src/engine/llama/prompt-lookup.ts';
import { loadNative } from '../../src/engine/native/library.ts';
import { complete, type Engine, type GenerateRequest, type Token } from '../../src/engine/types.ts';
import { openTiny } from '../support/engine-fixture.ts';

const tokens = (text: string) => Array.from(text, (c) => c.charCodeAt(0) as Token);
const text = (draft: readonly Token[]) => String.fromCharCode(...draft);

describe('a draft', () => {
  it('is what followed the longest run of last tokens that occurred before, the latest of them', () => {
    const lookup = new PromptLookup();
    lookup.observe(50, 50);
    const draft = (s: string, limit = 3) => text(lookup.draft(tokens(s), 0, limit));
    assert.equal(draft('the cat sat. the cat'), ' sa');
    assert.equal(draft('xat1 cat2 at'), '2 a');
    assert.equal(draft('ab1ab2ab'), '2ab');
    assert.equal(draft('ab1ab2ab', 1), '2');
    assert.equal(draft('abcdef'), '');
    assert.equal(draft('a'), '');
    assert.equal(draft(''), '');
    assert.equal(draft('aaaa'), 'a');
  });

  it('continues any text that repeats itself', () => {
    fc.assert(
      fc.property(fc.uniqueArray(fc.nat(1000), { minLength: 12, maxLength: 40 }), fc.nat(5), (unit, cut) => {
        const repeated = [...unit, ...unit.slice(0, 4 + cut)] as Token[];
        const draft = new PromptLookup().draft(repeated, 0, 8);
        assert.ok(draft.length > 0);
        assert.deepEqual(draft, unit.slice(4 + cut, 4 + cut + draft.length));
      }),
    );
  });

  it('is the shorter the more others are decoded beside it and the more often it was wrong', () => {
    const length = (lookup: PromptLookup, others: number) =>
      lookup.draft(tokens('abcdefghijklmn abcd'), others, 99).length;
    const lookup = new PromptLookup();
    assert.ok(length(lookup, 0) > length(lookup, 8));
    lookup.observe(0, 20);
    assert.equal(length(lookup, 0), 0);
    const trusted = new PromptLookup();
    trusted.observe(50, 50);
    assert.ok(length(trusted, 8) > length(new PromptLookup(), 8));
  });
});

/** What is generated, and in how many steps. */
async function run(engine: Engine, requests: readonly GenerateRequest[]) {
  const native = loadNative();
  const { decode } = native;
  let steps = 0;
  native.decode = (...args) => {
    steps++;
    return decode(...args);
  };
  try {
    const done = await Promise.all(requests.map((request) => complete(engine, request)));
    return { steps, answers: done.map(({ text, finish, outputTokens }) => ({ text, finish, outputTokens })) };
  } finally {
    native.decode = decode;
  }
}

describe('generation with lookup', () => {
  const prompt = 'the rain in the train on the rain in the train on the rain in the';
  const schema = { type: 'object', properties: { a: { type: 'string', maxLength: 9 } }, required: ['a'] };
  const variants: readonly [string, Partial<GenerateRequest>][] = [
    ['greedily', {}],
    ['with a seed', { temperature: 0.7, topK: 20, seed: 3 }],
    ['with repetition control', { dry: { multiplier: 0.8 } }],
    ['under a schema', { schema }],
    ['up to a stop string', { stop: ['e'] }],
  ];
  for (const architecture of ['llama', 'gemma3'] as const) {
    for (const [how, options] of variants) {
      it(`gives the same ${how} (${architecture})`, async () => {
        const engine = await openTiny({ architecture, window: 24 });
        const requests = [prompt, `${prompt} of`, 'who'].map((p) => ({ prompt: p, maxTokens: 40, ...options }));
        const plain = await run(engine, requests);
        const lookedUp = await run(
          engine,
          requests.map((r) => ({ ...r, lookup: true })),
        );
        assert.deepEqual(lookedUp.answers, plain.answers);
        // What was rolled back is not found in the cache by the next request.
        assert.deepEqual((await run(engine, requests)).answers, plain.answers);
      });
    }
  }

  it('takes fewer steps where the answer repeats itself', async () => {
    const engine = await openTiny({ architecture: 'llama' });
    const request = { prompt, maxTokens: 120 };
    const plain = await run(engine, [request]);
    const lookedUp = await run(engine, [{ ...request, lookup: true }]);
    assert.deepEqual(lookedUp.answers, plain.answers);
    assert.ok(lookedUp.steps < 0.8 * plain.steps, `${lookedUp.steps} of ${plain.steps} steps`);
  });
});
