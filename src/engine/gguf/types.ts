/** What a GGUF file holds. Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md */

/** Layout of one ggml tensor type: `blockBytes` bytes hold `block` elements of a row. */
export interface GgmlType {
  readonly id: number;
  readonly name: string;
  readonly block: number;
  readonly blockBytes: number;
}

/** Every type that a GGUF file may hold today; the ids between them were withdrawn and are refused. */
const ROWS: readonly (readonly [id: number, name: string, block: number, blockBytes: number])[] = [
  [0, 'F32', 1, 4],
  [1, 'F16', 1, 2],
  [2, 'Q4_0', 32, 18],
  [3, 'Q4_1', 32, 20],
  [6, 'Q5_0', 32, 22],
  [7, 'Q5_1', 32, 24],
  [8, 'Q8_0', 32, 34],
  [9, 'Q8_1', 32, 36],
  [10, 'Q2_K', 256, 84],
  [11, 'Q3_K', 256, 110],
  [12, 'Q4_K', 256, 144],
  [13, 'Q5_K', 256, 176],
  [14, 'Q6_K', 256, 210],
  [15, 'Q8_K', 256, 292],
  [16, 'IQ2_XXS', 256, 66],
  [17, 'IQ2_XS', 256, 74],
  [18, 'IQ3_XXS', 256, 98],
  [19, 'IQ1_S', 256, 50],
  [20, 'IQ4_NL', 32, 18],
  [21, 'IQ3_S', 256, 110],
  [22, 'IQ2_S', 256, 82],
  [23, 'IQ4_XS', 256, 136],
  [24, 'I8', 1, 1],
  [25, 'I16', 1, 2],
  [26, 'I32', 1, 4],
  [27, 'I64', 1, 8],
  [28, 'F64', 1, 8],
  [29, 'IQ1_M', 256, 56],
  [30, 'BF16', 1, 2],
  [34, 'TQ1_0', 256, 54],
  [35, 'TQ2_0', 256, 66],
  [39, 'MXFP4', 32, 17],
  [40, 'NVFP4', 64, 36],
  [41, 'Q1_0', 128, 18],
  [42, 'Q2_0', 64, 18],
];

/** By ggml type id. */
export const ggmlTypes: ReadonlyMap<number, GgmlType> = new Map(
  ROWS.map(([id, name, block, blockBytes]) => [id, { id, name, block, blockBytes }]),
);

/** Names of the metadata value types; the index is the type's number in the file. */
export const valueTypes = [
  'u8',
  'i8',
  'u16',
  'i16',
  'u32',
  'i32',
  'f32',
  'bool',
  'string',
  'array',
  'u64',
  'i64',
  'f64',
] as const;

export type GgufValueType = (typeof valueTypes)[number];

export type GgufArray =
  | string[]
  | boolean[]
  | Uint8Array
  | Int8Array
  | Uint16Array
  | Int16Array
  | Uint32Array
  | Int32Array
  | Float32Array
  | Float64Array
  | BigUint64Array
  | BigInt64Array;

/** 64-bit integers are numbers where that is exact, bigints elsewhere. */
export type GgufValue = string | number | bigint | boolean | GgufArray;

export interface GgufTensor {
  readonly name: string;
  /** ggml type id. */
  readonly type: number;
  readonly typeName: string;
  /** ggml order: ne0 (the length of a row) first. */
  readonly shape: readonly number[];
  /** Absolute position in the file. */
  readonly offset: number;
  readonly bytes: number;
}

export interface GgufFile {
  readonly path: string;
  readonly version: number;
  readonly metadata: ReadonlyMap<string, GgufValue>;
  readonly tensors: readonly GgufTensor[];
  readonly alignment: number;
  /** Where the tensor data begins. */
  readonly dataOffset: number;
  readonly fileBytes: number;
  /** SHA-256 (hex) over everything before the tensor data and the file's size: the identity of a base model. */
  readonly fingerprint: string;
}

/** The first multiple of `alignment` that is not below `offset`. */
export function align(offset: number, alignment: number): number {
  return Math.ceil(offset / alignment) * alignment;
}

export const defaultAlignment = 32;
/** ggml keeps names in a fixed field of 64 bytes, the closing zero included. */
export const maxNameBytes = 63;
export const maxDimensions = 4;
