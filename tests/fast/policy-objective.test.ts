import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { ScriptedEngine } from '../../src/engine/scripted.ts';
import type { PolicyGradientRequest } from '../../src/engine/types.ts';
import { withMethods } from '../../src/engine/with-methods.ts';
import { groupAdvantages } from '../../src/policy/advantages.ts';
import { type GradientSettings, logProbsOf, objectiveGradient } from '../../src/policy/gradient.ts';
import { lossFactors, tokenTerms } from '../../src/policy/objective.ts';
import { clipByNorm, learningRate, newAdamW, updateAdamW } from '../../src/policy/optimizer.ts';
import type { Action } from '../../src/policy/recorder.ts';
import { action, onePolicy } from '../support/policy.ts';

const near = (actual: number, expected: number, within = 1e-9) =>
  assert.ok(Math.abs(actual - expected) <= within, `${actual} is not ${expected}`);

const PLAIN = { epsilon: 0.2, epsilonHigh: 0.2, beta: 0 };
const SETTINGS: GradientSettings = {
  ...PLAIN,
  ...{ lossType: 'dapo', gradientAccumulation: 1, maskTruncated: false, maxCompletionLength: 10, temperature: 1 },
};

/** An engine that gives each token of an answer a log-probability by its id, and keeps what it was asked. */
function engineWith(logProb: (token: number, request: PolicyGradientRequest) => number) {
  const requests: PolicyGradientRequest[] = [];
  const engine = withMethods(new ScriptedEngine({ reply: () => '' }), {
    async policyGradient(request) {
      requests.push(request);
      const { samples, policy, gradient = true } = request;
      return {
        logProbs: samples.map(({ answer }) => Float64Array.from(answer, (token) => logProb(token, request))),
        entropies: samples.map(({ answer }) => new Float64Array(answer.length).fill(0.25)),
        tensors: gradient
          ? policy.tensors.map(({ name, a, b }) => ({ name, a: a.map(() => 1), b: b.map(() => 2) }))
          : [],
      };
    },
  });
  return { engine, requests };
}

const rolled = (...actions: Action[]) => ({ actions, truncated: false });

test('advantages are the distance from the mean of the group by its sample deviation', () => {
  const { values, rewardStd, zeroStd } = groupAdvantages(
    [
      [1, 0, 0, 1],
      [0.5, 0.5, 0.5, 0.5],
    ],
    'group',
  );
  // The deviation of 1, 0, 0, 1 with n - 1 is sqrt(4 * 0.25 / 3).
  const deviation = Math.sqrt(1 / 3);
  for (const [i, sign] of [1, -1, -1, 1].entries()) near(values[0]![i]!, (sign * 0.5) / (deviation + 1e-4));
  assert.deepEqual(values[1], [0, 0, 0, 0]);
  near(rewardStd, deviation / 2);
  assert.equal(zeroStd, 0.5);
});

test('advantages can be scaled by the deviation of the whole batch, or not at all', () => {
  const rewards = [
    [1, 0],
    [0, 0],
  ];
  // Of 1, 0, 0, 0: mean 1/4, sum of squares 3/4, by 3.
  const batch = groupAdvantages(rewards, 'batch');
  near(batch.values[0]![0]!, 0.5 / (0.5 + 1e-4));
  near(batch.rewardStd, 0.5);
  assert.equal(batch.zeroStd, 0);
  assert.deepEqual(groupAdvantages(rewards, 'none').values, [
    [0.5, -0.5],
    [0, 0],
  ]);
});

test('a token has the weight r A where its ratio is not clipped, and none where it is', () => {
  const at = (ratio: number, advantage: number) =>
    tokenTerms({ advantage, old: -1, logProb: -1 + Math.log(ratio) }, { ...PLAIN, epsilonHigh: 0.3 });
  const cases: [ratio: number, advantage: number, loss: number, weight: number, clipped?: string][] = [
    [1, 2, -2, 2],
    [1.25, 2, -2.5, 2.5],
    [1.5, 2, -2.6, 0, 'high'],
    [1.5, -2, 3, -3],
    [0.5, 2, -1, 1],
    [0.5, -2, 1.6, 0, 'low'],
  ];
  for (const [ratio, advantage, loss, weight, clipped] of cases) {
    const terms = at(ratio, advantage);
    near(terms.loss, loss);
    near(terms.weight, weight);
    assert.equal(terms.clipped, clipped);
  }
});

test('the KL term is k3 of the probability under the reference, and pulls towards it', () => {
  // pi = 1/2, pi_ref = 1/4: x = 1/2, x - log x - 1.
  const token = { advantage: 0, logProb: Math.log(0.5), old: Math.log(0.5), reference: Math.log(0.25) };
  const terms = tokenTerms(token, { ...PLAIN, beta: 0.1 });
  near(terms.kl, 0.5 + Math.log(2) - 1);
  near(terms.loss, 0.1 * terms.kl);
  near(terms.weight, 0.1 * (0.5 - 1));
});

