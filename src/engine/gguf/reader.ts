/**
 * Our own reading of a GGUF (version 2 and 3, little endian). It refuses with one sentence what llama.cpp would refuse
 * with a log line or end the process on, so a file that passes here is safe to hand to native code.
 */
import { createHash } from 'node:crypto';
import { closeSync, fstatSync, openSync } from 'node:fs';
import { TmemError } from '../errors.ts';
import { HeaderCursor } from './cursor.ts';
import {
  align,
  defaultAlignment,
  type GgufArray,
  type GgufFile,
  type GgufTensor,
  type GgufValue,
  type GgufValueType,
  ggmlTypes,
  maxDimensions,
  maxNameBytes,
  valueTypes,
} from './types.ts';

export type { GgufFile, GgufTensor, GgufValue } from './types.ts';

/**
 * Reads metadata and tensor table; tensor data is not read.
 * @throws TmemError `missing` when the file is absent, damaged, truncated or not a GGUF that llama.cpp can load.
 */
export function readGguf(path: string): GgufFile {
  const fd = openFile(path);
  try {
    const stat = fstatSync(fd);
    if (!stat.isFile()) throw new TmemError('missing', `${path} is not a file; give the path of a .gguf file.`);
    return parse(path, new HeaderCursor(path, fd, stat.size), stat.size);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).syscall === undefined) throw error;
    throw new TmemError('missing', `${path} cannot be read (${reason(error)}); check the disk and the permissions.`, {
      cause: error,
    });
  } finally {
    closeSync(fd);
  }
}

function openFile(path: string): number {
  try {
    return openSync(path, 'r');
  } catch (error) {
    const absent = (error as NodeJS.ErrnoException).code === 'ENOENT';
    const what = absent ? 'does not exist; check the path or pull the model' : `cannot be opened (${reason(error)})`;
    throw new TmemError('missing', `${path} ${what}.`, { cause: error });
  }
}

function reason(error: unknown): string {
  return (error as NodeJS.ErrnoException).code ?? (error instanceof Error ? error.message : String(error));
}

function parse(path: string, cursor: HeaderCursor, fileBytes: number): GgufFile {
  if (cursor.remaining < 4 || cursor.u32('the magic') !== 0x46554747)
    throw cursor.damaged('it does not begin with "GGUF"');
  const version = cursor.u32('the version');
  if ((version & 0xffff) === 0) throw cursor.damaged('it is big endian');
  if (version !== 2 && version !== 3) throw cursor.damaged(`its version is ${version}, and only 2 and 3 are supported`);
  // The least that a tensor takes is name length, dimensions, type and offset; a key: its length, type and a byte.
  const tensorCount = cursor.count(24, 'the number of tensors');
  const keyCount = cursor.count(13, 'the number of metadata keys');

  const types = new Map<string, GgufValueType>();
  const metadata = new Map<string, GgufValue>();
  for (let i = 0; i < keyCount; i++) {
    const key = cursor.string(`the name of metadata key ${i}`);
    if (key === '') throw cursor.damaged(`metadata key ${i} has no name`);
    if (metadata.has(key)) throw cursor.damaged(`metadata key ${quote(key)} is there twice`);
    const type = valueType(cursor, key);
    types.set(key, type);
    metadata.set(key, type === 'array' ? readArray(cursor, key) : readScalar(cursor, type, quote(key)));
  }
  const alignment = readAlignment(cursor, metadata, types);
  checkTokens(cursor, metadata.get('tokenizer.ggml.tokens'));

  const entries: Entry[] = [];
  const names = new Set<string>();
  for (let i = 0; i < tensorCount; i++) entries.push(readEntry(cursor, i, names));
  // Without tensors the file may end without padding.
  const dataOffset = tensorCount === 0 ? cursor.offset : align(cursor.offset, alignment);
  const tensors = place(cursor, entries, { dataOffset, alignment, fileBytes, path });
  return {
    path,
    version,
    metadata,
    tensors,
    alignment,
    dataOffset,
    fileBytes,
    fingerprint: fingerprint(cursor.until(dataOffset), fileBytes),
  };
}

