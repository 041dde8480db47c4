import assert from 'node:assert/strict';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, mock, test } from 'node:test';
import fc from 'fast-check';
import { TmemError } from '../../src/engine/errors.ts';
import { writeFileAtomic } from '../../src/engine/files.ts';
import { readGguf } from '../../src/engine/gguf/reader.ts';
import { type GgufInputFile, type GgufTensorInput, writeGguf } from '../../src/engine/gguf/writer.ts';

let folder: string;
before(() => {
  folder = mkdtempSync(join(tmpdir(), 'tmem-gguf-'));
});
after(() => rmSync(folder, { recursive: true, force: true }));

const F32 = 0;
const Q8_0 = 8;
const sample: GgufInputFile = {
  metadata: {
    'general.architecture': 'llama',
    'general.name': 'Tiny · κ',
    flag: true,
    'llama.block_count': { type: 'u32', value: 4_000_000_000 },
    small: { type: 'i8', value: -5 },
    rope: { type: 'f32', value: 0.5 },
    big: { type: 'u64', value: 2n ** 63n },
    exact: { type: 'i64', value: -(2 ** 40) },
    'tokenizer.ggml.tokens': ['<s>', '', '', 'é', 'b'],
    'tokenizer.ggml.scores': { type: 'f32', values: [0, -1, -2.5] },
    ids: { type: 'i32', values: [1, -2, 3] },
  },
  tensors: [
    { name: 'a.weight', type: F32, shape: [3, 2], data: Float32Array.of(1, 2, 3, 4, 5, 6) },
    { name: 'b.weight', type: Q8_0, shape: [64, 3], data: new Uint8Array(6 * 34).map((_, i) => i) },
    { name: 'c', type: F32, shape: [1], data: Float32Array.of(7) },
  ],
};

async function bytesOf(file: GgufInputFile): Promise<Buffer> {
  const path = join(folder, 'source.gguf');
  await writeGguf(path, file);
  return readFileSync(path);
}

function read(bytes: Uint8Array) {
  const path = join(folder, 'read.gguf');
  writeFileSync(path, bytes);
  return readGguf(path);
}

/** The bytes of a file whose little-endian 32-bit number `pattern` steps after `text` is another one. */
function patch(bytes: Buffer, text: string, skip: number, value: number): Buffer {
  const copy = Buffer.from(bytes);
  copy.writeUInt32LE(value, copy.indexOf(text) + text.length + skip);
  return copy;
}

const missing = (pattern: RegExp) => (error: unknown) => {
  assert.ok(error instanceof TmemError);
  assert.equal(error.code, 'missing');
  assert.match(error.message, pattern);
  assert.match(error.message, /\.$/);
  return true;
};

test('what is written is read', async () => {
  const bytes = await bytesOf(sample);
  const file = read(bytes);
  assert.equal(file.version, 3);
  assert.deepEqual(Object.fromEntries(file.metadata), {
    'general.architecture': 'llama',
    'general.name': 'Tiny · κ',
    flag: true,
    'llama.block_count': 4_000_000_000,
    small: -5,
    rope: 0.5,
    big: 2n ** 63n,
    exact: -(2 ** 40),
    'tokenizer.ggml.tokens': ['<s>', '', '', 'é', 'b'],
    'tokenizer.ggml.scores': Float32Array.of(0, -1, -2.5),
    ids: Int32Array.of(1, -2, 3),
  });
  assert.equal(file.fileBytes, bytes.length);
  assert.equal(file.dataOffset % 32, 0);
  assert.deepEqual(
    file.tensors.map(({ name, typeName, shape, bytes: size }) => [name, typeName, shape, size]),
    [
      ['a.weight', 'F32', [3, 2], 24],
      ['b.weight', 'Q8_0', [64, 3], 204],
      ['c', 'F32', [1], 4],
    ],
  );
  for (const [i, { offset, bytes: size }] of file.tensors.entries()) {
    assert.equal(offset % 32, 0);
    const { data } = sample.tensors[i]!;
    const written = Buffer.from(data.buffer, data.byteOffset, data.byteLength);
    assert.deepEqual(bytes.subarray(offset, offset + size), written);
  }
});

test('the fingerprint follows header and size, not the weights', async () => {
  const bytes = await bytesOf(sample);
  const { fingerprint, dataOffset } = read(bytes);
  assert.match(fingerprint, /^[0-9a-f]{64}$/);
  const weights = Buffer.from(bytes);
  weights[dataOffset] = 99;
  assert.equal(read(weights).fingerprint, fingerprint);
  assert.notEqual(read(Buffer.concat([bytes, Buffer.alloc(32)])).fingerprint, fingerprint);
  assert.notEqual(read(patch(bytes, 'rope', 4, 1)).fingerprint, fingerprint);
});

