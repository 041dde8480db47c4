/** The gradient of the whole training graph against finite differences, on a tiny random F32 model of each architecture. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { PreparedSample } from '../../src/engine/training/packed-batch.ts';
import { freePieces } from '../../src/engine/training/pieces.ts';
import type { TopLayers } from '../../src/engine/training/top-layers.ts';
import { Trainer } from '../../src/engine/training/trainer.ts';
import type { FastWeights } from '../../src/engine/types.ts';
import { openTraining, randomWeights, tinySamples } from '../support/engine-fixture.ts';
import { derivativeAsync, dot, relativeDeviation } from '../support/finite-differences.ts';
import { gaussian, type TinyModelOptions } from '../support/tiny-model.ts';

const TOLERANCE = 1e-3;
const STEP = 0.03;
const SGD = { kind: 'sgd', lr: 1 } as const;
const PAIRS = [
  ['who are you', 'the ninth', 1],
  ['where', 'on a train', 0.5],
  ['what is in there', 'an answer', 2],
] as const;

type Gradient = Map<string, Float32Array>;

class Check {
  readonly trainer: Trainer;

  constructor(top: TopLayers, weights: FastWeights, frozen?: FastWeights, trainsA = false) {
    this.trainer = new Trainer(top, weights, SGD, frozen, { trainsA });
  }

  /** Loss and gradient, with the samples packed as a step packs them. */
  async evaluate(samples: readonly PreparedSample[]) {
    const pieces = this.trainer.pack(samples);
    try {
      const { loss, gradNorm, tokenLosses } = await this.trainer.gradient(pieces);
      const worstTokens = tokenLosses.map((losses) => Math.max(...losses));
      const gradient: Gradient = new Map();
      const { state } = this.trainer;
      for (const slot of state.slots.values()) gradient.set(slot.name, state.get(slot.ofB!.gradient));
      return { loss, gradNorm, worstTokens, gradient, pieces: pieces.map(({ batch }) => batch.prefix) };
    } finally {
      for (const { batch, first } of pieces) {
        batch.free();
        first?.free();
      }
    }
  }

  setB(name: string, values: Float32Array): void {
    const { state } = this.trainer;
    state.set(state.slots.get(name)!.b, values);
  }
}

async function setUp(
  model: TinyModelOptions,
  layers: number,
  options: { frozen?: boolean; attention?: boolean; rank?: number } = {},
) {
  const { top, prefix } = await openTraining(model, { layers, attention: options.attention ?? false });
  const weights = randomWeights(top, { rank: options.rank ?? 2, seed: 11 });
  const frozen = options.frozen ? randomWeights(top, { rank: 3, seed: 12 }) : undefined;
  const check = new Check(top, weights, frozen);
  return { top, prefix, weights, frozen, check };
}

/** Compares the gradient with differences of the loss along two directions of each B. */
async function compare(check: Check, weights: FastWeights, samples: readonly PreparedSample[]): Promise<void> {
  const { gradient, pieces } = await check.evaluate(samples);
  assert.ok(pieces[0]! > 0, 'the samples share a prefix');
  const normal = gaussian(21);
  for (const { name, b } of weights.tensors) {
    // One random direction over all elements, and the steepest one.
    const found = gradient.get(name)!;
    const size = Math.sqrt(dot(found, found));
    const steepest = Float64Array.from(found, (x) => x / size);
    const random = Float64Array.from(b, normal);
    for (const direction of [steepest, random]) {
      const length = Math.sqrt(dot(direction, direction));
      const expected = await derivativeAsync(async (t) => {
        check.setB(
          name,
          b.map((x, i) => x + (t * direction[i]!) / length),
        );
        return (await check.evaluate(samples)).loss;
      }, STEP);
      check.setB(name, b);
      const actual = dot(found, direction) / length;
      // The steepest slope of this B is the scale: a random direction may happen to have hardly any.
      assert.ok(Math.abs(actual - expected) < TOLERANCE * size, `${name}: ${actual} is not ${expected} (of ${size})`);
    }
  }
}

const MODELS: readonly (TinyModelOptions & { readonly title: string })[] = [
  { title: 'llama', architecture: 'llama' },
  { title: 'llama with a tied head', architecture: 'llama', tied: true },
  { title: 'qwen2', architecture: 'qwen2', tied: true },
  { title: 'qwen3 with its own head size', architecture: 'qwen3', headDim: 16 },
  { title: 'gemma3 with a window', architecture: 'gemma3', tied: true, window: 8 },
  { title: 'phi3', architecture: 'phi3' },
];