function fingerprint(header: Uint8Array, fileBytes: number): string {
  const size = Buffer.alloc(8);
  size.writeBigUInt64LE(BigInt(fileBytes));
  return createHash('sha256').update(header).update(size).digest('hex');
}

/** Names come from the file: shown short and without control characters. */
function quote(name: string): string {
  return JSON.stringify(name.length > 80 ? `${name.slice(0, 80)}…` : name);
}

function valueType(cursor: HeaderCursor, key: string): GgufValueType {
  const id = cursor.u32(`the type of ${quote(key)}`);
  const type = valueTypes[id];
  if (type === undefined) throw cursor.damaged(`metadata key ${quote(key)} has the unknown value type ${id}`);
  return type;
}

const SCALAR_BYTES = { u8: 1, i8: 1, u16: 2, i16: 2, u32: 4, i32: 4, f32: 4, bool: 1, u64: 8, i64: 8, f64: 8 };

function readScalar(cursor: HeaderCursor, type: Exclude<GgufValueType, 'array'>, what: string): GgufValue {
  if (type === 'string') return cursor.string(what);
  if (type === 'bool') return cursor.u8(what) !== 0;
  const view = new DataView(cursor.bytes(SCALAR_BYTES[type], what));
  switch (type) {
    case 'u8':
      return view.getUint8(0);
    case 'i8':
      return view.getInt8(0);
    case 'u16':
      return view.getUint16(0, true);
    case 'i16':
      return view.getInt16(0, true);
    case 'u32':
      return view.getUint32(0, true);
    case 'i32':
      return view.getInt32(0, true);
    case 'f32':
      return view.getFloat32(0, true);
    case 'f64':
      return view.getFloat64(0, true);
    case 'u64':
      return exact(view.getBigUint64(0, true));
    case 'i64':
      return exact(view.getBigInt64(0, true));
  }
}

function exact(value: bigint): number | bigint {
  const number = Number(value);
  return Number.isSafeInteger(number) ? number : value;
}

function readArray(cursor: HeaderCursor, key: string): GgufArray {
  const type = valueType(cursor, key);
  const what = `the values of ${quote(key)}`;
  if (type === 'array') throw cursor.damaged(`metadata key ${quote(key)} is an array of arrays`);
  if (type === 'string') {
    const count = cursor.count(8, what);
    const strings: string[] = [];
    for (let i = 0; i < count; i++) strings.push(cursor.string(what));
    return strings;
  }
  const count = cursor.count(SCALAR_BYTES[type], what);
  // Typed arrays are in the machine's byte order, which is little endian wherever llama.cpp's libraries are built for.
  const bytes = cursor.bytes(count * SCALAR_BYTES[type], what);
  switch (type) {
    case 'u8':
      return new Uint8Array(bytes);
    case 'i8':
      return new Int8Array(bytes);
    case 'u16':
      return new Uint16Array(bytes);
    case 'i16':
      return new Int16Array(bytes);
    case 'u32':
      return new Uint32Array(bytes);
    case 'i32':
      return new Int32Array(bytes);
    case 'f32':
      return new Float32Array(bytes);
    case 'f64':
      return new Float64Array(bytes);
    case 'u64':
      return new BigUint64Array(bytes);
    case 'i64':
      return new BigInt64Array(bytes);
    case 'bool':
      return Array.from(new Uint8Array(bytes), (value) => value !== 0);
  }
}

function readAlignment(
  cursor: HeaderCursor,
  metadata: ReadonlyMap<string, GgufValue>,
  types: ReadonlyMap<string, GgufValueType>,
): number {
  const alignment = metadata.get('general.alignment');
  if (alignment === undefined) return defaultAlignment;
  if (typeof alignment !== 'number' || types.get('general.alignment') !== 'u32')
    throw cursor.damaged('its alignment is not a 32-bit integer');
  if (alignment === 0 || (alignment & (alignment - 1)) !== 0)
    throw cursor.damaged(`its alignment ${alignment} is not a power of two`);
  // ggml asserts 32 on the mapped address of a model's first tensor.
  if (alignment < defaultAlignment) throw cursor.damaged(`its alignment ${alignment} is below ${defaultAlignment}`);
  return alignment;
}

