import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { after, describe, it } from 'node:test';
import { writeSafetensors } from '../../src/engine/adapter/safetensors.ts';
import { TmemError } from '../../src/engine/errors.ts';
import { LlamaEmbedder, type LlamaEmbedderOptions } from '../../src/engine/llama/embedder.ts';
import { LlamaEngine } from '../../src/engine/llama/engine.ts';
import { convertBert } from '../../src/engine/models/bert.ts';
import { openEmbedder } from '../../src/engine/process/client.ts';
import type { Embedder } from '../../src/engine/types.ts';
import { openFile, rewriteGguf, scratchFile, tinyModel } from '../support/engine-fixture.ts';
import {
  bertEmbedding,
  type Pooling,
  TINY_VOCABULARY,
  type TinyBert,
  type TinyBertOptions,
  wordPieces,
  writeTinyBert,
} from '../support/tiny-bert.ts';

const opened: Embedder[] = [];
after(() => Promise.all(opened.map((embedder) => embedder.close())));

let files = 0;
async function open(
  model: TinyBertOptions,
  options: Partial<LlamaEmbedderOptions> = {},
): Promise<{ embedder: LlamaEmbedder; weights: TinyBert; modelPath: string }> {
  const modelPath = scratchFile(`bert-${files++}.gguf`);
  const weights = await writeTinyBert(modelPath, model);
  const embedder = await LlamaEmbedder.open({ modelPath, threads: 1, ...options });
  opened.push(embedder);
  return { embedder, weights, modelPath };
}

const TEXTS = ['the cat is singing.', 'Is the DOG here?', 'a', '100 % of it', ''];
const isError = (code: string, message: RegExp) => (error: unknown) =>
  error instanceof TmemError && error.code === code && message.test(error.message);
const dot = (a: ArrayLike<number>, b: ArrayLike<number>) => Array.from(a).reduce((sum, x, i) => sum + x * b[i]!, 0);

function assertClose(got: ArrayLike<number>, wanted: ArrayLike<number>, within: number): void {
  assert.equal(got.length, wanted.length);
  const furthest = Math.max(...Array.from(got, (x, i) => Math.abs(x - wanted[i]!)));
  assert.ok(furthest < within, `${furthest} apart`);
}

