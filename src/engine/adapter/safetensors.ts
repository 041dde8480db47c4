/**
 * The safetensors format: 8 bytes little-endian header length, a JSON header {name: {dtype, shape, data_offsets}}, data.
 * Only what adapters need: F32 tensors. https://github.com/huggingface/safetensors#format
 */
import { open } from 'node:fs/promises';
import { z } from 'zod';
import { TmemError } from '../errors.ts';
import { writeFileAtomic } from '../files.ts';
import { floats } from './gguf.ts';

export interface SafeTensor {
  /** Row-major. */
  readonly shape: readonly number[];
  readonly data: Float32Array;
}

const MAX_HEADER_BYTES = 100_000_000;
const length = z.number().int().nonnegative();
const entrySchema = z.object({ dtype: z.string(), shape: z.array(length), data_offsets: z.tuple([length, length]) });

/** Writes F32 tensors, atomically. @throws TmemError `failed` when the file cannot be written */
export async function writeSafetensors(path: string, tensors: ReadonlyMap<string, SafeTensor>): Promise<void> {
  const header: Record<string, unknown> = { __metadata__: { format: 'pt' } };
  let offset = 0;
  for (const [name, { shape, data }] of tensors) {
    header[name] = { dtype: 'F32', shape, data_offsets: [offset, offset + data.byteLength] };
    offset += data.byteLength;
  }
  const json = Buffer.from(JSON.stringify(header));
  // Spaces up to a multiple of 8 keep the data aligned, as the reference implementation does.
  const head = Buffer.alloc(8 + Math.ceil(json.length / 8) * 8, ' ');
  head.writeBigUInt64LE(BigInt(head.length - 8));
  json.copy(head, 8);
  await writeFileAtomic(path, async (write) => {
    await write(head);
    for (const { data } of tensors.values()) await write(new Uint8Array(data.buffer, data.byteOffset, data.byteLength));
  });
}

/** @throws TmemError `missing` when the file is absent, damaged or holds other types than F32 */
export async function readSafetensors(path: string): Promise<Map<string, SafeTensor>> {
  const refuse = (what: string, cause?: unknown) =>
    new TmemError('missing', `${path} is not a safetensors file that can be used: ${what}.`, { cause });
  const handle = await open(path).catch((error) => {
    throw refuse(`it cannot be opened (${error.code})`, error);
  });
  try {
    const { size } = await handle.stat();
    const at = async (offset: number, bytes: number) => {
      const buffer = Buffer.alloc(bytes);
      const { bytesRead } = await handle.read(buffer, 0, bytes, offset);
      if (bytesRead !== bytes) throw refuse('it is truncated');
      return buffer;
    };
    if (size < 8) throw refuse('it is truncated');
    const headerBytes = Number((await at(0, 8)).readBigUInt64LE());
    if (headerBytes > MAX_HEADER_BYTES || headerBytes > size - 8) throw refuse('its header does not fit in it');
    const entries = parseHeader(await at(8, headerBytes), refuse);
    const result = new Map<string, SafeTensor>();
    let end = 0;
    for (const [name, { dtype, shape, data_offsets }] of entries) {
      if (dtype !== 'F32') throw refuse(`${name} is ${dtype} (save the adapter as float32)`);
      const bytes = shape.reduce((product, n) => product * n, 4);
      if (data_offsets[0] !== end || data_offsets[1] - end !== bytes)
        throw refuse(`${name} does not lie where it should`);
      end += bytes;
      if (8 + headerBytes + end > size) throw refuse('it is truncated');
      result.set(name, { shape, data: floats(await at(8 + headerBytes + data_offsets[0], bytes)) });
    }
    if (8 + headerBytes + end !== size) throw refuse('it has bytes that belong to no tensor');
    return result;
  } finally {
    await handle.close();
  }
}

type Entry = [string, z.infer<typeof entrySchema>];

/** Tensors in the order of their data. */
function parseHeader(bytes: Buffer, refuse: (what: string, cause?: unknown) => Error): Entry[] {
  let json: unknown;
  try {
    json = JSON.parse(bytes.toString());
  } catch (error) {
    throw refuse('its header is not JSON', error);
  }
  if (typeof json !== 'object' || json === null || Array.isArray(json)) throw refuse('its header is not an object');
  const entries = Object.entries(json)
    .filter(([name]) => name !== '__metadata__')
    .map(([name, value]): Entry => {
      const entry = entrySchema.safeParse(value);
      if (!entry.success) throw refuse(`the header's entry for ${name} is malformed`);
      return [name, entry.data];
    });
  return entries.sort(([, x], [, y]) => x.data_offsets[0] - y.data_offsets[0]);
}