/** llama.cpp asserts that no two tokens have the same text (an empty one gets a name of its own there). */
function checkTokens(cursor: HeaderCursor, tokens: GgufValue | undefined): void {
  if (!Array.isArray(tokens)) return;
  const seen = new Set<unknown>();
  for (const token of tokens) {
    // Two byte strings that are no UTF-8 may look alike without being equal.
    if (token === '' || (typeof token === 'string' && token.includes('\ufffd'))) continue;
    if (seen.has(token)) throw cursor.damaged(`the token ${quote(String(token))} is in its vocabulary twice`);
    seen.add(token);
  }
}

/** A tensor as the table has it: its offset counts from the beginning of the data. */
interface Entry extends Omit<GgufTensor, 'offset'> {
  readonly relative: bigint;
}

function readEntry(cursor: HeaderCursor, index: number, names: Set<string>): Entry {
  const name = cursor.string(`the name of tensor ${index}`);
  const label = `tensor ${quote(name)}`;
  if (Buffer.byteLength(name) > maxNameBytes)
    throw cursor.damaged(`the name of ${label} is longer than ${maxNameBytes} bytes`);
  if (name.includes('\0')) throw cursor.damaged(`the name of ${label} holds a zero byte`);
  if (names.has(name)) throw cursor.damaged(`${label} is there twice`);
  names.add(name);
  const dimensions = cursor.u32(`the shape of ${label}`);
  if (dimensions > maxDimensions) throw cursor.damaged(`${label} has ${dimensions} dimensions, more than 4`);
  const shape: number[] = [];
  let elements = 1;
  for (let i = 0; i < dimensions; i++) {
    const length = Number(cursor.u64(`the shape of ${label}`));
    elements *= length;
    if (length === 0 || !Number.isSafeInteger(elements)) throw cursor.damaged(`${label} has an impossible shape`);
    shape.push(length);
  }
  const id = cursor.u32(`the type of ${label}`);
  const type = ggmlTypes.get(id);
  if (type === undefined) throw cursor.damaged(`${label} has the unknown type ${id}`);
  if ((shape[0] ?? 1) % type.block !== 0)
    throw cursor.damaged(`rows of ${label} are not whole ${type.name} blocks of ${type.block}`);
  const bytes = (elements / type.block) * type.blockBytes;
  if (!Number.isSafeInteger(bytes)) throw cursor.damaged(`${label} has an impossible shape`);
  return { name, type: id, typeName: type.name, shape, bytes, relative: cursor.u64(`the offset of ${label}`) };
}

/** Tensors follow each other in the order of the table, each padded to the alignment, as llama.cpp demands. */
function place(
  cursor: HeaderCursor,
  entries: readonly Entry[],
  file: { dataOffset: number; alignment: number; fileBytes: number; path: string },
): GgufTensor[] {
  let next = 0;
  let end = file.dataOffset;
  const tensors = entries.map(({ relative, ...entry }) => {
    if (relative !== BigInt(next)) {
      const how = relative < BigInt(next) ? 'overlaps the one before it' : 'does not follow the one before it';
      throw cursor.damaged(`the data of tensor ${quote(entry.name)} ${how}`);
    }
    const offset = file.dataOffset + next;
    end = offset + entry.bytes;
    next = align(next + entry.bytes, file.alignment);
    if (!Number.isSafeInteger(file.dataOffset + next)) throw cursor.damaged('its tensors are impossibly large');
    return { ...entry, offset };
  });
  if (end > file.fileBytes)
    throw new TmemError(
      'missing',
      `${file.path} is truncated: ${end - file.fileBytes} bytes are missing; pull it again.`,
    );
  return tensors;
}
