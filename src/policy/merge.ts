/**
 * A policy merged into its base model, as a whole GGUF that needs no adapter: the adapted weights become W + B A in F16, all else is copied
 * as it is. Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
 */
import { open } from 'node:fs/promises';
import { TmemError } from '../engine/errors.ts';
import { writeFileAtomic } from '../engine/files.ts';
import { dequantise, toHalves } from '../engine/gguf/dequantise.ts';
import { readGguf } from '../engine/gguf/reader.ts';
import { align, type GgufTensor, valueTypes } from '../engine/gguf/types.ts';
import type { FastWeights, LoraTensor } from '../engine/types.ts';

const F16 = 1;
/** Magic, version, number of tensors, number of keys. */
const FIXED_HEADER = 24;

/**
 * Writes the merged model, atomically.
 * @throws TmemError `usage` for a quantisation that cannot be read, `missing` for a policy of another model, `failed` when it cannot be written.
 */
export async function mergePolicy(modelPath: string, policy: FastWeights, into: string): Promise<void> {
  const model = readGguf(modelPath);
  const adapted = new Map(policy.tensors.map((tensor) => [tensor.name, tensor]));
  const missing = policy.tensors.find(({ name }) => !model.tensors.some((tensor) => tensor.name === name));
  if (missing)
    throw new TmemError('missing', `The model has no tensor ${missing.name}; the policy is for another one.`);
  const file = await open(modelPath);
  try {
    const bytesAt = async (offset: number, length: number): Promise<Buffer> => {
      const buffer = Buffer.alloc(length);
      await file.read(buffer, 0, length, offset);
      return buffer;
    };
    const header = await bytesAt(0, model.dataOffset);
    const metadata = header.subarray(0, endOfMetadata(header));
    let offset = 0;
    const infos = model.tensors.map((tensor) => {
      const merged = adapted.has(tensor.name);
      const info = tensorInfo(tensor, merged ? F16 : tensor.type, offset);
      const bytes = merged ? 2 * tensor.shape.reduce((a, b) => a * b, 1) : tensor.bytes;
      offset = align(offset + bytes, model.alignment);
      return info;
    });
    const head = Buffer.concat([metadata, ...infos]);
    const padded = (data: Uint8Array) => Buffer.concat([data], align(data.byteLength, model.alignment));
    await writeFileAtomic(into, async (write) => {
      await write(padded(head));
      for (const tensor of model.tensors) {
        const data = await bytesAt(tensor.offset, tensor.bytes);
        const lora = adapted.get(tensor.name);
        await write(padded(lora ? toHalves(merge(dequantise(data, tensor.type), lora, policy)) : data));
      }
    });
  } finally {
    await file.close();
  }
}

/** W + (alpha / rank) B A, in the place of W [out, in]. */
function merge(
  weight: Float32Array,
  { a, b, inputs, outputs }: LoraTensor,
  { rank, alpha }: FastWeights,
): Float32Array {
  for (let o = 0; o < outputs; o++) {
    for (let r = 0; r < rank; r++) {
      const factor = (alpha / rank) * b[o * rank + r]!;
      for (let i = 0; i < inputs; i++) weight[o * inputs + i]! += factor * a[r * inputs + i]!;
    }
  }
  return weight;
}

function tensorInfo({ name, shape }: GgufTensor, type: number, offset: number): Buffer {
  const text = Buffer.from(name);
  const info = Buffer.alloc(8 + text.length + 4 + 8 * shape.length + 4 + 8);
  let at = info.writeBigUInt64LE(BigInt(text.length));
  at += text.copy(info, at);
  at = info.writeUInt32LE(shape.length, at);
  for (const length of shape) at = info.writeBigUInt64LE(BigInt(length), at);
  at = info.writeUInt32LE(type, at);
  info.writeBigUInt64LE(BigInt(offset), at);
  return info;
}

const SCALAR_BYTES: Readonly<Record<string, number>> = {
  ...{ u8: 1, i8: 1, bool: 1, u16: 2, i16: 2, u32: 4, i32: 4, f32: 4, u64: 8, i64: 8, f64: 8 },
};

/** Where the key-value pairs of a checked header end: they are copied with the types that their values have in the file. */
function endOfMetadata(header: Buffer): number {
  let at = FIXED_HEADER;
  const take = (bytes: number) => {
    at += bytes;
    return at - bytes;
  };
  const u32 = () => header.readUInt32LE(take(4));
  const u64 = () => Number(header.readBigUInt64LE(take(8)));
  const skipString = () => take(u64());
  const skip = (type: string): void => {
    if (type === 'string') skipString();
    else if (type === 'array') {
      const of = valueTypes[u32()]!;
      const n = u64();
      const bytes = SCALAR_BYTES[of];
      if (bytes !== undefined) take(bytes * n);
      else for (let i = 0; i < n; i++) skip(of);
    } else take(SCALAR_BYTES[type]!);
  };
  for (let keys = Number(header.readBigUInt64LE(16)); keys > 0; keys--) {
    skipString();
    skip(valueTypes[u32()]!);
  }
  return at;
}
