/** The gradient of a policy's objective against finite differences and PyTorch, and what of it must not depend on how it is computed. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { describe, it } from 'node:test';
import { floats } from '../../src/engine/adapter/gguf.ts';
import type { PrefixPass } from '../../src/engine/llama/prefix.ts';
import type { Native } from '../../src/engine/native/library.ts';
import { Backends } from '../../src/engine/training/backends.ts';
import { policyGradient } from '../../src/engine/training/policy-gradient.ts';
import type { Tape } from '../../src/engine/training/tape.ts';
import type { TopLayers } from '../../src/engine/training/top-layers.ts';
import type {
  FastWeights,
  PolicyGradient,
  PolicyGradientRequest,
  PolicySample,
  Token,
} from '../../src/engine/types.ts';
import { episodeOf, type Kind, kinds, modelOf } from '../fixtures/policy/episode.ts';
import { openTraining, randomWeights } from '../support/engine-fixture.ts';
import { derivativeAsync, dot, relativeDeviation } from '../support/finite-differences.ts';
import { cpuBackend, limitedBackend } from '../support/limited-device.ts';
import { plainBlas, withBlas } from '../support/plain-blas.ts';
import { gaussian, type TinyModelOptions } from '../support/tiny-model.ts';

/** Of finite differences, relative to the steepest slope. */
const TOLERANCE = 1e-3;
const STEP = 0.03;
const TEMPERATURE = 0.7;
/** So little memory that every layer is a run of its own. */
const ONE_LAYER = { activationBytes: 1 };

interface Setting {
  readonly top: TopLayers;
  readonly prefix: PrefixPass;
}

const compute = ({ top, prefix }: Setting, request: PolicyGradientRequest, options?: { activationBytes: number }) =>
  policyGradient(top, (piece) => prefix.prepareTokens(piece, request.signal), request, options);

/** Actions with weights of both signs, behind a prompt that all of them share the beginning of. */
function actions(lengths: readonly (readonly [number, number])[], seed = 51): PolicySample[] {
  const normal = gaussian(seed);
  const tokens = (n: number) => Array.from({ length: n }, () => Math.floor(Math.abs(normal()) * 1000) % 104) as Token[];
  const system = tokens(10);
  return lengths.map(([prompt, answer]) => ({
    prompt: [...system, ...tokens(prompt - system.length)],
    answer: tokens(answer),
    weights: Float64Array.from({ length: answer }, normal),
  }));
}

/** Delta: the feed-forward part of the last layer alone. */
const deltaOf = (top: TopLayers): FastWeights => {
  const all = randomWeights(top, { rank: 5, seed: 12 });
  return { ...all, tensors: all.tensors.filter(({ name }) => name.startsWith('blk.2.ffn_')) };
};

async function setUp(model: TinyModelOptions, layers: number, attention: boolean) {
  const { top, prefix } = await openTraining(model, { layers, attention });
  return { top, prefix, policy: randomWeights(top, { rank: 3, seed: 11 }), delta: deltaOf(top) };
}

/** -sum w log p. */
const objectiveOf = ({ logProbs }: PolicyGradient, samples: readonly PolicySample[]) =>
  -samples.reduce((sum, { weights }, i) => sum + dot(weights, logProbs[i]!), 0);

function same(actual: PolicyGradient, expected: PolicyGradient, tolerance = 1e-5): void {
  assert.equal(actual.tensors.length, expected.tensors.length);
  for (const [i, { name, a, b }] of expected.tensors.entries()) {
    assert.equal(actual.tensors[i]!.name, name);
    assert.ok(relativeDeviation(actual.tensors[i]!.a, a) < tolerance, `A of ${name}`);
    assert.ok(relativeDeviation(actual.tensors[i]!.b, b) < tolerance, `B of ${name}`);
  }
}