test('version 2 and a file without tensors are read', async () => {
  const bytes = await bytesOf({ metadata: { a: 'b' }, tensors: [] });
  assert.deepEqual(read(patch(bytes, 'GGUF', 0, 2)).tensors, []);
  assert.equal(read(patch(bytes, 'GGUF', 0, 2)).version, 2);
});

test('a truncated file names the bytes that are missing', async () => {
  const bytes = await bytesOf(sample);
  const { dataOffset, tensors } = read(bytes);
  const end = tensors.at(-1)!.offset + 4;
  assert.equal(read(bytes.subarray(0, end)).tensors.length, 3, 'the padding after the last tensor is not needed');
  assert.throws(() => read(bytes.subarray(0, end - 1)), missing(/is truncated: 1 bytes are missing; pull it again/));
  assert.throws(
    () => read(bytes.subarray(0, dataOffset)),
    missing(new RegExp(`${end - dataOffset} bytes are missing`)),
  );
});

test('every file that is cut in its header is refused', async () => {
  const bytes = await bytesOf(sample);
  const { dataOffset } = read(bytes);
  for (let length = 0; length < dataOffset; length++)
    assert.throws(() => read(bytes.subarray(0, length)), missing(/pull it again/), `cut at ${length}`);
});

test('damaged headers are refused with one sentence', async () => {
  const bytes = await bytesOf(sample);
  const aligned = await bytesOf({ ...sample, metadata: { 'general.alignment': { type: 'u32', value: 64 } } });
  const skipType = 4;
  const cases: [Buffer, RegExp][] = [
    [patch(bytes, '', 0, 0x46554748), /does not begin with "GGUF"/],
    [patch(bytes, 'GGUF', 0, 0x03000000), /big endian/],
    [patch(bytes, 'GGUF', 0, 1), /version is 1/],
    [patch(bytes, 'GGUF', 0, 4), /version is 4/],
    [patch(bytes, 'GGUF', 4, 0xffffffff), /number of tensors/],
    [patch(bytes, 'GGUF', 12, 0x7fffffff), /number of metadata keys/],
    [patch(bytes, 'GGUF', 20, 0xffffffff), /name of metadata key 0/],
    [patch(bytes, 'rope', 0, 13), /unknown value type 13/],
    [patch(bytes, 'ids', 0, 99), /unknown value type 99/],
    [patch(bytes, 'ids', 4, 9), /array of arrays/],
    [patch(bytes, 'ids', 8, 0x10000000), /values of "ids".*beyond the end/],
    [patch(bytes, 'tokenizer.ggml.tokens', 8, 0x10000000), /beyond the end/],
    [patch(aligned, 'general.alignment', skipType, 48), /alignment 48 is not a power of two/],
    [patch(aligned, 'general.alignment', skipType, 0), /alignment 0 is not a power of two/],
    [patch(aligned, 'general.alignment', skipType, 8), /alignment 8 is below 32/],
    [patch(aligned, 'general.alignment', 0, 5), /alignment is not a 32-bit integer/],
    [patch(bytes, 'a.weight', 0, 5), /5 dimensions/],
    [patch(bytes, 'a.weight', 4, 0), /impossible shape/],
    [patch(bytes, 'a.weight', 8, 0x7fffffff), /impossible shape/],
    [patch(bytes, 'a.weight', 20, 4), /unknown type 4/],
    [patch(bytes, 'a.weight', 20, Q8_0), /not whole Q8_0 blocks of 32/],
    [patch(bytes, 'b.weight', 24, 0), /"b.weight" overlaps/],
    [patch(bytes, 'b.weight', 24, 64), /"b.weight" does not follow/],
    [Buffer.from(bytes.toString('latin1').replace('b.weight', 'a.weight'), 'latin1'), /"a.weight" is there twice/],
    [Buffer.from(bytes.toString('latin1').replace('small', 'exact'), 'latin1'), /"exact" is there twice/],
    [await bytesOf({ metadata: { 'tokenizer.ggml.tokens': ['x', 'y', 'x'] }, tensors: [] }), /token "x".*twice/],
  ];
  for (const [damaged, pattern] of cases) assert.throws(() => read(damaged), missing(pattern), String(pattern));
});

test('a missing file and a folder are refused', () => {
  assert.throws(() => readGguf(join(folder, 'absent.gguf')), missing(/absent\.gguf does not exist/));
  assert.throws(() => readGguf(folder), missing(/is not a file/));
});

