/**
 * Fast weights as a GGUF LoRA adapter, as llama.cpp loads it (llama-adapter.cpp), with one key of our own that binds it to
 * its base model. The reader is the gate in front of native code: what it returns fits the model and is finite.
 */
import { open } from 'node:fs/promises';
import os from 'node:os';
import { TmemError } from '../errors.ts';
import { readGguf } from '../gguf/reader.ts';
import type { GgufFile, GgufTensor } from '../gguf/types.ts';
import { writeGguf } from '../gguf/writer.ts';
import type { FastWeights, LoraTensor } from '../types.ts';
import { anotherModel, type BaseModel, checkFastWeights } from './weights.ts';

/** Our own key; llama.cpp ignores it. */
const FINGERPRINT = 'tmem.base_fingerprint';
const F32 = 0;
const SUFFIX_A = '.lora_a';
const SUFFIX_B = '.lora_b';

/**
 * Writes an adapter, atomically.
 * Row-major [R, in] and [out, R] are ggml's [in, R] and [R, out]: the data is stored as it is.
 * @throws TmemError `missing` for unusable weights, `failed` when the file cannot be written
 */
export async function writeAdapterGguf(
  path: string,
  weights: FastWeights,
  base: Pick<BaseModel, 'architecture' | 'fingerprint'>,
): Promise<void> {
  checkFastWeights(weights, 'The fast weights');
  const { rank } = weights;
  await writeGguf(path, {
    metadata: {
      'general.type': 'adapter',
      'general.architecture': base.architecture,
      'adapter.type': 'lora',
      'adapter.lora.alpha': { type: 'f32', value: weights.alpha },
      [FINGERPRINT]: base.fingerprint,
    },
    tensors: weights.tensors.flatMap(({ name, a, b, inputs, outputs }) => [
      { name: name + SUFFIX_A, type: F32, shape: [inputs, rank], data: a },
      { name: name + SUFFIX_B, type: F32, shape: [rank, outputs], data: b },
    ]),
  });
}

/**
 * Reads an adapter and checks it against the model that it is for. An adapter without our fingerprint (made by another
 * tool) is judged by its architecture and shapes.
 * @throws TmemError `missing` when it is damaged, not a LoRA of F32 tensors, or made for another model
 */
export async function readAdapterGguf(path: string, base: BaseModel): Promise<FastWeights> {
  const refuse = (what: string) => new TmemError('missing', `${path} cannot be used as an adapter: ${what}.`);
  const file = readGguf(path);
  const { metadata } = file;
  if (metadata.get('general.type') !== 'adapter') throw refuse('it is not a GGUF adapter');
  if (metadata.get('adapter.type') !== 'lora') throw refuse('it is not a LoRA');
  const made = metadata.get(FINGERPRINT);
  if (made !== undefined && made !== base.fingerprint) throw anotherModel(path);
  if (metadata.get('general.architecture') !== base.architecture) throw anotherModel(path);
  const alpha = metadata.get('adapter.lora.alpha');
  if (typeof alpha !== 'number') throw refuse('it has no adapter.lora.alpha');

  const tensors = new Map(file.tensors.map((tensor) => [tensor.name, tensor]));
  const pairs: { name: string; a: GgufTensor; b: GgufTensor }[] = [];
  for (const a of file.tensors) {
    if (a.type !== F32 || a.shape.length !== 2) throw refuse(`${a.name} is not a matrix of F32 values`);
    if (a.name.endsWith(SUFFIX_B) && tensors.has(partner(a.name, SUFFIX_B, SUFFIX_A))) continue;
    const b = a.name.endsWith(SUFFIX_A) ? tensors.get(partner(a.name, SUFFIX_A, SUFFIX_B)) : undefined;
    if (!b) throw refuse(`${a.name} is not one of a lora_a and lora_b pair`);
    pairs.push({ name: a.name.slice(0, -SUFFIX_A.length), a, b });
  }
  const rank = pairs[0]?.a.shape[1] ?? 0;
  const weights: FastWeights = { rank, alpha, tensors: await readPairs(file, pairs) };
  for (const { name, a, b } of pairs) {
    if (a.shape[1] !== rank || b.shape[0] !== rank) throw refuse(`${name} does not have rank ${rank} like the others`);
  }
  checkFastWeights(weights, path, base);
  return weights;
}

function partner(name: string, suffix: string, other: string): string {
  return name.slice(0, -suffix.length) + other;
}

async function readPairs(
  file: GgufFile,
  pairs: readonly { name: string; a: GgufTensor; b: GgufTensor }[],
): Promise<LoraTensor[]> {
  const handle = await open(file.path);
  try {
    const result: LoraTensor[] = [];
    const read = async ({ offset, bytes }: GgufTensor) => {
      const data = Buffer.alloc(bytes);
      await handle.read(data, 0, bytes, offset);
      return floats(data);
    };
    for (const { name, a, b } of pairs) {
      result.push({ name, a: await read(a), b: await read(b), inputs: a.shape[0]!, outputs: b.shape[1]! });
    }
    return result;
  } finally {
    await handle.close();
  }
}

/** Little-endian F32 bytes as numbers, copied: the source may be unaligned. */
export function floats(bytes: Uint8Array): Float32Array {
  const copy = new Uint8Array(bytes);
  if (os.endianness() === 'BE') Buffer.from(copy.buffer).swap32();
  return new Float32Array(copy.buffer);
}
