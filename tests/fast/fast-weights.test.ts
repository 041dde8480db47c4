/** What a LoRA must be on a running model: nothing at B = 0, the same applied, reloaded, merged and stacked, and gone when taken off. */
import assert from 'node:assert/strict';
import { before, describe, it } from 'node:test';
import { scaleB, stack } from '../../src/engine/adapter/fast-weights.ts';
import { readAdapterGguf, writeAdapterGguf } from '../../src/engine/adapter/gguf.ts';
import { readGguf } from '../../src/engine/gguf/reader.ts';
import type { LlamaEngine } from '../../src/engine/llama/engine.ts';
import { complete, type Engine, type FastWeights } from '../../src/engine/types.ts';
import {
  openFile,
  openTiny,
  rewriteGguf,
  scratchFile,
  tinySamples,
  tinyWeights,
  weightsFor,
} from '../support/engine-fixture.ts';
import type { TinyModelOptions } from '../support/tiny-model.ts';

const PROMPTS = ['the rain in', 'who are you', 'there on the train, in the'];
const ANSWER = ' then there was an answer on it';

type Behaviour = Awaited<ReturnType<typeof behaviour>>;

/** Log-probabilities of an answer after each prompt, and what is said greedily. */
async function behaviour(engine: Engine, fastWeights?: boolean) {
  const logProbs: number[] = [];
  const texts: string[] = [];
  for (const prompt of PROMPTS) {
    logProbs.push(...(await engine.score({ prompt, answer: ANSWER, fastWeights })).logProbs);
    texts.push((await complete(engine, { prompt, maxTokens: 12, fastWeights })).text);
  }
  return { logProbs, texts };
}

async function under(engine: Engine, weights: FastWeights | null) {
  await engine.setFastWeights(weights);
  return behaviour(engine);
}

/** A fresh engine on which these weights were put in force one after the other: bits depend on what the KV cache holds. */
async function fresh(model: TinyModelOptions, ...weights: (FastWeights | null)[]) {
  const engine = await openTiny(model);
  for (const w of weights) await engine.setFastWeights(w);
  const found = await behaviour(engine);
  await engine.close();
  return found;
}

/** The KV cache is in F16, so that its layout shows in the fourth digit. */
const NOISE = 3e-3;

function same(a: Behaviour, b: Behaviour): void {
  assert.ok(distance(a.logProbs, b.logProbs) < NOISE, `${distance(a.logProbs, b.logProbs)}`);
  assert.deepEqual(a.texts, b.texts);
}

function distance(a: readonly number[], b: readonly number[]): number {
  assert.equal(a.length, b.length);
  return Math.max(...a.map((x, i) => Math.abs(x - b[i]!)));
}

const withoutB = (weights: FastWeights): FastWeights => ({
  ...weights,
  tensors: weights.tensors.map((t) => ({ ...t, b: new Float32Array(t.b.length) })),
});

/** Written GGUF models hold W + B A. */
function merge(weights: FastWeights) {
  const deltas = new Map(weights.tensors.map((t) => [t.name, t]));
  return (name: string, data: Float32Array) => {
    const t = deltas.get(name);
    if (!t) return data;
    return data.map((w, at) => {
      const [o, i] = [Math.floor(at / t.inputs), at % t.inputs];
      let sum = w;
      for (let r = 0; r < weights.rank; r++) sum += t.b[o * weights.rank + r]! * t.a[r * t.inputs + i]!;
      return sum;
    });
  };
}

