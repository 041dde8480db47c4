/** Generation by the llama.cpp engine on a tiny random model: batching, KV reuse, sampling, stops, schemas, interruption. */
import assert from 'node:assert/strict';
import { before, describe, it } from 'node:test';
import type { LlamaEngine } from '../../src/engine/llama/engine.ts';
import {
  complete,
  type Engine,
  type GenerateEvent,
  type GenerateRequest,
  type JsonSchema,
} from '../../src/engine/types.ts';
import { openTiny, tinyWeights } from '../support/engine-fixture.ts';

const MODEL = { architecture: 'llama', seed: 2 } as const;
const text = async (engine: Engine, request: GenerateRequest) => (await complete(engine, request)).text;
/** Prompts of several lengths, some with a common beginning. */
const PROMPTS = Array.from({ length: 20 }, (_, i) =>
  i % 3 === 0 ? `number ${i} ${'on '.repeat(i)}` : `<|im_start|>user\nquestion ${i * 37} in there${'!'.repeat(i % 5)}`,
);

let engine: LlamaEngine;
before(async () => {
  engine = await openTiny(MODEL);
});

describe('many generations at once', () => {
  it('say what each says alone', async () => {
    const alone: string[] = [];
    for (const prompt of PROMPTS) alone.push(await text(await openTiny(MODEL), { prompt, maxTokens: 10 }));
    const fresh = await openTiny(MODEL);
    const together = await Promise.all(PROMPTS.map((prompt) => text(fresh, { prompt, maxTokens: 10 })));
    assert.deepEqual(together, alone);
    assert.ok(new Set(alone).size > 10, 'the answers differ');
    // In turn on one engine, with what the KV cache holds of the others.
    const inTurn: string[] = [];
    for (const prompt of PROMPTS.toReversed()) inTurn.unshift(await text(fresh, { prompt, maxTokens: 10 }));
    assert.deepEqual(inTurn, alone);
  });

  it('share a context that does not hold all of them at once', async () => {
    const small = await openTiny(MODEL, 128);
    const request = (prompt: string) => ({ prompt: prompt.slice(0, 60), maxTokens: 40 });
    const alone: string[] = [];
    for (const prompt of PROMPTS) alone.push(await text(small, request(prompt)));
    assert.deepEqual(await Promise.all(PROMPTS.map((prompt) => text(small, request(prompt)))), alone);
  });

  it('share the cells of a common beginning: the context holds it once', async () => {
    const beginning = 'on the train '.repeat(12);
    const prompts = PROMPTS.slice(0, 12).map((prompt, i) => (i % 4 === 3 ? prompt : beginning + prompt.slice(0, 12)));
    const size = Math.max(...(await Promise.all(prompts.map(async (p) => (await engine.tokenize(p)).length)))) + 8;
    const alone: string[] = [];
    for (const prompt of prompts) alone.push(await text(await openTiny(MODEL), { prompt, maxTokens: 8 }));
    const small = await openTiny(MODEL, 2 * size);
    let [running, most] = [0, 0];
    const counted = async (prompt: string) => {
      let said = '';
      for await (const event of small.generate({ prompt, maxTokens: 8 })) {
        if (event.type === 'done') said = event.text;
        else if (said === '') {
          most = Math.max(most, ++running);
          said = '…';
        }
      }
      running--;
      return said;
    };
    for (const order of [prompts, prompts.toReversed(), prompts]) {
      const said = await Promise.all(order.map(counted));
      assert.deepEqual(order === prompts ? said : said.toReversed(), alone);
    }
    assert.ok(most > 2, `${most} at once, where two of them without what they share fill the context`);
  });

  it('go with and without fast weights side by side', async () => {
    const e = await openTiny(MODEL);
    const request = (i: number, fastWeights: boolean) => ({ prompt: PROMPTS[i]!, maxTokens: 8, fastWeights });
    const plain = await Promise.all([0, 1, 2, 3].map((i) => text(e, request(i, true))));
    await e.setFastWeights(tinyWeights({ layers: 2, seed: 3, b: 0.3 }));
    const adapted: string[] = [];
    for (const i of [0, 1, 2, 3]) adapted.push(await text(e, request(i, true)));
    assert.notDeepEqual(adapted, plain);
    const mixed = await Promise.all(
      [0, 1, 2, 3].flatMap((i) => [text(e, request(i, true)), text(e, request(i, false))]),
    );
    assert.deepEqual(
      mixed.filter((_, i) => i % 2 === 0),
      adapted,
    );
    assert.deepEqual(
      mixed.filter((_, i) => i % 2 === 1),
      plain,
    );
    await e.setFastWeights(null);
    assert.deepEqual(await Promise.all([0, 1, 2, 3].map((i) => text(e, request(i, true)))), plain);
  });

  it('finish under the weights that they began with', async () => {
    const e = await openTiny(MODEL);
    const request = { prompt: PROMPTS[1]!, maxTokens: 30 };
    const plain = await text(e, request);
    const running = text(e, request);
    const swap = e.setFastWeights(tinyWeights({ layers: 2, seed: 3, b: 0.3 }));
    assert.equal(await running, plain);
    await swap;
    assert.notEqual(await text(e, request), plain);
  });
});

