/**
 * Fast weights as content-addressed files: `<sha256>.fw`, written once, never changed.
 * Layout, little endian: magic "TMEMFW01", u32 length of the JSON header, the header padded with blanks to a multiple of
 * 4, then per tensor A [R, in] and B [out, R] as float32.
 */
import { createHash } from 'node:crypto';
import { readdir, readFile, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { TmemError } from '../../engine/errors.ts';
import { writeFileAtomic } from '../../engine/files.ts';
import type { FastWeights, LoraTensor } from '../../engine/types.ts';

const MAGIC = 'TMEMFW01';

const headerSchema = z.strictObject({
  rank: z.int().positive(),
  alpha: z.number().positive(),
  tensors: z.array(z.strictObject({ name: z.string(), inputs: z.int().positive(), outputs: z.int().positive() })),
});

export function encodeWeights(weights: FastWeights): Buffer {
  const { rank, alpha, tensors } = weights;
  const names = tensors.map(({ name, inputs, outputs }) => ({ name, inputs, outputs }));
  let header = JSON.stringify({ rank, alpha, tensors: names });
  header += ' '.repeat((4 - (Buffer.byteLength(header) % 4)) % 4);
  const length = Buffer.alloc(4);
  length.writeUInt32LE(Buffer.byteLength(header));
  const arrays = tensors.flatMap((t) => [t.a, t.b]).map((x) => Buffer.from(x.buffer, x.byteOffset, x.byteLength));
  return Buffer.concat([Buffer.from(MAGIC), length, Buffer.from(header), ...arrays]);
}

/** @throws Error when the bytes are not what `encodeWeights` writes. */
export function decodeWeights(bytes: Buffer): FastWeights {
  if (bytes.length < 12 || bytes.toString('latin1', 0, 8) !== MAGIC) throw new Error('not a fast-weights file');
  const end = 12 + bytes.readUInt32LE(8);
  const header = headerSchema.parse(JSON.parse(bytes.toString('utf8', 12, end)));
  let offset = end;
  const take = (count: number): Float32Array => {
    const next = offset + count * 4;
    if (next > bytes.length) throw new Error('truncated');
    const values = new Float32Array(bytes.buffer.slice(bytes.byteOffset + offset, bytes.byteOffset + next));
    offset = next;
    return values;
  };
  const tensors: LoraTensor[] = header.tensors.map((t) => {
    const a = take(header.rank * t.inputs);
    return { ...t, a, b: take(t.outputs * header.rank) };
  });
  if (offset !== bytes.length) throw new Error('bytes left over');
  return { rank: header.rank, alpha: header.alpha, tensors };
}

/** Stores the weights and gives their address. @throws TmemError `failed` when the file cannot be written. */
export async function putWeights(folder: string, weights: FastWeights): Promise<string> {
  const bytes = encodeWeights(weights);
  const hash = createHash('sha256').update(bytes).digest('hex');
  const path = join(folder, `${hash}.fw`);
  const present = await stat(path).catch(() => null);
  if (present?.size !== bytes.length) await writeFileAtomic(path, (write) => write(bytes));
  return hash;
}

/** Removes all weights but those to keep. */
export async function sweepWeights(folder: string, keep: ReadonlySet<string>): Promise<void> {
  for (const file of await readdir(folder).catch(() => []))
    if (file.endsWith('.fw') && !keep.has(file.slice(0, -3))) await rm(join(folder, file), { force: true });
}

/** @throws TmemError `missing` when the file is not there or is not what its address says. */
export async function getWeights(folder: string, hash: string): Promise<FastWeights> {
  const path = join(folder, `${hash}.fw`);
  const bytes = await readFile(path).catch((cause) => {
    throw new TmemError('missing', `The fast weights ${path} cannot be read; restore the file.`, { cause });
  });
  try {
    if (createHash('sha256').update(bytes).digest('hex') !== hash) throw new Error('wrong hash');
    return decodeWeights(bytes);
  } catch (cause) {
    throw new TmemError('missing', `The fast weights ${path} are damaged; restore the file.`, { cause });
  }
}