/** Compares the gradients of A and B of each product with differences of the objective along two directions of each. */
async function compare(
  setting: Setting,
  request: PolicyGradientRequest,
  memory?: { activationBytes: number },
): Promise<void> {
  const { policy, samples } = request;
  const { tensors } = await compute(setting, request, memory);
  const normal = gaussian(21);
  for (const [i, tensor] of policy.tensors.entries()) {
    for (const part of ['a', 'b'] as const) {
      const found = tensors[i]![part];
      const size = Math.sqrt(dot(found, found));
      assert.ok(size > 0, `${part} of ${tensor.name} has a gradient`);
      for (const direction of [Float64Array.from(found), Float64Array.from(found, normal)]) {
        const length = Math.sqrt(dot(direction, direction));
        const expected = await derivativeAsync(async (t) => {
          const moved = tensor[part].map((x, k) => x + (t * direction[k]!) / length);
          const all = policy.tensors.map((other, k) => (k === i ? { ...other, [part]: moved } : other));
          const at = { ...request, policy: { ...policy, tensors: all }, gradient: false };
          return objectiveOf(await compute(setting, at, memory), samples);
        }, STEP);
        const actual = dot(found, direction) / length;
        const error = Math.abs(actual - expected) / size;
        assert.ok(error < TOLERANCE, `${part} of ${tensor.name}: ${actual} is not ${expected} (of ${size})`);
      }
    }
  }
}

describe('the gradient of A and B agrees with finite differences', () => {
  const LENGTHS = [
    [20, 7],
    [31, 12],
    [14, 4],
  ] as const;
  for (const model of [
    { architecture: 'llama' },
    { architecture: 'qwen2', tied: true },
    { architecture: 'gemma3', tied: true, window: 8 },
  ] as const)
    for (const [layers, attention] of [
      [2, true],
      [3, false],
    ] as const)
      it(`${model.architecture}, last ${layers} of 3 layers${attention ? ' with their attention' : ''}`, async () => {
        const { policy, delta, ...setting } = await setUp(model, layers, attention);
        const samples = actions(LENGTHS);
        await compare(setting, { policy, delta, samples, temperature: TEMPERATURE });
      });

  it('without Delta, at temperature 1, where each layer is computed twice', async () => {
    const { policy, ...setting } = await setUp({ architecture: 'llama' }, 3, true);
    await compare(setting, { policy, delta: null, samples: actions(LENGTHS) }, ONE_LAYER);
  });

  it('of a policy that adapts a few products, beside a Delta that adapts others', async () => {
    const { policy, delta, ...setting } = await setUp({ architecture: 'llama' }, 2, true);
    const tensors = policy.tensors.filter(({ name }) => name.includes('attn_q') || name.includes('blk.2.ffn_up'));
    assert.equal(tensors.length, 3);
    await compare(setting, { policy: { ...policy, tensors }, delta, samples: actions(LENGTHS) });
  });

  it('for 1000 tokens before an answer of 400', async () => {
    const { policy, delta, ...setting } = await setUp({ architecture: 'llama', contextLength: 2048 }, 3, true);
    const tensors = policy.tensors.filter(({ name }) => name === 'blk.0.attn_k.weight');
    const request = { policy: { ...policy, tensors }, delta, samples: actions([[1000, 400]]) };
    await compare(setting, request);
  });
});

interface Reference {
  readonly episodes: Record<
    Kind,
    {
      readonly logProbs: number[][];
      readonly entropies: number[][];
      readonly gradients: Record<string, { readonly a: string; readonly b: string }>;
    }
  >;
}

describe("PyTorch's autograd on the same weights gives the same", () => {
  const { episodes }: Reference = JSON.parse(
    readFileSync(new URL('../fixtures/policy/reference.json', import.meta.url), 'utf8'),
  );
  const decode = (text: string) => floats(Buffer.from(text, 'base64'));
  for (const kind of kinds)
    it(`over an episode with two versions of Delta (${kind})`, async () => {
      const { policy, turns, temperature } = await episodeOf(kind);
      // From the embedding on: in the layers that llama.cpp computes, K and V are in F16.
      const setting = await openTraining(modelOf(kind), { layers: 3, attention: true });
      const found: PolicyGradient[] = [];
      for (const turn of turns) found.push(await compute(setting, { policy, ...turn, temperature }));
      const { logProbs, entropies, gradients } = episodes[kind];
      const close = (actual: readonly Float64Array[], expected: readonly number[][]) => {
        assert.deepEqual(
          actual.map((x) => x.length),
          expected.map((x) => x.length),
        );
        const all = actual.flatMap((x) => [...x]);
        assert.ok(relativeDeviation(all, expected.flat()) < 1e-4);
      };
      close(
        found.flatMap((of) => of.logProbs),
        logProbs,
      );
      close(
        found.flatMap((of) => of.entropies),
        entropies,
      );
      assert.deepEqual(new Set(policy.tensors.map(({ name }) => name)), new Set(Object.keys(gradients)));
      for (const [i, { name }] of policy.tensors.entries())
        for (const part of ['a', 'b'] as const) {
          const sum = found[0]!.tensors[i]![part].map((x, k) => x + found[1]!.tensors[i]![part][k]!);
          const deviation = relativeDeviation(sum, decode(gradients[name]![part]));
          assert.ok(deviation < 1e-4, `${part} of ${name}: ${deviation}`);
        }
    });
});

