/** The training graph is llama.cpp's, and a model for which it is not is never trained. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { graphDeviation, verifyTrainingGraph } from '../../src/engine/llama/verify.ts';
import { trainableArchitectures } from '../../src/engine/training/architectures/index.ts';
import { TopLayers } from '../../src/engine/training/top-layers.ts';
import { complete } from '../../src/engine/types.ts';
import {
  openFile,
  openTraining,
  rewriteGguf,
  scratchFile,
  tinyModel,
  tinySamples,
  tinyWeights,
} from '../support/engine-fixture.ts';
import type { TinyModelOptions } from '../support/tiny-model.ts';

const MODELS: readonly TinyModelOptions[] = [
  { architecture: 'llama' },
  { architecture: 'llama', tied: true, kvHeads: 4 },
  { architecture: 'llama', headDim: 16, kvHeads: 1 },
  { architecture: 'qwen2' },
  { architecture: 'qwen2', tied: true },
  { architecture: 'qwen3' },
  { architecture: 'qwen3', headDim: 16, tied: true },
  { architecture: 'gemma3', tied: true },
  { architecture: 'gemma3', headDim: 16, kvHeads: 1 },
  { architecture: 'gemma3', window: 8, layers: 7 },
  { architecture: 'phi3' },
  { architecture: 'phi3', kvHeads: 4, tied: true },
];
/** llama.cpp keeps keys and values in F16, or the products of F16 weights in part. */
const F32_DEVIATION = 2e-3;
const F16_DEVIATION = 1e-2;
const Q8_DEVIATION = 3e-2;

describe('the training graph gives the logits of llama.cpp', () => {
  for (const model of MODELS) {
    it(`on ${JSON.stringify(model)}`, async () => {
      for (const layers of [1, 2, model.layers ?? 3]) {
        for (const attention of [false, true]) {
          const { top, prefix, model: llama } = await openTraining(model, { layers, attention });
          const deviation = graphDeviation(top, prefix, llama);
          assert.ok(deviation < F32_DEVIATION, `last ${layers} layers, attention ${attention}: ${deviation}`);
          verifyTrainingGraph(top, prefix, llama);
        }
      }
    });
  }

  for (const [type, limit] of [
    ['F16', F16_DEVIATION],
    ['BF16', F16_DEVIATION],
    ['Q8_0', Q8_DEVIATION],
  ] as const) {
    it(`on weights of type ${type}`, async () => {
      for (const architecture of trainableArchitectures as TinyModelOptions['architecture'][]) {
        const { top, prefix, model } = await openTraining({ architecture, type, width: 64 }, { layers: 2 });
        const deviation = graphDeviation(top, prefix, model);
        assert.ok(deviation < limit, `${architecture}: ${deviation}`);
      }
    });
  }

  it('on weights that are rearranged or converted for speed', async () => {
    const wide = { architecture: 'llama', width: 256, feedForward: 512, layers: 2 } as const;
    for (const type of ['Q4_0', 'Q4_1', 'Q5_0', 'IQ4_NL', 'Q4_K', 'Q5_K', 'Q6_K'] as const) {
      const { top, prefix, model } = await openTraining({ ...wide, type }, { layers: 2 });
      const deviation = graphDeviation(top, prefix, model);
      assert.ok(deviation < Q8_DEVIATION, `${type}: ${deviation}`);
      assert.ok(deviation > 0);
    }
  });

  it('with linear RoPE scaling', async () => {
    const file = await rewriteGguf(await tinyModel({ architecture: 'llama' }), scratchFile('linear.gguf'), {
      metadata: {
        'llama.rope.scaling.type': 'linear',
        'llama.rope.scaling.factor': { type: 'f32', value: 4 },
      },
    });
    const engine = await openFile(file);
    const optimizer = { kind: 'sgd', lr: 0.01 } as const;
    const samples = tinySamples([['who', 'the train']]);
    const weights = tinyWeights({ layers: 2, seed: 1 });
    assert.equal((await engine.train({ samples, weights, optimizer, epochs: 1 })).steps.length, 1);
  });
});

describe('a training graph that differs is refused', () => {
  const refusal = {
    code: 'missing',
    message: /cannot be trained: its training graph differs from llama\.cpp's by \d+ %/,
  };

  for (const [what, metadata] of [
    ['another RoPE base', { 'llama.rope.freq_base': { type: 'f32', value: 50 } }],
    ['another norm', { 'llama.attention.layer_norm_rms_epsilon': { type: 'f32', value: 1 } }],
    [
      'RoPE scaled another way',
      { 'llama.rope.scaling.type': 'linear', 'llama.rope.scaling.factor': { type: 'f32', value: 8 } },
    ],
    ['fewer rotated channels', { 'llama.rope.dimension_count': { type: 'u32', value: 2 } }],
  ] as const) {
    it(`for ${what}`, async () => {
      const options = { architecture: 'llama', seed: 3 } as const;
      const changed = await rewriteGguf(await tinyModel(options), scratchFile('changed.gguf'), { metadata });
      const { top, prefix, model } = await openTraining(options, { layers: 2, readFrom: changed });
      assert.throws(() => verifyTrainingGraph(top, prefix, model), refusal);
    });
  }

  it('for other weights', async () => {
    const options = { architecture: 'qwen2' } as const;
    const changed = await rewriteGguf(await tinyModel(options), scratchFile('weights.gguf'), {
      tensor: (name, data) => (name === 'blk.2.attn_q.bias' ? data.map((x) => x + 1) : data),
    });
    const { top, prefix, model } = await openTraining(options, { layers: 2, readFrom: changed });
    assert.throws(() => verifyTrainingGraph(top, prefix, model), refusal);
  });

  it('by the engine, which still answers', async () => {
    // The training graph has no YaRN.
    const file = await rewriteGguf(await tinyModel({ architecture: 'llama' }), scratchFile('yarn.gguf'), {
      metadata: {
        'llama.rope.scaling.type': 'yarn',
        'llama.rope.scaling.factor': { type: 'f32', value: 16 },
        'llama.rope.scaling.original_context_length': { type: 'u32', value: 32 },
      },
    });
    const engine = await openFile(file);
    const training = engine.train({
      samples: tinySamples([['who', 'the train']]),
      weights: tinyWeights({ layers: 2, seed: 1 }),
      optimizer: { kind: 'sgd', lr: 0.01 },
      epochs: 1,
    });
    await assert.rejects(training, refusal);
    await assert.rejects(engine.initialise({ init: { kind: 'svd' }, rank: 2, layers: 2 }), refusal);
    assert.equal((await complete(engine, { prompt: 'the rain', maxTokens: 4 })).outputTokens, 4);
  });
});

describe('models and layers that cannot be trained', () => {
  it('are refused before anything is loaded', async () => {
    const file = await tinyModel({ architecture: 'llama' });
    for (const layers of [0, 4, 1.5, Number.NaN])
      assert.throws(() => new TopLayers(file, { layers, threads: 1 }), { code: 'usage' });
    const unknown = await rewriteGguf(file, scratchFile('unknown.gguf'), {
      metadata: { 'general.architecture': 'falcon' },
    });
    assert.throws(() => new TopLayers(unknown, { layers: 1, threads: 1 }), { code: 'missing', message: /falcon/ });
  });
});
