/** The engine's policy gradient is of the distribution that llama.cpp samples from, whatever is in force. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { stack } from '../../src/engine/adapter/fast-weights.ts';
import type { LlamaEngine } from '../../src/engine/llama/engine.ts';
import type { FastWeights, PolicySample } from '../../src/engine/types.ts';
import { openTiny, weightsFor } from '../support/engine-fixture.ts';
import { relativeDeviation } from '../support/finite-differences.ts';
import { gaussian, type TinyModelOptions } from '../support/tiny-model.ts';

/**
 * Root mean square of the differences over that of the values' own deviations, as gradients-verify.test.ts has it of logits: llama.cpp keeps
 * K and V in F16, and rounds the inputs of quantised products to 8 bits.
 */
const TOLERANCE = { F32: 2e-3, Q8_0: 3e-2 } as const;
/** Its sums over keys are in F16, too, and get worse with their number. */
const LONG_TOLERANCE = 5e-3;

function deviation(actual: readonly number[], expected: readonly number[]): number {
  const mean = expected.reduce((sum, x) => sum + x, 0) / expected.length;
  const squares = (of: (x: number, i: number) => number) => expected.reduce((sum, x, i) => sum + of(x, i) ** 2, 0);
  return Math.sqrt(squares((x, i) => x - actual[i]!) / squares((x) => x - mean));
}

const words = (n: number, seed: number) => {
  const normal = gaussian(seed);
  const text = Array.from({ length: n }, () => String.fromCharCode(97 + (Math.floor(Math.abs(normal()) * 1000) % 26)));
  return text.map((letter, i) => (i % 5 === 4 ? ' ' : letter)).join('');
};

interface Said {
  readonly prompt: string;
  readonly answer: string;
}

async function open(model: TinyModelOptions, contextSize?: number) {
  const engine = await openTiny(model, contextSize);
  const file = engine.model.path;
  const policy = weightsFor(file, { layers: 2, attention: true, seed: 61, rank: 3 });
  return { engine, policy, delta: weightsFor(file, { layers: 1, seed: 62, rank: 5 }) };
}

const sampleOf = async (engine: LlamaEngine, { prompt, answer }: Said): Promise<PolicySample> => {
  const tokens = await engine.tokenize(answer);
  return { prompt: await engine.tokenize(prompt), answer: tokens, weights: tokens.map((_, i) => (i % 3) - 0.7) };
};
const samplesOf = (engine: LlamaEngine, said: readonly Said[]) => Promise.all(said.map((of) => sampleOf(engine, of)));

/** What llama.cpp gives at a temperature, with the weights in force. */
async function scored(engine: LlamaEngine, weights: FastWeights, said: Said, temperature: number) {
  await engine.setFastWeights(weights);
  const { tokens, likely } = await engine.score({ ...said, likely: engine.model.vocabulary });
  await engine.setFastWeights(null);
  const rows = likely!.map(({ tokens: all, logProbs }, i) => {
    const scaled = Array.from(logProbs, (x) => x / temperature);
    const whole = Math.log(scaled.reduce((sum, x) => sum + Math.exp(x), 0));
    const chosen = scaled[all.indexOf(tokens[i]!)]! - whole;
    return { chosen, entropy: -scaled.reduce((sum, x) => sum + Math.exp(x - whole) * (x - whole), 0) };
  });
  return { logProbs: rows.map((row) => row.chosen), entropies: rows.map((row) => row.entropy) };
}

async function agrees(
  { engine, policy, delta }: { engine: LlamaEngine; policy: FastWeights; delta: FastWeights | null },
  said: readonly Said[],
  { temperature = 1, tolerance = TOLERANCE.F32 as number } = {},
): Promise<void> {
  const samples = await samplesOf(engine, said);
  const found = await engine.policyGradient({ policy, delta, samples, temperature, gradient: false });
  const expected: Awaited<ReturnType<typeof scored>>[] = [];
  for (const one of said) expected.push(await scored(engine, delta ? stack(policy, delta) : policy, one, temperature));
  for (const part of ['logProbs', 'entropies'] as const) {
    for (const [i, of] of expected.entries()) assert.equal(found[part][i]!.length, of[part].length);
    const all = found[part].flatMap((x) => [...x]);
    const error = deviation(
      all,
      expected.flatMap((of) => of[part]),
    );
    assert.ok(error < tolerance, `${part}: ${error}`);
  }
}

describe('log-probabilities and entropies are those of llama.cpp', () => {
  const SAID = [
    { prompt: 'user: who is on the train\n', answer: 'the other one' },
    { prompt: 'user: who is on the train\n', answer: 'a' },
    { prompt: 'user: ', answer: 'on the ninth, in the rain' },
  ];

  for (const architecture of ['llama', 'qwen2'] as const)
    for (const type of ['F32', 'Q8_0'] as const)
      for (const temperature of [1, 0.7])
        it(`with policy and Delta (${architecture}, ${type}, temperature ${temperature})`, async () => {
          const opened = await open({ architecture, type });
          await agrees(opened, SAID, { temperature, tolerance: TOLERANCE[type] });
          await agrees({ ...opened, delta: null }, SAID, { temperature, tolerance: TOLERANCE[type] });
        });

  it('for 1000 tokens before an answer of 400', async () => {
    const opened = await open({ architecture: 'llama', contextLength: 2048 }, 2048);
    await agrees(opened, [{ prompt: words(1000, 71), answer: words(400, 72) }], { tolerance: LONG_TOLERANCE });
  });

  it('for several answers behind a prompt that is longer than one pass', async () => {
    const opened = await open({ architecture: 'qwen2', contextLength: 2048 }, 2048);
    const prompt = words(700, 73);
    const said = [90, 300, 12].map((length) => ({ prompt, answer: words(length, length) }));
    await agrees(opened, said, { tolerance: LONG_TOLERANCE });
  });
});