describe('the gradient of the sum over samples', () => {
  const LENGTHS = [
    [20, 7],
    [31, 12],
    [14, 1],
    [200, 90],
  ] as const;
  const open = () => setUp({ architecture: 'llama' }, 3, true);

  it('is the sum of the gradients', async () => {
    const { policy, delta, ...setting } = await open();
    const samples = actions(LENGTHS);
    const together = await compute(setting, { policy, delta, samples });
    const alone: PolicyGradient[] = [];
    for (const sample of samples) alone.push(await compute(setting, { policy, delta, samples: [sample] }));
    const sum = (i: number, part: 'a' | 'b') =>
      together.tensors[i]![part].map((_, k) => alone.reduce((n, { tensors }) => n + tensors[i]![part][k]!, 0));
    same(together, {
      ...together,
      tensors: together.tensors.map(({ name }, i) => ({ name, a: sum(i, 'a'), b: sum(i, 'b') })),
    });
    for (const [i, { logProbs, entropies }] of alone.entries()) {
      assert.ok(relativeDeviation(together.logProbs[i]!, logProbs[0]!) < 1e-5);
      assert.ok(relativeDeviation(together.entropies[i]!, entropies[0]!) < 1e-5);
    }
  });

  it('grows with the weights, and is 0 where they are', async () => {
    const { policy, delta, ...setting } = await open();
    const samples = actions(LENGTHS);
    const weighted = (factor: number, of = samples) =>
      compute(setting, {
        ...{ policy, delta },
        samples: of.map((s) => ({ ...s, weights: s.weights.map((w) => factor * w) })),
      });
    const once = await weighted(1);
    const times = (factor: number) =>
      once.tensors.map(({ name, a, b }) => ({ name, a: a.map((x) => factor * x), b: b.map((x) => factor * x) }));
    same(await weighted(-3), { ...once, tensors: times(-3) });
    const nothing = await weighted(0);
    for (const { a, b } of nothing.tensors) assert.ok([...a, ...b].every((x) => x === 0));
    assert.deepEqual(nothing.logProbs, once.logProbs);
    // A sample without weights beside one with some.
    const [first, ...others] = samples as [PolicySample, ...PolicySample[]];
    const idle = others.map((s) => ({ ...s, weights: s.weights.map(() => 0) }));
    same(await weighted(1, [first, ...idle]), await weighted(1, [first]));
  });

  it('does not depend on how many layers are computed at once', async () => {
    const { policy, delta, ...setting } = await open();
    const request = { policy, delta, samples: actions(LENGTHS), temperature: TEMPERATURE };
    const whole = await compute(setting, request);
    const tapes = countTapes(setting.top);
    const byLayer = await compute(setting, request, ONE_LAYER);
    assert.equal(tapes.length, 5, 'three layers, of which two were computed again');
    same(byLayer, whole);
    assert.deepEqual(byLayer.logProbs, whole.logProbs);
    assert.deepEqual(byLayer.entropies, whole.entropies);
  });

  it('does not depend on what computes it: ggml, a BLAS, or two backends', async () => {
    const model = { architecture: 'qwen2' } as const;
    const samples = actions(LENGTHS);
    const on = async (backends?: (native: Native) => Backends) => {
      const setting = await openTraining(model, { layers: 3, attention: true, ...(backends && { backends }) });
      const policy = randomWeights(setting.top, { rank: 3, seed: 11 });
      return compute(setting, { policy, delta: deltaOf(setting.top), samples, temperature: TEMPERATURE }, ONE_LAYER);
    };
    const one = await on();
    const blas = plainBlas();
    same(await on((native) => withBlas(native, blas)), one, 1e-4);
    assert.ok(blas.calls() > 0);
    const two = await on((native) => {
      const { device, backend } = limitedBackend(native, (operation) => operation === 'SET_ROWS');
      return new Backends(native, device, backend, cpuBackend(native));
    });
    same(two, one);
  });

  it('goes no further down than the policy adapts', async () => {
    const { policy, ...setting } = await open();
    const delta = randomWeights(setting.top, { rank: 5, seed: 12 });
    const tensors = policy.tensors.filter(({ name }) => name.startsWith('blk.2.'));
    const request = { policy: { ...policy, tensors }, delta, samples: actions(LENGTHS) };
    const whole = await compute(setting, request);
    const tapes = countTapes(setting.top);
    same(await compute(setting, request, ONE_LAYER), whole);
    assert.equal(tapes.length, 3, 'none was computed again');
    await compare(setting, { ...request, policy: { ...policy, tensors: tensors.slice(0, 1) } }, ONE_LAYER);
  });

  it('needs no backward pass where it is not asked for', async () => {
    const { policy, delta, ...setting } = await open();
    const request = { policy, delta, samples: actions(LENGTHS), temperature: TEMPERATURE };
    const whole = await compute(setting, request);
    const tapes = countTapes(setting.top);
    const forward = await compute(setting, { ...request, gradient: false }, ONE_LAYER);
    assert.equal(tapes.length, 3);
    assert.ok(tapes.every(({ gradients }) => gradients.size === 0));
    assert.deepEqual(forward, { ...whole, tensors: [] });
  });

  it('is of the policy alone: Delta is not touched, and has no gradient', async () => {
    const { policy, delta, ...setting } = await open();
    const before = structuredClone({ policy, delta });
    const tapes = countTapes(setting.top);
    await compute(setting, { policy, delta, samples: actions(LENGTHS) });
    assert.deepEqual({ policy, delta }, before);
    assert.equal(tapes.length, 1);
    // One of A and one of B for each product of the policy, and none beside.
    assert.equal(tapes[0]!.gradients.size, 2 * policy.tensors.length);
    const shared = policy.tensors.filter(({ name }) => delta.tensors.some((t) => t.name === name));
    assert.equal(shared.length, 3, 'though both adapt the same products');
  });

  it('of no sample, and of one that said nothing, is 0', async () => {
    const { policy, delta, ...setting } = await open();
    const [first] = actions(LENGTHS) as [PolicySample];
    const silent = { ...first, answer: [], weights: [] };
    const none = await compute(setting, { policy, delta, samples: [] });
    assert.deepEqual([none.logProbs, none.entropies], [[], []]);
    assert.ok(none.tensors.every(({ a, b }) => [...a, ...b].every((x) => x === 0)));
    const both = await compute(setting, { policy, delta, samples: [silent, first] });
    assert.equal(both.logProbs[0]!.length, 0);
    same(both, await compute(setting, { policy, delta, samples: [first] }));
  });

  it('is refused for what makes no sense, and stops at a signal', async () => {
    const { policy, delta, ...setting } = await open();
    const [sample] = actions(LENGTHS) as [PolicySample];
    const refuses = (changes: Partial<PolicySample>, message: RegExp) =>
      assert.rejects(compute(setting, { policy, delta, samples: [{ ...sample, ...changes }] }), {
        code: 'usage',
        message,
      });
    await refuses({ prompt: [] }, /sample 1 has an empty prompt/);
    await refuses({ weights: [1] }, /7 answer tokens and 1 weights/);
    await refuses({ weights: sample.weights.map(() => Number.NaN) }, /not a finite number/);
    await refuses({ prompt: [107 as Token] }, /token 107, which is not in the vocabulary of 107/);
    for (const temperature of [0, -1, Number.NaN])
      await assert.rejects(compute(setting, { policy, delta, samples: [sample], temperature }), { code: 'usage' });
    const aborted = { policy, delta, samples: [sample], signal: AbortSignal.abort() };
    await assert.rejects(compute(setting, aborted), { code: 'aborted' });
    const huge = { ...policy, tensors: policy.tensors.map((t) => ({ ...t, b: t.b.map(() => 1e38) })) };
    for (const gradient of [true, false])
      await assert.rejects(compute(setting, { policy: huge, delta, samples: [sample], gradient }), { code: 'failed' });
  });
});

/** Every tape that is made from now on. */
function countTapes(top: TopLayers): Tape[] {
  const tapes: Tape[] = [];
  const make = top.newTape.bind(top);
  top.newTape = () => {
    const tape = make();
    tapes.push(tape);
    return tape;
  };
  return tapes;
}