describe('an encoder', () => {
  for (const architecture of ['bert', 'nomic-bert'] as const)
    for (const pooling of ['mean', 'cls', 'last'] as const satisfies Pooling[])
      it(`${architecture} gives what plain TypeScript computes, with ${pooling} pooling`, async () => {
        const { embedder, weights } = await open({ architecture, pooling });
        const vectors = await embedder.embed(TEXTS);
        for (const [i, text] of TEXTS.entries())
          assertClose(vectors[i]!, bertEmbedding(weights, wordPieces(text), pooling), 1e-3);
      });

  it('takes the mean where the file does not say how to pool', async () => {
    for (const pooling of [undefined, 0]) {
      const { embedder, weights } = await open({ pooling });
      const [vector] = await embedder.embed(['the cat is here']);
      assertClose(vector!, bertEmbedding(weights, wordPieces('the cat is here'), 'mean'), 1e-3);
    }
  });

  it('gives the same for a text alone and among more texts than fit in a batch, all of length 1', async () => {
    const { embedder } = await open({});
    const texts = Array.from({ length: 150 }, (_, i) => `the cat ${'is '.repeat(i % 20)}here ${i}.`);
    const together = await embedder.embed(texts);
    assert.equal(together.length, texts.length);
    for (const vector of together) assert.ok(Math.abs(dot(vector, vector) - 1) < 1e-6);
    for (const i of [0, 19, 70, 149]) {
      const [alone] = await embedder.embed([texts[i]!]);
      assertClose(together[i]!, alone!, 1e-3);
    }
    assert.ok(dot(together[0]!, together[19]!) < 0.99, 'texts differ');
    assert.deepEqual(await embedder.embed([]), []);
  });

  it('cuts a long text at the context and still closes it', async () => {
    for (const [contextLength, contextSize] of [
      [16, undefined],
      [64, 16],
    ] as const) {
      const { embedder, weights } = await open({ contextLength }, { contextSize });
      const [vector] = await embedder.embed(['the cat is singing '.repeat(50)]);
      const tokens = wordPieces('the cat is singing '.repeat(50));
      const cut = [...tokens.slice(0, 15), tokens.at(-1)!];
      assertClose(vector!, bertEmbedding(weights, cut, 'mean'), 1e-3);
    }
  });

  it('puts the prefix of a query or of a document before a text', async () => {
    const { embedder, weights } = await open({}, { prefixes: { query: 'is ', document: 'the ' } });
    const [query] = await embedder.embed(['cat'], { query: true });
    const [document] = await embedder.embed(['cat']);
    assertClose(query!, bertEmbedding(weights, wordPieces('is cat'), 'mean'), 1e-3);
    assertClose(document!, bertEmbedding(weights, wordPieces('the cat'), 'mean'), 1e-3);
  });

  it('reads the names of special tokens in a text as plain text', async () => {
    const { embedder, weights } = await open({});
    const [vector] = await embedder.embed(['cat [SEP] the']);
    // Neither bracket is in the vocabulary.
    const tokens = wordPieces('cat % sep % the');
    assertClose(vector!, bertEmbedding(weights, tokens, 'mean'), 1e-3);
  });

  it('stops when the signal fires, and goes on afterwards', async () => {
    const { embedder } = await open({});
    await assert.rejects(embedder.embed(['cat'], { signal: AbortSignal.abort() }), isError('aborted', /./));
    const controller = new AbortController();
    const running = embedder.embed(Array(1000).fill('the cat is here'), { signal: controller.signal });
    setImmediate(() => controller.abort());
    await assert.rejects(running, isError('aborted', /./));
    assert.equal((await embedder.embed(['cat'])).length, 1);
  });

  it('serves calls that come at once', async () => {
    const { embedder } = await open({});
    const lists = [Array(100).fill('the cat'), Array(100).fill('a dog')];
    const [cats, dogs] = await Promise.all(lists.map((texts) => embedder.embed(texts)));
    const [cat, dog] = await embedder.embed(['the cat', 'a dog']);
    for (const i of [0, 99]) {
      assertClose(cats![i]!, cat!, 1e-5);
      assertClose(dogs![i]!, dog!, 1e-5);
    }
    assert.ok(dot(cat!, dog!) < 0.99);
  });

  it('is refused where a model is to talk', async () => {
    const { modelPath } = await open({ pooling: 'mean' });
    await assert.rejects(LlamaEngine.open({ modelPath }), isError('usage', /embeds texts and cannot talk/));
  });

  it('refuses rerankers, bad options and calls after its end', async () => {
    await assert.rejects(open({ pooling: 4 }), isError('usage', /ranks texts/));
    await assert.rejects(open({}, { threads: 0 }), isError('usage', /threads/));
    await assert.rejects(open({}, { contextSize: 1 }), isError('usage', /context size/));
    const { embedder } = await open({});
    const running = embedder.embed(Array(1000).fill('cat'));
    await embedder.close();
    await embedder.close();
    await assert.rejects(running, isError('failed', /closed/));
    await assert.rejects(embedder.embed(['cat']), isError('failed', /closed/));
  });
});

describe('a decoder', () => {
  it('is embedded by its last token: the state that its next token comes from', async () => {
    const file = await tinyModel({ architecture: 'qwen3' });
    let head = new Float32Array();
    const modelPath = await rewriteGguf(file, scratchFile('qwen3-embedding.gguf'), {
      metadata: { 'qwen3.pooling_type': { type: 'u32', value: 3 } },
      tensor: (name, data) => {
        if (name === 'output.weight') head = Float32Array.from(data);
        return data;
      },
    });
    const embedder = await LlamaEmbedder.open({ modelPath, threads: 1 });
    opened.push(embedder);
    const prompts = ['the cat is', 'a dog on the boat'];
    const vectors = await embedder.embed(prompts);
    const engine = await openFile(file);
    const { width } = embedder.model;
    for (const [i, prompt] of prompts.entries()) {
      const vocabulary = head.length / width;
      const { likely } = await engine.score({ prompt, answer: 'x', likely: vocabulary });
      const logProbs = likely![0]!.logProbs;
      // Its length is lost, and so is the softmax's denominator: log-probabilities are a straight line over the products.
      const products = Array.from(likely![0]!.tokens, (t) =>
        dot(vectors[i]!, head.subarray(t * width, (t + 1) * width)),
      );
      const mean = (values: ArrayLike<number>) => Array.from(values).reduce((a, b) => a + b) / vocabulary;
      const [x, y] = [products, Array.from(logProbs)].map((values) => values.map((v) => v - mean(values)));
      const slope = dot(x!, y!) / dot(x!, x!);
      assert.ok(slope > 1);
      assertClose(
        x!.map((v) => slope * v),
        y!,
        0.01,
      );
    }
    await assert.rejects(embedder.embed(['']), isError('usage', /empty text/));
  });
});

