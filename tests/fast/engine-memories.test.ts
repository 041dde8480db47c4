/** Several fast weights at once, a policy under them, and log-probabilities of what is said, on tiny random models. */
import assert from 'node:assert/strict';
import { before, describe, it } from 'node:test';
import { stack } from '../../src/engine/adapter/fast-weights.ts';
import type { LlamaEngine } from '../../src/engine/llama/engine.ts';
import type { ChosenToken, Engine, FastWeights, GenerateRequest } from '../../src/engine/types.ts';
import { complete } from '../../src/engine/types.ts';
import { openTiny, tinyWeights, weightsFor } from '../support/engine-fixture.ts';

const MODEL = { architecture: 'llama', seed: 2 } as const;
const PROMPTS = ['the rain in', 'who are you', 'there on the train, in the'];
const ANSWER = ' then there was an answer on it';
/** Other graphs round otherwise, and the KV cache is in F16. */
const NOISE = 5e-3;

const say = async (engine: Engine, request: GenerateRequest) =>
  (await complete(engine, { maxTokens: 10, ...request })).text;
const scores = async (engine: Engine, options: { memory?: string; fastWeights?: boolean } = {}) =>
  (await Promise.all(PROMPTS.map((prompt) => engine.score({ prompt, answer: ANSWER, ...options })))).flatMap((s) => [
    ...s.logProbs,
  ]);

function near(actual: readonly number[], expected: readonly number[], tolerance = NOISE): void {
  const far = Math.max(...actual.map((x, i) => Math.abs(x - expected[i]!)));
  assert.ok(actual.length === expected.length && far < tolerance, `${far} apart`);
}

describe('fast weights under names', () => {
  const weights = [3, 4, 5].map((seed) => tinyWeights({ layers: 2, seed, b: 0.3 }));
  let alone: number[][];
  let engine: LlamaEngine;
  before(async () => {
    const other = await openTiny(MODEL);
    alone = [];
    for (const one of [...weights, null]) {
      await other.setFastWeights(one);
      alone.push(await scores(other));
    }
    engine = await openTiny(MODEL);
    for (const [i, one] of weights.entries()) await engine.setFastWeights(one, { memory: `m${i}` });
  });

  it('answer the requests that name them, all at once, as each would alone', async () => {
    const all = await Promise.all([
      ...weights.map((_, i) => scores(engine, { memory: `m${i}` })),
      scores(engine, { memory: 'unknown' }),
    ]);
    for (const [i, found] of all.entries()) near(found, alone[i]!);
    assert.ok(Math.abs(alone[0]![0]! - alone[1]![0]!) > 2 * NOISE, 'they differ');
  });

  it('leave requests that name none with the weights in force', async () => {
    near(await scores(engine), alone[3]!);
    await engine.setFastWeights(weights[1]!);
    near(await scores(engine), alone[1]!);
    near(await scores(engine, { memory: 'm0' }), alone[0]!);
    near(await scores(engine, { memory: 'm0', fastWeights: false }), alone[3]!);
    await engine.setFastWeights(null);
  });

  it('generate side by side what each generates alone', async () => {
    const request = (memory: string | undefined, prompt: string) => ({ prompt, memory, maxTokens: 16 });
    const names = ['m0', 'm1', 'm2', undefined];
    const expected: string[] = [];
    for (const name of names) for (const p of PROMPTS) expected.push(await say(engine, request(name, p)));
    const found = await Promise.all(names.flatMap((name) => PROMPTS.map((p) => say(engine, request(name, p)))));
    assert.deepEqual(found, expected);
  });

  it('are replaced while requests under other names go on', async () => {
    const events = engine.generate({ prompt: PROMPTS[0]!, memory: 'm0', maxTokens: 200 });
    await events.next();
    await engine.setFastWeights(weights[2]!, { memory: 'm1' });
    near(await scores(engine, { memory: 'm1' }), alone[2]!);
    await events.return(undefined);
    await engine.setFastWeights(weights[1]!, { memory: 'm1' });
    near(await scores(engine, { memory: 'm1' }), alone[1]!);
    await engine.setFastWeights(null, { memory: 'm1' });
    near(await scores(engine, { memory: 'm1' }), alone[3]!);
  });
});

