/** Tiny models and engines on them, in a temporary folder that the test's process removes at its end. */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { after } from 'node:test';
import { floats } from '../../src/engine/adapter/gguf.ts';
import { readGguf } from '../../src/engine/gguf/reader.ts';
import { type GgufInput, writeGguf } from '../../src/engine/gguf/writer.ts';
import { LlamaEngine } from '../../src/engine/llama/engine.ts';
import { LlamaModel } from '../../src/engine/llama/model.ts';
import { PrefixPass } from '../../src/engine/llama/prefix.ts';
import type { PreparedSample } from '../../src/engine/training/packed-batch.ts';
import { TopLayers, type TopLayersOptions } from '../../src/engine/training/top-layers.ts';
import type { FastWeights, Sample } from '../../src/engine/types.ts';
import { gaussian, type TinyModelOptions, writeTinyModel } from './tiny-model.ts';

const cleanup: (() => unknown)[] = [];
const folder = mkdtempSync(path.join(os.tmpdir(), 'tmem-engine-'));
after(async () => {
  for (const free of cleanup.toReversed()) await free();
  rmSync(folder, { recursive: true, force: true });
});
// What the engine keeps on disk (A0 by SVD) belongs to the test.
process.env.TMEM_HOME = path.join(folder, 'home');
// Whether the system has a BLAS must not change what a test sees; those about it name theirs.
process.env.TMEM_BLAS = 'off';
// Rows of the tiny models are a single block of 32, which ggml's build for AMX multiplies wrongly.
process.env.TMEM_AMX = 'off';

const models = new Map<string, Promise<string>>();

export function scratchFile(name: string): string {
  return path.join(folder, name);
}

/** Path of a tiny model; the same options give the same file. */
export function tinyModel(options: TinyModelOptions): Promise<string> {
  const key = JSON.stringify(options);
  let model = models.get(key);
  if (!model) {
    const file = scratchFile(`model-${models.size}.gguf`);
    model = writeTinyModel(file, options).then(() => file);
    models.set(key, model);
  }
  return model;
}

/** An engine in this process with one thread, closed at the end of the test's file. */
export async function openFile(modelPath: string, contextSize = 1024): Promise<LlamaEngine> {
  const engine = await LlamaEngine.open({ modelPath, contextSize, threads: 1 });
  cleanup.push(() => engine.close());
  return engine;
}

export async function openTiny(options: TinyModelOptions, contextSize?: number): Promise<LlamaEngine> {
  return openFile(await tinyModel(options), contextSize);
}

/** The parts of training below the engine, with exact gradients by default. `readFrom`: another file that the top layers are read from. */
export async function openTraining(
  options: TinyModelOptions,
  { readFrom, ...adapted }: Omit<TopLayersOptions, 'threads'> & { readonly readFrom?: string },
): Promise<{ top: TopLayers; prefix: PrefixPass; model: LlamaModel }> {
  const file = await tinyModel(options);
  const model = new LlamaModel(file);
  const top = new TopLayers(readFrom ?? file, { backward: 'F32', ...adapted, threads: 1 });
  const prefix = new PrefixPass(model, top, 1);
  cleanup.push(() => {
    prefix.free();
    top.free();
    model.free();
  });
  return { top, prefix, model };
}

/** The parts of training on given pairs, with random fast weights of rank 2. */
export async function openTrainingOn(
  options: TinyModelOptions,
  layers: number,
  pairs: Parameters<typeof tinySamples>[0],
): Promise<{ top: TopLayers; samples: PreparedSample[]; weights: FastWeights }> {
  const { top, prefix } = await openTraining(options, { layers });
  return {
    top,
    samples: await prefix.prepare(tinySamples(pairs)),
    weights: randomWeights(top, { rank: 2, seed: 3 }),
  };
}