describe('the gradient of B agrees with finite differences', () => {
  for (const { title, ...model } of MODELS) {
    for (const layers of [1, 2, 3]) {
      it(`${title}, last ${layers} of 3 layers`, async () => {
        const { prefix, check, weights } = await setUp(model, layers, { frozen: layers !== 2 });
        await compare(check, weights, await prefix.prepare(tinySamples(PAIRS)));
        check.trainer.free();
      });
      // The attention of the first layer has no gradient to its input, that of the second has.
      if (layers > 2) continue;
      it(`${title}, last ${layers} of 3 layers with their attention`, async () => {
        const { prefix, check, weights } = await setUp(model, layers, { attention: true, frozen: layers !== 2 });
        assert.ok(weights.tensors.some(({ name }) => name.includes('attn_output')));
        await compare(check, weights, await prefix.prepare(tinySamples(PAIRS)));
        check.trainer.free();
      });
    }
  }
});

describe('the gradient of A, where it is trained, agrees with finite differences', () => {
  for (const [layers, attention] of [
    [1, false],
    [2, false],
    [2, true],
  ] as const)
    it(`last ${layers} of 3 layers${attention ? ' with their attention' : ''}`, async () => {
      const { top, prefix } = await openTraining({ architecture: 'llama' }, { layers, attention });
      const weights = randomWeights(top, { rank: 2, seed: 11 });
      const frozen = randomWeights(top, { rank: 3, seed: 12 });
      const samples = await prefix.prepare(tinySamples(PAIRS));
      const at = async (changed: FastWeights) => {
        const check = new Check(top, changed, frozen, true);
        const found = await check.evaluate(samples);
        const { state } = check.trainer;
        const slots = [...state.slots.values()];
        const ofA = slots.map(({ ofA, source }) => state.getA(ofA!.gradient, source.inputs));
        check.trainer.free();
        return { ...found, ofA };
      };
      const { ofA, gradient, gradNorm } = await at(weights);
      const all = [...ofA, ...gradient.values()];
      const norm = Math.sqrt(all.reduce((sum, x) => sum + dot(x, x), 0));
      assert.ok(Math.abs(gradNorm - norm) < 1e-4 * norm, 'the norm is that of both');
      const normal = gaussian(22);
      for (const [i, { name, a }] of weights.tensors.entries()) {
        const found = ofA[i]!;
        const size = Math.sqrt(dot(found, found));
        assert.ok(size > 0, name);
        for (const direction of [Float64Array.from(found, (x) => x / size), Float64Array.from(a, normal)]) {
          const length = Math.sqrt(dot(direction, direction));
          const expected = await derivativeAsync(async (t) => {
            const moved = a.map((x, k) => x + (t * direction[k]!) / length);
            const tensors = weights.tensors.map((tensor, k) => (k === i ? { ...tensor, a: moved } : tensor));
            return (await at({ ...weights, tensors })).loss;
          }, STEP);
          const actual = dot(found, direction) / length;
          assert.ok(
            Math.abs(actual - expected) < TOLERANCE * size,
            `${name}: ${actual} is not ${expected} (of ${size})`,
          );
        }
      }
    });
});

/** Distributions over a few tokens at each answer token, of which two samples are to match one. */
function soften(samples: readonly PreparedSample[]): PreparedSample[] {
  const random = gaussian(31);
  return samples.map((sample, i) => {
    if (i === 1) return sample;
    const targets = Array.from({ length: sample.tokens.length - sample.promptLength }, (_, t) => ({
      tokens: Int32Array.of(3, 17, 40 + t, 64),
      logProbs: Float32Array.from({ length: 4 }, () => -2 + random()),
    }));
    return { ...sample, targets };
  });
}