describe('the gradient that the engine gives', () => {
  const SAID = { prompt: 'user: who is on the train\n', answer: 'the other one' };

  it('does not depend on what is in force, nor changes it', async () => {
    const { engine, policy, delta } = await open({ architecture: 'llama' });
    const samples = [await sampleOf(engine, SAID)];
    const expected = await engine.policyGradient({ policy, delta, samples });
    assert.ok(expected.tensors.every(({ a, b }) => a.some((x) => x !== 0) && b.some((x) => x !== 0)));
    // It adapts a layer more, below those of the policy that the gradient is of.
    const other = weightsFor(engine.model.path, { layers: 3, attention: true, seed: 63, rank: 4 });
    await engine.setPolicy(other);
    await engine.setFastWeights(delta);
    const before = await engine.score(SAID);
    const found = await engine.policyGradient({ policy, delta, samples });
    for (const [i, { name, a, b }] of found.tensors.entries()) {
      assert.equal(name, policy.tensors[i]!.name);
      // llama.cpp keeps K and V in F16 below the cut, which lies one layer deeper now.
      assert.ok(relativeDeviation(a, expected.tensors[i]!.a) < 2e-2, `A of ${name}`);
      assert.ok(relativeDeviation(b, expected.tensors[i]!.b) < 2e-2, `B of ${name}`);
    }
    assert.ok(relativeDeviation(found.logProbs[0]!, expected.logProbs[0]!) < TOLERANCE.F32);
    assert.deepEqual(await engine.score(SAID), before);
  });

  it('is the sum over samples, whatever their order and however often one comes', async () => {
    const { engine, policy, delta } = await open({ architecture: 'llama' });
    const [one, other] = [await sampleOf(engine, SAID), await sampleOf(engine, { ...SAID, answer: 'that train' })];
    const half = { ...one, weights: Array.from(one.weights, (w) => w / 2) };
    const expected = await engine.policyGradient({ policy, delta, samples: [one, other] });
    const found = await engine.policyGradient({ policy, delta, samples: [half, other, half] });
    for (const [i, { name, a, b }] of found.tensors.entries()) {
      assert.ok(relativeDeviation(a, expected.tensors[i]!.a) < 1e-3, `A of ${name}`);
      assert.ok(relativeDeviation(b, expected.tensors[i]!.b) < 1e-3, `B of ${name}`);
    }
    const [first, second] = expected.logProbs;
    assert.deepEqual(found.logProbs, [first, second, first]);
  });

  it('is one to go down along', async () => {
    const { engine, policy, delta } = await open({ architecture: 'qwen2' });
    const samples = [await sampleOf(engine, SAID)];
    const objective = async (at: FastWeights) => {
      const { logProbs } = await engine.policyGradient({ policy: at, delta, samples, gradient: false });
      return -logProbs[0]!.reduce((sum, x, t) => sum + samples[0]!.weights[t]! * x, 0);
    };
    const { tensors } = await engine.policyGradient({ policy, delta, samples });
    const norm = tensors.reduce((n, { a, b }) => n + [...a, ...b].reduce((m, x) => m + x * x, 0), 0);
    const lr = 0.05 / norm;
    const stepped = policy.tensors.map((t, i) => ({
      ...t,
      a: t.a.map((x, k) => x - lr * tensors[i]!.a[k]!),
      b: t.b.map((x, k) => x - lr * tensors[i]!.b[k]!),
    }));
    const change = (await objective({ ...policy, tensors: stepped })) - (await objective(policy));
    assert.ok(Math.abs(change / -0.05 - 1) < 0.1, `${change} is not minus lr times the square of the norm`);
  });
});

describe('what is no policy of this model', () => {
  it('is refused, and so is a sample that is longer than the context', async () => {
    const { engine, policy, delta } = await open({ architecture: 'llama' });
    const samples = await samplesOf(engine, [{ prompt: 'who', answer: 'the train' }]);
    const wrong = { ...policy, tensors: policy.tensors.map((t) => ({ ...t, name: t.name.replace('blk.2', 'blk.7') })) };
    const missing = { code: 'missing' };
    await assert.rejects(engine.policyGradient({ policy: wrong, delta, samples }), missing);
    await assert.rejects(engine.policyGradient({ policy, delta: wrong, samples }), missing);
    await assert.rejects(engine.policyGradient({ policy: { ...policy, tensors: [] }, delta, samples }), missing);
    const [{ prompt }] = samples as [PolicySample];
    const answer = Array.from({ length: 1024 }, () => prompt[0]!);
    const long = [{ prompt, answer, weights: answer.map(() => 1) }];
    await assert.rejects(engine.policyGradient({ policy, delta, samples: long }), {
      code: 'usage',
      message: /more than the context of 1024/,
    });
  });
});