test("a token's weight is minus the derivative of its loss by its log-probability", () => {
  const number = fc.double({ min: -3, max: 0, noNaN: true });
  const advantages = fc.double({ min: -2, max: 2, noNaN: true });
  fc.assert(
    fc.property(number, number, number, advantages, (logProb, old, reference, advantage) => {
      const settings = { epsilon: 0.2, epsilonHigh: 0.28, beta: 0.05 };
      const [h, ratio] = [1e-6, Math.exp(logProb - old)];
      fc.pre(Math.abs(ratio - 0.8) > 1e-4 && Math.abs(ratio - 1.28) > 1e-4);
      const loss = (at: number) => tokenTerms({ advantage, logProb: at, old, reference }, settings).loss;
      const { weight } = tokenTerms({ advantage, logProb, old, reference }, settings);
      const slope = (loss(logProb + h) - loss(logProb - h)) / (2 * h);
      near(-slope, weight, 1e-4 * (1 + Math.abs(weight)));
    }),
    { numRuns: 200 },
  );
});

test('each loss type shares the tokens of two completions of 1 and 3 tokens out as TRL does', () => {
  const batch = { microBatches: 1, tokens: 4, maxCompletionLength: 8 };
  assert.deepEqual(lossFactors('grpo', [1, 3], batch), [1 / 2, 1 / 6]);
  assert.deepEqual(lossFactors('bnpo', [1, 3], batch), [1 / 4, 1 / 4]);
  assert.deepEqual(lossFactors('dr_grpo', [1, 3], batch), [1 / 16, 1 / 16]);
  assert.deepEqual(lossFactors('dapo', [1, 3], batch), [1 / 4, 1 / 4]);
});

test('a masked completion counts as one without tokens, and in dapo its tokens still count in the mean', () => {
  const batch = { microBatches: 2, tokens: 10, maxCompletionLength: 8 };
  assert.deepEqual(lossFactors('grpo', [0, 4], batch), [1 / 4, 1 / 16]);
  assert.deepEqual(lossFactors('bnpo', [0, 4], batch), [1 / 8, 1 / 8]);
  assert.deepEqual(lossFactors('dr_grpo', [0, 4], batch), [1 / 32, 1 / 32]);
  assert.deepEqual(lossFactors('dapo', [0, 4], batch), [1 / 10, 1 / 10]);
});

test('a group of two episodes with three tokens in all has the loss and the weights worked out by hand', async () => {
  const { engine, requests } = engineWith(() => -0.7);
  const [good, bad] = [action([5, 6], [-0.7, -0.7]), action([7], [-0.7])];
  const { values } = groupAdvantages([[1, 0]], 'group');
  const completions = [good, bad].map((one, i) => ({ rollout: rolled(one), advantage: values[0]![i]! }));
  const found = await objectiveGradient(engine, onePolicy(1, 0), completions, new Map(), SETTINGS);
  // Rewards 1 and 0: mean 1/2, deviation sqrt(1/2). Every ratio is 1, and the mean is over three tokens.
  const advantage = 0.5 / (Math.SQRT1_2 + 1e-4);
  assert.equal(requests.length, 1, 'without an earlier policy or KL one pass is enough');
  assert.equal(requests[0]!.delta, null);
  const [first, second] = requests[0]!.samples;
  assert.deepEqual([...first!.weights], [advantage / 3, advantage / 3]);
  assert.deepEqual([...second!.weights], [-advantage / 3]);
  near(found.loss, -(2 * advantage - advantage) / 3);
  assert.equal(found.metrics.entropy, 0.25);
  assert.equal(found.metrics['clip_ratio/region_mean'], 0);
  assert.deepEqual(found.gradient, [{ name: 'blk.0.ffn_up.weight', a: Float32Array.of(1), b: Float32Array.of(2) }]);
});

test('a second update on the same episodes weighs tokens by their ratio, and clips', async () => {
  // Token 5 has become 1.5 times as probable, token 6 is as it was.
  const { engine, requests } = engineWith((token) => (token === 5 ? -1 + Math.log(1.5) : -1));
  const one = action([5, 6], [-1, -1]);
  const old = new Map([[one, Float64Array.of(-1, -1)]]);
  const completions = [{ rollout: rolled(one), advantage: 1 }];
  const found = await objectiveGradient(engine, onePolicy(1, 0), completions, new Map(), SETTINGS, { old });
  assert.deepEqual(
    requests.map(({ gradient = true }) => gradient),
    [false, true],
  );
  assert.deepEqual([...requests[1]!.samples[0]!.weights], [0, 0.5]);
  near(found.loss, -(1.2 + 1) / 2);
  near(found.metrics['clip_ratio/high_mean']!, 0.5);
});