describe('so it does where a distribution is to be matched', () => {
  it('beside a sample with labels', async () => {
    const { prefix, check, weights } = await setUp({ architecture: 'qwen2', tied: true }, 2);
    await compare(check, weights, soften(await prefix.prepare(tinySamples(PAIRS))));
    check.trainer.free();
  });

  it('of which the model itself is the minimum', async () => {
    const { prefix, check, top } = await setUp({ architecture: 'llama' }, 2);
    const samples = await prefix.prepare(tinySamples(PAIRS));
    const pieces = check.trainer.pack(samples);
    const logits: Float32Array[] = [];
    await check.trainer.losses(pieces, undefined, (found) => logits.push(found));
    freePieces(pieces);
    const { V } = top.shape;
    const tokens = Int32Array.from({ length: V }, (_, i) => i);
    const all = Float32Array.from(logits.flatMap((part) => [...part]));
    let row = 0;
    const own = samples.map((sample) => ({
      ...sample,
      targets: Array.from({ length: sample.tokens.length - sample.promptLength }, () => ({
        tokens,
        logProbs: all.slice(V * row, V * ++row),
      })),
    }));
    const [labels, itself] = [await check.evaluate(samples), await check.evaluate(own)];
    assert.ok(Math.abs(itself.loss) < 1e-4, `${itself.loss}`);
    assert.ok(itself.gradNorm < 1e-3 * labels.gradNorm, `${itself.gradNorm} of ${labels.gradNorm}`);
    check.trainer.free();
  });

  it('but not of another number of tokens than the answer has', async () => {
    const { prefix } = await setUp({ architecture: 'llama' }, 1);
    const [sample] = tinySamples(PAIRS);
    const targets = [{ tokens: Int32Array.of(1), logProbs: Float32Array.of(0) }];
    await assert.rejects(prefix.prepare([{ ...sample!, targets }]), /answer tokens and targets for 1/);
  });
});

describe('so it does at the ends of the range of ranks', () => {
  for (const rank of [1, 64]) {
    it(`rank ${rank}`, async () => {
      const { prefix, check, weights } = await setUp({ architecture: 'llama' }, 2, { rank });
      await compare(check, weights, await prefix.prepare(tinySamples(PAIRS)));
      check.trainer.free();
    });
  }
});

/** Weighted means of what each sample gives alone. */
async function separately(check: Check, samples: readonly PreparedSample[]) {
  const worstTokens: number[] = [];
  const mean: Map<string, Float64Array> = new Map();
  let loss = 0;
  let total = 0;
  for (const sample of samples) {
    const one = await check.evaluate([sample]);
    assert.deepEqual(one.pieces, [0]);
    const weight = sample.weight * (sample.tokens.length - sample.promptLength);
    worstTokens.push(...one.worstTokens);
    loss += weight * one.loss;
    total += weight;
    for (const [name, values] of one.gradient) {
      const sum = mean.get(name) ?? new Float64Array(values.length);
      mean.set(
        name,
        sum.map((x, i) => x + weight * values[i]!),
      );
    }
  }
  for (const [name, sum] of mean) {
    mean.set(
      name,
      sum.map((x) => x / total),
    );
  }
  return { worstTokens, loss: loss / total, gradient: mean };
}

describe('packing', () => {
  for (const architecture of ['llama', 'qwen2', 'qwen3'] as const) {
    // With three layers the prefix's own attention matters: two attend to what it computes.
    it(`behind a shared prefix changes neither loss nor gradient (${architecture})`, async () => {
      const { prefix, check } = await setUp({ architecture }, 3, { frozen: true });
      const samples = await prefix.prepare(tinySamples(PAIRS));
      const together = await check.evaluate(samples);
      assert.equal(together.pieces.length, 1);
      assert.ok(together.pieces[0]! > 20);
      await same(check, samples, together);
    });
  }

  it('into several pieces accumulates the gradient of one', async () => {
    const { prefix, check } = await setUp({ architecture: 'llama' }, 2);
    const long = 'a long question about the train and the rain and the brain '.repeat(3);
    const pairs = Array.from(
      { length: 9 },
      (_, i) => [`${i} ${long}`, `answer ${'on '.repeat(i)}`, 1 + i / 4] as const,
    );
    const samples = await prefix.prepare(tinySamples(pairs));
    const together = await check.evaluate(samples);
    assert.ok(together.pieces.length >= 2, `${together.pieces.length} pieces`);
    await same(check, samples, together);
  });

  async function same(
    check: Check,
    samples: readonly PreparedSample[],
    together: Awaited<ReturnType<Check['evaluate']>>,
  ) {
    const alone = await separately(check, samples);
    assert.ok(Math.abs(together.loss / alone.loss - 1) < 1e-5, `${together.loss} is not ${alone.loss}`);
    assert.ok(relativeDeviation(together.worstTokens, alone.worstTokens) < 1e-5);
    let squares = 0;
    for (const [name, values] of alone.gradient) {
      assert.ok(relativeDeviation(together.gradient.get(name)!, values) < 1e-4, name);
      squares += dot(values, values);
    }
    assert.ok(Math.abs(together.gradNorm / Math.sqrt(squares) - 1) < 1e-4);
    check.trainer.free();
  }
});