describe('the KV cache', () => {
  it('keeps a common beginning, and changes nothing', async () => {
    const e = await openTiny(MODEL);
    const shared = `${'a long beginning of a conversation on the train '.repeat(3)}`;
    const first = await complete(e, { prompt: shared, maxTokens: 8 });
    assert.equal(first.cachedTokens, 0);
    const again = await complete(e, { prompt: shared, maxTokens: 8 });
    assert.equal(again.cachedTokens, again.promptTokens - 1);
    assert.equal(again.text, first.text);
    const longer = { prompt: `${shared} and then?`, maxTokens: 8 };
    const reused = await complete(e, longer);
    assert.ok(reused.cachedTokens > 40, `${reused.cachedTokens} of ${reused.promptTokens}`);
    assert.equal(reused.text, await text(await openTiny(MODEL), longer));
  });

  it('keeps a long beginning while many short requests come and go', async () => {
    const e = await openTiny(MODEL, 1024);
    const long = { prompt: 'a long directive with its examples '.repeat(12), maxTokens: 4 };
    const { promptTokens } = await complete(e, long);
    assert.ok(promptTokens > 256, `${promptTokens}`);
    for (let round = 0; round < 3; round++)
      await Promise.all(PROMPTS.map((prompt) => complete(e, { prompt: `${round}. ${prompt}`, maxTokens: 8 })));
    assert.equal((await complete(e, long)).cachedTokens, promptTokens - 1);
    // It gives way to what would not fit beside it.
    const all = { prompt: 'something else altogether '.repeat(36), maxTokens: 4 };
    assert.ok((await complete(e, all)).promptTokens > 700);
    assert.ok((await complete(e, long)).cachedTokens < promptTokens / 2);
  });

  it('is not used across fast weights', async () => {
    const e = await openTiny(MODEL);
    const request = { prompt: 'a beginning that is the same', maxTokens: 6 };
    await complete(e, request);
    await e.setFastWeights(tinyWeights({ layers: 2, seed: 3, b: 0.3 }));
    const adapted = await complete(e, request);
    assert.equal(adapted.cachedTokens, 0);
    const fresh = await openTiny(MODEL);
    await fresh.setFastWeights(tinyWeights({ layers: 2, seed: 3, b: 0.3 }));
    assert.equal(await text(fresh, request), adapted.text);
  });
});

