/**
 * Fast weights by the sha256 of their bytes; as files `<sha256>.fw`, written once, never changed.
 * Layout, little endian: magic "TMEMFW01", u32 length of the JSON header, the header padded with blanks to a multiple of
 * 4, then per tensor A [R, in] and B [out, R] as float32.
 */
import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
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

/** Fast weights as they are stored, and their address. */
export interface Blob {
  readonly hash: string;
  readonly bytes: Buffer;
}

export function blobOf(weights: FastWeights): Blob {
  const bytes = encodeWeights(weights);
  return { hash: sha256(bytes), bytes };
}

/**
 * @param where names them in an error
 * @throws TmemError `missing` when the bytes are not those of the address, or none.
 */
export function checkBlob(hash: string, bytes: Buffer | null, where: string): Buffer {
  if (!bytes) throw new TmemError('missing', `The fast weights ${where} cannot be read; restore them.`);
  if (sha256(bytes) !== hash) throw new TmemError('missing', `The fast weights ${where} are damaged; restore them.`);
  return bytes;
}

const sha256 = (bytes: Buffer) => createHash('sha256').update(bytes).digest('hex');

export const blobFile = (folder: string, hash: string) => join(folder, `${hash}.fw`);

/** The address that a file's name says; undefined for other files. */
export function hashOfFile(file: string): string | undefined {
  return /^([0-9a-f]{64})\.fw$/.exec(file)?.[1];
}

/** @throws TmemError `failed` when the file cannot be written. */
export async function putBlobFile(folder: string, hash: string, bytes: Buffer): Promise<void> {
  const present = await readBlobFile(folder, hash);
  if (!present?.equals(bytes)) await writeFileAtomic(blobFile(folder, hash), (write) => write(bytes));
}

/** null when there is none, or it cannot be read. */
export function readBlobFile(folder: string, hash: string): Promise<Buffer | null> {
  return readFile(blobFile(folder, hash)).catch(() => null);
}