describe('in a child process', () => {
  it('gives the same, passes prefixes and signals on and keeps the code of an error', async () => {
    const { embedder: here, modelPath } = await open({}, { prefixes: { query: 'is ', document: '' } });
    const there = await openEmbedder({ modelPath, threads: 1, prefixes: { query: 'is ', document: '' } });
    opened.push(there);
    assert.deepEqual(there.model, here.model);
    assert.deepEqual(await there.embed(TEXTS), await here.embed(TEXTS));
    assert.deepEqual(await there.embed(['cat'], { query: true }), await here.embed(['cat'], { query: true }));
    const signal = AbortSignal.timeout(30);
    await assert.rejects(there.embed(Array(100_000).fill('cat'), { signal }), isError('aborted', /./));
    assert.equal((await there.embed(['cat'])).length, 1);
    await there.close();
    await assert.rejects(there.embed(['cat']), isError('failed', /closed/));
    const gone = openEmbedder({ modelPath: scratchFile('gone.gguf') });
    await assert.rejects(gone, isError('missing', /gone\.gguf/));
  });
});

describe('a BERT in safetensors', () => {
  it('is converted to a GGUF that gives the same up to half precision', async () => {
    const { weights } = await open({});
    const modules: Record<string, string> = {
      token_embd: 'embeddings.word_embeddings',
      position_embd: 'embeddings.position_embeddings',
      token_types: 'embeddings.token_type_embeddings',
      token_embd_norm: 'embeddings.LayerNorm',
      attn_q: 'attention.self.query',
      attn_k: 'attention.self.key',
      attn_v: 'attention.self.value',
      attn_output: 'attention.output.dense',
      attn_output_norm: 'attention.output.LayerNorm',
      ffn_up: 'intermediate.dense',
      ffn_down: 'output.dense',
      layer_output_norm: 'output.LayerNorm',
    };
    const tensors = new Map<string, { shape: number[]; data: Float32Array }>();
    for (const [name, data] of weights) {
      const [, layer, part = '', kind = ''] = /^(?:blk\.(\d+)\.)?(\w+)\.(\w+)$/.exec(name)!;
      const inputs = part === 'ffn_down' ? 64 : 32;
      const isMatrix = kind === 'weight' && !part.endsWith('norm');
      tensors.set(`${layer ? `encoder.layer.${layer}.` : ''}${modules[part]}.${kind}`, {
        shape: isMatrix ? [data.length / inputs, inputs] : [data.length],
        data,
      });
    }
    tensors.set('pooler.dense.bias', { shape: [32], data: new Float32Array(32) });
    const [from, vocabulary, target] = ['bert.safetensors', 'vocab.txt', 'converted.gguf'].map(scratchFile);
    await writeSafetensors(from!, tensors);
    writeFileSync(vocabulary!, `${TINY_VOCABULARY.join('\n')}\n`);
    for (const pooling of ['mean', 'cls'] as const) {
      const files = { weights: from!, vocabulary: vocabulary!, target: target! };
      await convertBert({ ...files, name: 'tiny', heads: 4, pooling });
      const embedder = await LlamaEmbedder.open({ modelPath: target!, threads: 1 });
      opened.push(embedder);
      assert.deepEqual(embedder.model, { name: 'tiny', width: 32 });
      const vectors = await embedder.embed(TEXTS);
      for (const [i, text] of TEXTS.entries())
        assertClose(vectors[i]!, bertEmbedding(weights, wordPieces(text), pooling), 5e-3);
    }
  });
});