/** Fast weights with every A and B random, of sizes that change the logits clearly. */
export function randomWeights(
  shapes: { adaptedNames(): readonly string[]; size(name: string): { inputs: number; outputs: number } },
  options: { rank: number; seed: number; a?: number; b?: number },
): FastWeights {
  const { rank, seed, a = 0.3, b = 0.1 } = options;
  const normal = gaussian(seed);
  const values = (n: number, size: number) => Float32Array.from({ length: n }, () => size * normal());
  const tensors = shapes.adaptedNames().map((name) => {
    const { inputs, outputs } = shapes.size(name);
    return { name, inputs, outputs, a: values(rank * inputs, a), b: values(outputs * rank, b) };
  });
  return { rank, alpha: rank, tensors };
}

/** Random fast weights of the last layers of a tiny model with the default width and feed-forward width. */
export function tinyWeights(options: { layers: number; seed: number; rank?: number; b?: number }): FastWeights {
  const { layers, seed, rank = 3, b } = options;
  const names = Array.from({ length: layers }, (_, i) => 2 - i).flatMap((l) =>
    ['gate', 'up', 'down'].map((part) => `blk.${l}.ffn_${part}.weight`),
  );
  const size = (name: string) => (name.includes('down') ? { inputs: 64, outputs: 32 } : { inputs: 32, outputs: 64 });
  return randomWeights({ adaptedNames: () => names, size }, { rank, seed, b });
}

/** Random fast weights of the last layers of the model in a file, of all products or of the feed-forward part's. */
export function weightsFor(
  modelPath: string,
  options: { layers: number; seed: number; rank?: number; attention?: boolean },
): FastWeights {
  const { layers, seed, rank = 3, attention = false } = options;
  const { tensors, metadata } = readGguf(modelPath);
  const first = Number(metadata.get(`${metadata.get('general.architecture')}.block_count`)) - layers;
  const sizes = new Map<string, { inputs: number; outputs: number }>();
  for (const { name, shape } of tensors) {
    const [, layer, part = ''] = name.split('.');
    const isAdapted = part.startsWith('ffn_') || (attention && part.startsWith('attn_'));
    if (Number(layer) >= first && isAdapted && shape.length === 2)
      sizes.set(name, { inputs: shape[0]!, outputs: shape[1]! });
  }
  return randomWeights({ adaptedNames: () => [...sizes.keys()], size: (name) => sizes.get(name)! }, { rank, seed });
}

/** Metadata keys of F32 type among those of the tiny models, which a reader no longer tells from integers. */
const FLOATS = /freq_base|epsilon|scaling\.factor/;

/** Copies a GGUF of F32 tensors with other metadata, and tensors replaced by what `tensor` returns. */
export async function rewriteGguf(
  from: string,
  to: string,
  changes: {
    metadata?: Readonly<Record<string, GgufInput>>;
    tensor?: (name: string, data: Float32Array) => Float32Array;
  },
): Promise<string> {
  const gguf = readGguf(from);
  const bytes = readFileSync(from);
  const metadata: Record<string, GgufInput> = {};
  for (const [key, value] of gguf.metadata) metadata[key] = inputOf(key, value);
  await writeGguf(to, {
    metadata: { ...metadata, ...changes.metadata },
    tensors: gguf.tensors.map(({ name, type, shape, offset, bytes: length }) => {
      const data = floats(bytes.subarray(offset, offset + length));
      return { name, type, shape, data: changes.tensor?.(name, data) ?? data };
    }),
  });
  return to;
}

function inputOf(key: string, value: unknown): GgufInput {
  if (typeof value === 'string' || typeof value === 'boolean') return value;
  if (typeof value === 'number') return { type: FLOATS.test(key) ? 'f32' : 'u32', value };
  const list = Array.from(value as ArrayLike<string | number>);
  return typeof list[0] === 'string' ? (list as string[]) : { type: 'i32', values: list as number[] };
}

/** Samples of lower-case words behind a common system turn. */
export function tinySamples(pairs: readonly (readonly [string, string, number?])[]): Sample[] {
  return pairs.map(([question, answer, weight]) => ({
    prompt: `<|im_start|>system\nyou help<|im_end|>\n<|im_start|>user\n${question}<|im_end|>\n<|im_start|>assistant\n`,
    answer: `${answer}<|im_end|>`,
    ...(weight === undefined ? {} : { weight }),
  }));
}