describe('a generation', () => {
  it('streams what it ends with', async () => {
    const events: GenerateEvent[] = [];
    for await (const event of engine.generate({ prompt: 'who', maxTokens: 12 })) events.push(event);
    const done = events.pop()!;
    assert.ok(done.type === 'done');
    assert.ok(events.length > 1);
    assert.equal(events.map((e) => e.text).join(''), done.text);
    assert.equal(done.finish, 'length');
    assert.equal(done.outputTokens, 12);
    assert.equal(done.promptTokens, (await engine.tokenize('who')).length);
  });

  it('is greedy by default: every token is the most probable', async () => {
    const prompt = 'there on the';
    const answer = await text(engine, { prompt, maxTokens: 10 });
    const { greedy, tokens, logProbs } = await engine.score({ prompt, answer });
    assert.equal(tokens.length, logProbs.length);
    assert.equal(await engine.detokenize(tokens), answer);
    // A text may be tokenised in another way than it was generated.
    if (tokens.length === 10) assert.ok(greedy.every(Boolean));
    assert.ok(logProbs.every((x) => x <= 0));
  });

  it('ends before a stop string', async () => {
    const prompt = 'there on the';
    const whole = await text(engine, { prompt, maxTokens: 16 });
    for (const stop of [whole.slice(5, 7), whole.slice(3, 9), whole[4]!]) {
      const done = await complete(engine, { prompt, maxTokens: 16, stop: ['\u0001', stop] });
      assert.equal(done.text, whole.slice(0, whole.indexOf(stop)));
      assert.equal(done.finish, 'stop');
      assert.ok(done.outputTokens < 16);
    }
  });

  it('goes on from a prefill', async () => {
    const messages = [{ role: 'user', content: 'who' }] as const;
    const rendered = await engine.renderChat(messages);
    const answer = await text(engine, { prompt: messages, prefill: 'the train', maxTokens: 8 });
    assert.equal(answer, await text(engine, { prompt: `${rendered}the train`, maxTokens: 8 }));
  });

  it('fills the context and no more', async () => {
    const e = await openTiny(MODEL, 128);
    const prompt = 'x!'.repeat(55);
    const { promptTokens, outputTokens, finish } = await complete(e, { prompt, maxTokens: 500 });
    assert.equal(finish, 'length');
    assert.ok(
      promptTokens + outputTokens <= 129 && promptTokens + outputTokens >= 127,
      `${promptTokens + outputTokens}`,
    );
    await assert.rejects(complete(e, { prompt: 'x!'.repeat(80) }), { code: 'usage', message: /context/ });
    await assert.rejects(e.score({ prompt: 'x!'.repeat(80), answer: 'x' }), { code: 'usage', message: /context/ });
    assert.equal((await complete(e, { prompt, maxTokens: 2 })).outputTokens, 2);
  });
});

describe('interruption', () => {
  it('by the signal ends one generation; others and the next ones go on', async () => {
    const e = await openTiny(MODEL);
    const expected = await text(e, { prompt: PROMPTS[4]!, maxTokens: 20 });
    const controller = new AbortController();
    let seen = 0;
    const interrupted = (async () => {
      const request = { prompt: PROMPTS[3]!, maxTokens: 500, signal: controller.signal };
      for await (const event of e.generate(request)) if (event.type === 'text' && ++seen === 3) controller.abort();
    })();
    const other = text(e, { prompt: PROMPTS[4]!, maxTokens: 20 });
    await assert.rejects(interrupted, { code: 'aborted' });
    assert.ok(seen >= 3 && seen < 100);
    assert.equal(await other, expected);
    assert.equal(await text(e, { prompt: PROMPTS[4]!, maxTokens: 20 }), expected);
    await assert.rejects(complete(e, { prompt: 'x', signal: AbortSignal.abort() }), { code: 'aborted' });
    await assert.rejects(e.score({ prompt: 'x', answer: 'y', signal: AbortSignal.abort() }), { code: 'aborted' });
  });

  it('of a request that waits for room ends it too', async () => {
    const e = await openTiny(MODEL, 128);
    const first = complete(e, { prompt: 'one', maxTokens: 100 });
    const signal = AbortSignal.timeout(5);
    await assert.rejects(complete(e, { prompt: 'two', maxTokens: 100, signal }), { code: 'aborted' });
    assert.equal((await first).outputTokens, 100);
  });

  it('by a reader that stops reading frees its place', async () => {
    const e = await openTiny(MODEL);
    for (let i = 0; i < 20; i++) {
      for await (const event of e.generate({ prompt: `${i} on`, maxTokens: 900 })) if (event.type === 'text') break;
    }
    assert.equal((await complete(e, { prompt: 'x', maxTokens: 3 })).outputTokens, 3);
  });

  it('by close lets nothing run afterwards', async () => {
    const e = await openTiny(MODEL);
    await e.close();
    await e.close();
    await assert.rejects(complete(e, { prompt: 'x' }), { code: 'failed', message: /closed/ });
    await assert.rejects(e.setFastWeights(null), { code: 'failed', message: /closed/ });
  });
});

/** Length of the longest part of a text that occurs in it again later, without overlap. */
function longestRepeat(s: string): number {
  for (let n = Math.floor(s.length / 2); n > 0; n--)
    for (let i = 0; i + 2 * n <= s.length; i++) if (s.indexOf(s.slice(i, i + n), i + n) >= 0) return n;
  return 0;
}

