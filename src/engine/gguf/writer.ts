import { TmemError } from '../errors.ts';
import { writeFileAtomic } from '../files.ts';
import {
  align,
  defaultAlignment,
  type GgufValueType,
  ggmlTypes,
  maxDimensions,
  maxNameBytes,
  valueTypes,
} from './types.ts';

type NumberType = Exclude<GgufValueType, 'string' | 'bool' | 'array'>;

/** A metadata value to write. Numbers name their type, as readers care about it. */
export type GgufInput =
  | string
  | boolean
  | readonly string[]
  | { readonly type: NumberType; readonly value: number | bigint }
  | { readonly type: NumberType; readonly values: ArrayLike<number | bigint> };

export interface GgufTensorInput {
  readonly name: string;
  /** ggml type id. */
  readonly type: number;
  /** ggml order: ne0 first. */
  readonly shape: readonly number[];
  /** The tensor's bytes in its own type; Float32Array for F32 (type 0). */
  readonly data: Uint8Array | Float32Array;
}

export interface GgufInputFile {
  readonly metadata: Readonly<Record<string, GgufInput>>;
  readonly tensors: readonly GgufTensorInput[];
}

const STRING = valueTypes.indexOf('string');
const ARRAY = valueTypes.indexOf('array');

/**
 * Writes a GGUF version 3, atomically (see `writeFileAtomic`).
 * @throws TmemError `usage` for data that does not fit its shape, `failed` when the file cannot be written.
 */
export async function writeGguf(path: string, file: GgufInputFile): Promise<void> {
  const head: Buffer[] = [Buffer.from('GGUF'), u32(3), u64(file.tensors.length)];
  const metadata = Object.entries(file.metadata);
  head.push(u64(metadata.length));
  for (const [key, value] of metadata) head.push(text(key), ...encode(value));

  const names = new Set<string>();
  let relative = 0;
  for (const tensor of file.tensors) {
    check(tensor, names);
    head.push(text(tensor.name), u32(tensor.shape.length), ...tensor.shape.map(u64), u32(tensor.type), u64(relative));
    relative = align(relative + tensor.data.byteLength, defaultAlignment);
  }
  const header = Buffer.concat(head);
  await writeFileAtomic(path, async (write) => {
    await write(header);
    await write(padding(header.length));
    for (const { data } of file.tensors) {
      await write(new Uint8Array(data.buffer, data.byteOffset, data.byteLength));
      await write(padding(data.byteLength));
    }
  });
}

function check(tensor: GgufTensorInput, names: Set<string>): void {
  const refuse = (what: string) => new TmemError('usage', `Tensor "${tensor.name}" cannot be written: ${what}.`);
  const type = ggmlTypes.get(tensor.type);
  if (type === undefined) throw refuse(`type ${tensor.type} is unknown`);
  if (names.has(tensor.name)) throw refuse('its name is used twice');
  names.add(tensor.name);
  if (Buffer.byteLength(tensor.name) > maxNameBytes) throw refuse(`its name is longer than ${maxNameBytes} bytes`);
  const [row] = tensor.shape;
  if (row === undefined || tensor.shape.length > maxDimensions || row % type.block !== 0)
    throw refuse(`its shape [${tensor.shape}] is no shape of ${type.name}`);
  if (tensor.data instanceof Float32Array && type.name !== 'F32') throw refuse(`float data is not ${type.name}`);
  const elements = tensor.shape.reduce((product, length) => product * length, 1);
  const bytes = (elements / type.block) * type.blockBytes;
  if (bytes !== tensor.data.byteLength || bytes === 0)
    throw refuse(`it has ${tensor.data.byteLength} bytes where its shape asks for ${bytes}`);
}

function encode(value: GgufInput): Buffer[] {
  if (typeof value === 'string') return [u32(STRING), text(value)];
  if (typeof value === 'boolean') return [u32(valueTypes.indexOf('bool')), Buffer.from([value ? 1 : 0])];
  if (Array.isArray(value)) return [u32(ARRAY), u32(STRING), u64(value.length), ...value.map(text)];
  // Array.isArray does not narrow readonly arrays away.
  const input = value as Exclude<GgufInput, string | boolean | readonly string[]>;
  const type = u32(valueTypes.indexOf(input.type));
  if ('value' in input) return [type, number(input.type, input.value)];
  const values = Array.from(input.values, (item) => number(input.type, item));
  return [u32(ARRAY), type, u64(values.length), ...values];
}

/** Length in bytes and the method that stores the value, little endian where there is an order. */
const encoders: Record<NumberType, readonly [number, (view: DataView, value: number | bigint) => void]> = {
  u8: [1, (view, value) => view.setUint8(0, Number(value))],
  i8: [1, (view, value) => view.setInt8(0, Number(value))],
  u16: [2, (view, value) => view.setUint16(0, Number(value), true)],
  i16: [2, (view, value) => view.setInt16(0, Number(value), true)],
  u32: [4, (view, value) => view.setUint32(0, Number(value), true)],
  i32: [4, (view, value) => view.setInt32(0, Number(value), true)],
  f32: [4, (view, value) => view.setFloat32(0, Number(value), true)],
  u64: [8, (view, value) => view.setBigUint64(0, BigInt(value), true)],
  i64: [8, (view, value) => view.setBigInt64(0, BigInt(value), true)],
  f64: [8, (view, value) => view.setFloat64(0, Number(value), true)],
};

function number(type: NumberType, value: number | bigint): Buffer {
  const [bytes, store] = encoders[type];
  const view = new DataView(new ArrayBuffer(bytes));
  store(view, value);
  return Buffer.from(view.buffer);
}

function text(value: string): Buffer {
  const bytes = Buffer.from(value);
  return Buffer.concat([u64(bytes.length), bytes]);
}

function u32(value: number): Buffer {
  return number('u32', value);
}

function u64(value: number): Buffer {
  return number('u64', value);
}

function padding(length: number): Uint8Array {
  return new Uint8Array(align(length, defaultAlignment) - length);
}