test('with KL the weights need the probabilities first, and an episode without advantage has some', async () => {
  const { engine, requests } = engineWith(() => Math.log(0.5));
  const one = action([5], [Math.log(0.5)]);
  const reference = new Map([[one, Float64Array.of(Math.log(0.25))]]);
  const completions = [{ rollout: rolled(one), advantage: 0 }];
  const settings = { ...SETTINGS, beta: 0.1 };
  const found = await objectiveGradient(engine, onePolicy(1, 0), completions, new Map(), settings, { reference });
  near(requests[1]!.samples[0]!.weights[0]!, -0.05);
  near(found.metrics.kl!, Math.LN2 - 0.5);
  near(found.loss, 0.1 * (Math.LN2 - 0.5));
});

test('every action is computed with the Delta that it was sampled under', async () => {
  const { engine, requests } = engineWith(() => -1);
  const delta = onePolicy(3, 4);
  const [before, after] = [action([5], [-1]), action([6], [-1], 'hash')];
  const completions = [{ rollout: rolled(before, after), advantage: 1 }];
  const found = await objectiveGradient(engine, onePolicy(1, 0), completions, new Map([['hash', delta]]), SETTINGS);
  assert.deepEqual(
    requests.map((request) => [request.delta, request.samples.map(({ answer }) => [...answer])]),
    [
      [null, [[5]]],
      [delta, [[6]]],
    ],
  );
  assert.deepEqual(found.gradient[0]!.b, Float32Array.of(4), 'the gradients are added up');
  const logProbs = await logProbsOf(engine, onePolicy(1, 0), [before, after], new Map([['hash', delta]]), {
    temperature: 1,
  });
  assert.deepEqual(
    [...logProbs.values()].map((values) => [...values]),
    [[-1], [-1]],
  );
});

test('truncated episodes have no gradient when they are masked', async () => {
  const { engine, requests } = engineWith(() => -1);
  const completions = [
    { rollout: { actions: [action([5, 6], [-1, -1])], truncated: true }, advantage: 1 },
    { rollout: rolled(action([7, 8], [-1, -1])), advantage: -1 },
  ];
  await objectiveGradient(engine, onePolicy(1, 0), completions, new Map(), { ...SETTINGS, maskTruncated: true });
  assert.deepEqual(
    requests[0]!.samples.map(({ weights }) => [...weights]),
    [[-0.25, -0.25]],
  );
});

test('AdamW makes the first two updates that were worked out by hand', () => {
  const settings = { beta1: 0.9, beta2: 0.99, eps: 0, weightDecay: 0.1 };
  const gradient = (a: number, b: number) => [{ name: 'x', a: Float32Array.of(a), b: Float32Array.of(b) }];
  const start = onePolicy(1, -1);
  const first = updateAdamW(start, gradient(0.5, -2), newAdamW(start), 0.1, settings);
  // The first step is lr against the sign of the gradient, whatever its size, after the decay by lr * 0.1.
  near(first.policy.tensors[0]!.a[0]!, 1 * 0.99 - 0.1, 1e-6);
  near(first.policy.tensors[0]!.b[0]!, -1 * 0.99 + 0.1, 1e-6);
  const second = updateAdamW(first.policy, gradient(-0.5, -2), first.state, 0.1, settings);
  // m = (0.9 * 0.05 - 0.05) / (1 - 0.81), v = 0.25 (1 - 0.9801) / (1 - 0.9801): m / sqrt(v) = -0.005 / 0.19 / 0.5.
  near(second.policy.tensors[0]!.a[0]!, 0.89 * 0.99 + (0.1 * 0.005) / 0.19 / 0.5, 1e-6);
  near(second.policy.tensors[0]!.b[0]!, -0.89 * 0.99 + 0.1, 1e-6);
  assert.equal(second.state.updates, 2);
  assert.deepEqual([start.tensors[0]!.a[0], first.state.updates], [1, 1], 'nothing that is given is changed');
});

test('a gradient is shortened to the greatest norm and keeps its direction', () => {
  const long = [{ name: 'x', a: Float32Array.of(3), b: Float32Array.of(4) }];
  const { gradient, norm } = clipByNorm(long, 1);
  near(norm, 5);
  near(gradient[0]!.a[0]!, 0.6, 1e-6);
  near(gradient[0]!.b[0]!, 0.8, 1e-6);
  assert.deepEqual(clipByNorm(long, 10), { gradient: long, norm: 5 });
  assert.deepEqual(clipByNorm(long, 0), { gradient: long, norm: 5 });
});

test('the learning rate rises over the warm-up and then stays', () => {
  const rates = [1, 2, 4, 9].map((step) => learningRate(step, { lr: 1, warmupSteps: 4 }));
  assert.deepEqual(rates, [0.25, 0.5, 1, 1]);
  assert.equal(learningRate(1, { lr: 1, warmupSteps: 0 }), 1);
});