test('a damaged header gives a TmemError or a file, whatever is damaged', { timeout: 60_000 }, async () => {
  const bytes = await bytesOf(sample);
  const { dataOffset } = read(bytes);
  const tolerant = (damaged: Uint8Array) => {
    try {
      assert.ok(read(damaged).tensors.every(({ offset, bytes: size }) => offset + size <= damaged.length));
    } catch (error) {
      missing(/./)(error);
    }
  };
  // Extremes at every place of the header: lengths, counts, offsets and types that lie.
  for (let at = 0; at + 8 <= dataOffset; at++)
    for (const value of [0n, 2n ** 31n, 2n ** 63n, 2n ** 64n - 1n]) {
      const copy = Buffer.from(bytes);
      copy.writeBigUInt64LE(value, at);
      tolerant(copy);
    }
  const edit = fc.record({ at: fc.nat(dataOffset - 1), bytes: fc.uint8Array({ minLength: 1, maxLength: 9 }) });
  fc.assert(
    fc.property(fc.array(edit, { minLength: 1, maxLength: 6 }), fc.nat(bytes.length), (edits, cut) => {
      const copy = Buffer.from(bytes);
      for (const { at, bytes: replacement } of edits) copy.set(replacement.slice(0, copy.length - at), at);
      tolerant(copy);
      tolerant(copy.subarray(0, cut));
    }),
    { numRuns: 500 },
  );
});

test('arbitrary metadata and tensors survive a round trip', async () => {
  const key = fc.string({ unit: 'grapheme', minLength: 1, maxLength: 20 }).filter((name) => name !== '__proto__');
  const tensor = fc.record({ rows: fc.integer({ min: 1, max: 4 }), blocks: fc.integer({ min: 1, max: 3 }) });
  await fc.assert(
    fc.asyncProperty(
      fc.dictionary(key, fc.oneof(fc.string({ unit: 'grapheme' }), fc.boolean(), fc.array(fc.string()))),
      fc.array(tensor, { maxLength: 4 }),
      async (metadata, shapes) => {
        const tensors: GgufTensorInput[] = shapes.map(({ rows, blocks }, i) => ({
          name: `t${i}`,
          type: Q8_0,
          shape: [32 * blocks, rows],
          data: new Uint8Array(34 * blocks * rows).fill(i),
        }));
        const file = read(await bytesOf({ metadata, tensors }));
        assert.deepEqual(new Map(file.metadata), new Map(Object.entries(metadata)));
        assert.deepEqual(
          file.tensors.map(({ shape }) => shape),
          tensors.map(({ shape }) => shape),
        );
      },
    ),
    { numRuns: 100 },
  );
});

test('tensors that do not fit their shape are not written', async () => {
  const write = (tensor: Partial<GgufTensorInput>) =>
    writeGguf(join(folder, 'refused.gguf'), { metadata: {}, tensors: [{ ...sample.tensors[0]!, ...tensor }] });
  const usage = (pattern: RegExp) => (error: unknown) =>
    error instanceof TmemError && error.code === 'usage' && pattern.test(error.message);
  await assert.rejects(write({ shape: [4, 2] }), usage(/24 bytes where its shape asks for 32/));
  await assert.rejects(write({ type: 4 }), usage(/type 4 is unknown/));
  await assert.rejects(write({ type: Q8_0 }), usage(/no shape of Q8_0/));
  await assert.rejects(write({ shape: [] }), usage(/no shape/));
  await assert.rejects(write({ name: 'n'.repeat(64) }), usage(/longer than 63 bytes/));
  assert.deepEqual(
    readdirSync(folder).filter((name) => name.includes('refused')),
    [],
  );
});

test('an atomic write leaves the old file and no rest when it fails', async () => {
  const home = join(folder, 'atomic', 'deep');
  const path = join(home, 'file');
  await writeFileAtomic(path, (write) => write(Buffer.from('old')));
  await assert.rejects(
    writeFileAtomic(path, async (write) => {
      await write(Buffer.from('half'));
      throw new RangeError('the producer failed');
    }),
    RangeError,
  );
  const handle = await open(path);
  const prototype = Object.getPrototypeOf(handle);
  await handle.close();
  for (const [method, code] of [
    ['write', 'ENOSPC'],
    ['sync', 'EDQUOT'],
  ] as const) {
    const full = mock.method(prototype, method, async () => {
      throw Object.assign(new Error('no space'), { code });
    });
    try {
      // Not awaited by the producer: the failure must be seen all the same.
      await assert.rejects(
        writeFileAtomic(path, (write) => {
          write(Buffer.from('new'));
        }),
        (error) =>
          error instanceof TmemError &&
          error.code === 'failed' &&
          error.message === `The disk is full: could not write ${path}; free some space and try again.`,
      );
    } finally {
      full.mock.restore();
    }
  }
  assert.equal(readFileSync(path, 'utf8'), 'old');
  assert.deepEqual(readdirSync(home), ['file']);
  await writeFileAtomic(path, (write) => write(Buffer.from('new')));
  assert.equal(readFileSync(path, 'utf8'), 'new');
});