describe('a policy', () => {
  let engine: LlamaEngine;
  let policy: FastWeights;
  const delta = tinyWeights({ layers: 2, seed: 6, b: 0.3 });
  before(async () => {
    engine = await openTiny(MODEL);
    policy = weightsFor(engine.model.path, { layers: 3, attention: true, seed: 9 });
  });

  it('lies under fast weights and answers without them, too', async () => {
    await engine.setFastWeights(stack(policy, delta));
    const both = await scores(engine);
    await engine.setFastWeights(policy);
    const one = await scores(engine);
    assert.equal(engine.model.policy, undefined);
    await engine.setPolicy(policy);
    assert.match(engine.model.policy!, /^[0-9a-f]{12}$/);
    await engine.setFastWeights(delta);
    near(await scores(engine), both);
    near(await scores(engine, { fastWeights: false }), one);
    await engine.setFastWeights(delta, { memory: 'named' });
    near(await scores(engine, { memory: 'named' }), both);
  });

  it('is part of what training starts from', async () => {
    await engine.setPolicy(policy);
    await engine.setFastWeights(null);
    const samples = PROMPTS.map((prompt) => ({ prompt, answer: ANSWER }));
    const expected = (await scores(engine)).map((x) => -x);
    const { losses } = await engine.evaluate({ samples, weights: null, layers: 2 });
    near(losses.flat(), expected, 0.03);
    const weights = await engine.initialise({ init: { kind: 'random' }, rank: 2, layers: 2 });
    assert.ok(weights.tensors.every(({ name }) => !name.includes('attn')));
    const { steps, weights: trained } = await engine.train({
      ...{ samples, weights, optimizer: { kind: 'adamw', lr: 0.01 }, epochs: 8 },
    });
    assert.ok(Math.abs(steps[0]!.loss - expected.reduce((a, b) => a + b) / expected.length) < 0.03);
    const after = await engine.evaluate({ samples, weights: trained, layers: 2 });
    await engine.setFastWeights(trained);
    near(
      after.losses.flat(),
      (await scores(engine)).map((x) => -x),
      0.03,
    );
    assert.ok(after.losses.flat().reduce((a, b) => a + b) < losses.flat().reduce((a, b) => a + b));
  });

  it('is gone when taken off', async () => {
    const plain = await openTiny(MODEL);
    await engine.setFastWeights(null);
    await engine.setPolicy(null);
    assert.equal(engine.model.policy, undefined);
    near(await scores(engine), await scores(plain));
  });
});

describe('log-probabilities of what is said', () => {
  it('are those of scoring it, and its tokens make its text', async () => {
    const engine = await openTiny(MODEL);
    let compared = 0;
    for (let seed = 1; seed <= 12; seed++) {
      const tokens: ChosenToken[] = [];
      let text = '';
      const request = { prompt: PROMPTS[0]!, maxTokens: 12, logProbs: 3, temperature: 1, seed };
      for await (const event of engine.generate(request)) {
        tokens.push(...(event.tokens ?? []));
        if (event.type === 'text') text += event.text;
      }
      assert.equal(Buffer.concat(tokens.map((t) => t.bytes)).toString(), text);
      for (const { top, logProb } of tokens) {
        assert.equal(top.length, 3);
        assert.ok(top[0]!.logProb >= top[1]!.logProb && top[1]!.logProb >= top[2]!.logProb);
        assert.ok(top[0]!.logProb >= logProb);
      }
      if (text === '') continue;
      const scored = await engine.score({ prompt: PROMPTS[0]!, answer: text });
      // The end of the turn is told, too, and is no text; other tokens may make the same text.
      const said = tokens.slice(0, scored.tokens.length);
      if (said.some(({ token }, i) => token !== scored.tokens[i])) continue;
      assert.ok(tokens.length - said.length <= 1);
      compared += said.length;
      near(
        said.map((t) => t.logProb),
        [...scored.logProbs],
      );
    }
    assert.ok(compared > 20, `${compared} tokens compared`);
  });
});