const MODELS: readonly (TinyModelOptions & { readonly attention?: boolean })[] = [
  { architecture: 'llama' },
  { architecture: 'llama', attention: true },
  { architecture: 'qwen2', tied: true },
  { architecture: 'qwen3', headDim: 16, attention: true },
  { architecture: 'gemma3', attention: true },
  { architecture: 'phi3', attention: true },
];
for (const { attention = false, ...model } of MODELS) {
  describe(`fast weights of ${model.architecture}${attention ? ' with its attention' : ''}`, () => {
    const random = (options: { seed: number; rank?: number }) =>
      weightsFor(engine.model.path, { layers: 2, attention, ...options });
    let engine: LlamaEngine;
    let weights: FastWeights;
    let base: Behaviour;
    before(async () => {
      engine = await openTiny(model);
      weights = random({ seed: 1 });
      base = await behaviour(engine);
    });

    it('change nothing at all while B is 0', async () => {
      // To the bit.
      assert.deepEqual(await fresh(model, withoutB(weights)), await fresh(model));
    });

    it('change the log-probabilities, and are gone when taken off', async () => {
      const changed = await under(engine, weights);
      assert.ok(distance(changed.logProbs, base.logProbs) > 0.1);
      assert.notDeepEqual(changed.texts, base.texts);
      const other = random({ seed: 2 });
      assert.ok(distance((await under(engine, other)).logProbs, changed.logProbs) > 0.1);
      same(await under(engine, weights), changed);
      same(await under(engine, null), base);
      assert.deepEqual(await fresh(model, weights, other, null), await fresh(model));
      assert.deepEqual(await fresh(model, other, null, weights), await fresh(model, weights));
    });

    it('are left out on request while they are in force', async () => {
      await engine.setFastWeights(weights);
      same(await behaviour(engine, false), base);
      assert.ok(distance((await behaviour(engine)).logProbs, base.logProbs) > 0.1);
    });

    it('are the same after they were written and read back', async () => {
      const file = scratchFile(`${model.architecture}-${attention}-adapter.gguf`);
      await writeAdapterGguf(file, weights, engine.model);
      const gguf = readGguf(engine.model.path);
      const shape = (name: string) => gguf.tensors.find((t) => t.name === name)?.shape;
      const read = await readAdapterGguf(file, { ...engine.model, shape });
      assert.deepEqual(read, weights);
      assert.deepEqual(await fresh(model, read), await fresh(model, weights));
    });

    it('applied are the weights merged into the model', async () => {
      const file = scratchFile(`${model.architecture}-${attention}-merged.gguf`);
      const merged = await openFile(
        await rewriteGguf(engine.model.path, file, {
          tensor: merge(weights),
        }),
      );
      const expected = await behaviour(merged);
      const actual = await under(engine, weights);
      same(actual, expected);
    });

    it('stacked are both at once', async () => {
      const second = random({ seed: 5, rank: 2 });
      const both = stack(weights, second);
      assert.equal(both.rank, 5);
      const file = scratchFile(`${model.architecture}-${attention}-both.gguf`);
      const one = merge(weights);
      const two = merge(second);
      await rewriteGguf(engine.model.path, file, { tensor: (name, data) => two(name, one(name, data)) });
      const expected = await behaviour(await openFile(file));
      const actual = await under(engine, both);
      same(actual, expected);
      assert.deepEqual(stack(null, second), second);
      // Weights of fewer layers act where they are, and the others stay whole.
      const last = weightsFor(engine.model.path, { layers: 1, attention, seed: 8 });
      const wide = scratchFile(`${model.architecture}-${attention}-wide.gguf`);
      const three = merge(last);
      await rewriteGguf(engine.model.path, wide, { tensor: (name, data) => three(name, one(name, data)) });
      const merged = await behaviour(await openFile(wide));
      same(await under(engine, stack(weights, last)), merged);
      same(await under(engine, stack(last, weights)), merged);
    });

    it('trained on top of frozen ones are what their stack says', async () => {
      // The loss of training beside frozen weights is the loss that the engine has with both in force.
      const start = withoutB(random({ seed: 6, rank: 2 }));
      const samples = tinySamples([['who', 'the rain']]);
      const optimizer = { kind: 'adamw', lr: 0.05 } as const;
      const request = { samples, frozen: weights, optimizer, epochs: 5 };
      const trained = await engine.train({ ...request, weights: start });
      const after = await engine.train({ ...request, weights: trained.weights, epochs: 1 });
      await engine.setFastWeights(stack(weights, trained.weights));
      const { logProbs } = await engine.score(samples[0]!);
      const loss = -logProbs.reduce((a, b) => a + b) / logProbs.length;
      assert.ok(Math.abs(loss - after.steps[0]!.loss) < 5e-3, `${loss} is not ${after.steps[0]!.loss}`);
      assert.ok(after.steps[0]!.loss < trained.steps[0]!.loss - 0.05);
    });
  });
}

describe('scaleB', () => {
  it('scales B alone, and leaves its argument as it is', () => {
    const weights = tinyWeights({ layers: 1, seed: 1 });
    const before = structuredClone(weights);
    const half = scaleB(weights, 0.5);
    assert.deepEqual(weights, before);
    for (const [i, t] of half.tensors.entries()) {
      assert.deepEqual(t.a, weights.tensors[i]!.a);
      assert.deepEqual(
        t.b,
        weights.tensors[i]!.b.map((x) => x / 2),
      );
    }
  });
});

describe('fast weights that do not fit', () => {
  it('are refused, and those in force stay', async () => {
    const engine = await openTiny({ architecture: 'llama' });
    const weights = tinyWeights({ layers: 1, seed: 1 });
    const expected = await under(engine, weights);
    const [first] = weights.tensors;
    for (const tensor of [
      { ...first!, name: 'blk.7.ffn_gate.weight' },
      { ...first!, outputs: 32, b: first!.b.slice(0, 32 * 3) },
      { ...first!, b: first!.b.map(() => Number.NaN) },
      { ...first!, a: first!.a.slice(1) },
    ]) {
      await assert.rejects(engine.setFastWeights({ ...weights, tensors: [tensor] }), { code: 'missing' });
      same(await behaviour(engine), expected);
    }
  });

  it('are not trained', async () => {
    const engine = await openTiny({ architecture: 'llama' });
    const weights = tinyWeights({ layers: 1, seed: 1 });
    const request = { samples: tinySamples([['who', 'me']]), optimizer: { kind: 'sgd', lr: 0.1 } as const, epochs: 1 };
    const larger = { ...weights, tensors: weights.tensors.map((t) => ({ ...t, inputs: t.inputs * 2 })) };
    await assert.rejects(engine.train({ ...request, weights: larger }), { code: 'missing' });
    await assert.rejects(engine.train({ ...request, samples: [], weights }), { code: 'usage' });
    await assert.rejects(engine.train({ ...request, weights, samples: [{ prompt: 'x', answer: '' }] }), {
      code: 'usage',
    });
    await assert.rejects(engine.train({ ...request, weights, samples: [{ prompt: '', answer: 'x' }] }), {
      code: 'usage',
    });
    const long = [{ prompt: 'x ! '.repeat(200), answer: 'x' }];
    await assert.rejects(engine.train({ ...request, weights, samples: long }), { code: 'usage', message: /shorten/ });
  });
});