describe('sampling', () => {
  const request = { prompt: 'there on the', maxTokens: 24, temperature: 1.2 };

  it('is the same for the same seed, and another for another', async () => {
    const seeds = await Promise.all([1, 2, 3, 4].map((seed) => text(engine, { ...request, seed })));
    assert.ok(new Set(seeds).size > 2);
    for (const seed of [1, 2, 3, 4]) assert.equal(await text(engine, { ...request, seed }), seeds[seed - 1]);
    assert.equal(await text(engine, request), await text(engine, { ...request, seed: 0 }));
  });

  it('is greedy when only one token is left', async () => {
    const greedy = await text(engine, { ...request, temperature: 0 });
    for (const narrow of [{ topK: 1 }, { topP: 0 }, { minP: 1 }])
      assert.equal(await text(engine, { ...request, ...narrow, seed: 5 }), greedy, JSON.stringify(narrow));
  });

  it('repeats less with DRY', async () => {
    // A tied head makes a random model say the same token over and over.
    const e = await openTiny({ architecture: 'llama', seed: 3, tied: true });
    const looping = { prompt: 'there on the', maxTokens: 80 };
    const plain = await text(e, looping);
    const dry = await text(e, { ...looping, dry: { multiplier: 5, allowedLength: 2 } });
    assert.ok(longestRepeat(plain) > 30, plain);
    assert.ok(longestRepeat(dry) < 15, dry);
    assert.equal(await text(e, { ...looping, dry: { multiplier: 0 } }), plain);
  });

  it('refuses options that llama.cpp could not take', async () => {
    const bad: Partial<GenerateRequest>[] = [
      { temperature: -1 },
      { temperature: Number.NaN },
      { temperature: Number.POSITIVE_INFINITY },
      { topK: -1 },
      { topP: 1.1 },
      { minP: -0.1 },
      { seed: -1 },
      { seed: 2 ** 40 },
      { maxTokens: 0 },
      { maxTokens: 2.5 },
      { maxTokens: Number.NaN },
      { dry: { multiplier: -1 } },
      { dry: { multiplier: 1, base: 0 } },
      { dry: { multiplier: 1, lastTokens: -2 } },
      { prompt: '' },
      { schema: { type: 'nonsense' } },
    ];
    for (const options of bad)
      await assert.rejects(complete(engine, { prompt: 'x', ...options }), { code: 'usage' }, JSON.stringify(options));
    await assert.rejects(engine.score({ prompt: 'x', answer: '' }), { code: 'usage' });
    await assert.rejects(engine.score({ prompt: '', answer: 'x' }), { code: 'usage' });
    await assert.rejects(engine.detokenize([100_000 as never]), { code: 'usage' });
    assert.equal((await complete(engine, { prompt: 'x', maxTokens: 2 })).outputTokens, 2);
  });
});

describe('a schema', () => {
  const schema: JsonSchema = {
    type: 'object',
    properties: {
      kind: { enum: ['fact', 'lesson'] },
      sure: { type: 'boolean' },
      words: { type: 'array', items: { type: 'string', maxLength: 6 }, minItems: 1, maxItems: 3 },
    },
    required: ['kind', 'sure', 'words'],
    additionalProperties: false,
  };

  function check(json: string): void {
    const value = JSON.parse(json);
    assert.deepEqual(Object.keys(value), ['kind', 'sure', 'words']);
    assert.ok(['fact', 'lesson'].includes(value.kind));
    assert.equal(typeof value.sure, 'boolean');
    assert.ok(value.words.length >= 1 && value.words.length <= 3);
    for (const word of value.words) assert.ok(typeof word === 'string' && word.length <= 6);
  }

  it('is satisfied by what a random model says, greedy or not', async () => {
    for (const options of [{}, { temperature: 1.5, seed: 1 }, { temperature: 1.5, seed: 2, topK: 40, minP: 0.01 }]) {
      const done = await complete(engine, { prompt: 'who', schema, maxTokens: 400, ...options });
      assert.equal(done.finish, 'end', done.text);
      check(done.text);
    }
  });

  it('is kept by each of many generations at once', async () => {
    const all = await Promise.all(
      [1, 2, 3, 4].map((seed) => text(engine, { prompt: `${seed}`, schema, maxTokens: 400, temperature: 1, seed })),
    );
    for (const json of all) check(json);
  });
});

describe('text and tokens', () => {
  it('go over into each other', async () => {
    const some = 'the rain, in\nthere: 42 <|im_end|>';
    const tokens = await engine.tokenize(some);
    assert.equal(await engine.detokenize(tokens), some);
    const plain = await engine.tokenize(some, { plain: true });
    assert.ok(plain.length > tokens.length, 'special tokens are plain text on request');
    assert.equal(await engine.detokenize(plain), some);
  });
});
