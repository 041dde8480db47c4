/**
 * Quantised values as numbers: the block layouts of ggml (ggml-common.h, and `dequantize_row_*` in ggml-quants.c of
 * https://github.com/ggml-org/ggml), for the types that weights of language models mostly have. All scales are halves, all bits little endian.
 */
import { TmemError } from '../errors.ts';
import { ggmlTypes } from './types.ts';

/** Writes the values of one block, which begins at `at`, to `out` from `to` on. */
type Decode = (block: DataView, at: number, out: Float32Array, to: number) => void;

/** Two values a byte: the low halves are the first 16 values, the high ones the others. `fifth` adds a bit to each. */
const nibbles =
  (dataAt: number, value: (block: DataView, at: number, q: number) => number, fifthAt?: number): Decode =>
  (block, at, out, to) => {
    const fifth = fifthAt === undefined ? 0 : block.getUint32(at + fifthAt, true);
    for (let j = 0; j < 16; j++) {
      const byte = block.getUint8(at + dataAt + j);
      out[to + j] = value(block, at, (byte & 15) | (((fifth >>> j) & 1) << 4));
      out[to + j + 16] = value(block, at, (byte >> 4) | (((fifth >>> (j + 16)) & 1) << 4));
    }
  };
const scaled = (zero: number) => (block: DataView, at: number, q: number) => half(block, at) * (q - zero);
const shifted = (block: DataView, at: number, q: number) => half(block, at) * q + half(block, at + 2);

/** Q4_K and Q5_K: 256 values, in eight parts of 32 with a scale and a minimum of 6 bits each. */
const superBlock =
  (fifthAt: number | undefined, dataAt: number): Decode =>
  (block, at, out, to) => {
    const [d, min] = [half(block, at), half(block, at + 2)];
    for (let part = 0; part < 8; part++) {
      const [scale, minimum] = sixBits(block, at + 4, part);
      for (let l = 0; l < 32; l++) {
        const byte = block.getUint8(at + dataAt + 32 * (part >> 1) + l);
        const fifth = fifthAt === undefined ? 0 : (block.getUint8(at + fifthAt + l) >> part) & 1;
        const q = (part & 1 ? byte >> 4 : byte & 15) | (fifth << 4);
        out[to + 32 * part + l] = d * scale * q - min * minimum;
      }
    }
  };

function sixBits(block: DataView, at: number, part: number): [scale: number, minimum: number] {
  const byte = (i: number) => block.getUint8(at + i);
  if (part < 4) return [byte(part) & 63, byte(part + 4) & 63];
  const shared = byte(part + 4);
  return [(shared & 15) | ((byte(part - 4) >> 6) << 4), (shared >> 4) | ((byte(part) >> 6) << 4)];
}

/** 256 values of 6 bits, four from every three bytes, in sixteen parts with a signed scale each. */
const q6k: Decode = (block, at, out, to) => {
  const d = half(block, at + 208);
  for (let n = 0; n < 2; n++) {
    for (let l = 0; l < 32; l++) {
      const high = block.getUint8(at + 128 + 32 * n + l);
      for (let k = 0; k < 4; k++) {
        const low = block.getUint8(at + 64 * n + 32 * (k & 1) + l);
        const q = ((k < 2 ? low & 15 : low >> 4) | (((high >> (2 * k)) & 3) << 4)) - 32;
        const scale = block.getInt8(at + 192 + 8 * n + 2 * k + (l >> 4));
        out[to + 128 * n + 32 * k + l] = d * scale * q;
      }
    }
  }
};

const DECODERS: Readonly<Record<string, Decode>> = {
  F32: (block, at, out, to) => {
    out[to] = block.getFloat32(at, true);
  },
  F16: (block, at, out, to) => {
    out[to] = half(block, at);
  },
  BF16: (block, at, out, to) => {
    out[to] = bits32(block.getUint16(at, true) << 16);
  },
  Q4_0: nibbles(2, scaled(8)),
  Q4_1: nibbles(4, shifted),
  Q5_0: nibbles(6, scaled(16), 2),
  Q5_1: nibbles(8, shifted, 4),
  Q8_0: (block, at, out, to) => {
    for (let j = 0; j < 32; j++) out[to + j] = half(block, at) * block.getInt8(at + 2 + j);
  },
  Q4_K: superBlock(undefined, 16),
  Q5_K: superBlock(16, 48),
  Q6_K: q6k,
};

/** @throws TmemError `usage` for a type that is not among those above. */
export function dequantise(bytes: Uint8Array, type: number): Float32Array {
  const layout = ggmlTypes.get(type);
  const decode = layout && DECODERS[layout.name];
  if (!decode)
    throw new TmemError(
      'usage',
      `Weights of type ${layout?.name ?? type} cannot be read; take another quantisation of the model.`,
    );
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const blocks = bytes.byteLength / layout.blockBytes;
  const out = new Float32Array(blocks * layout.block);
  for (let i = 0; i < blocks; i++) decode(view, i * layout.blockBytes, out, i * layout.block);
  return out;
}

const scratch = new DataView(new ArrayBuffer(4));

function bits32(bits: number): number {
  scratch.setInt32(0, bits);
  return scratch.getFloat32(0);
}

/** An IEEE half as a number. */
function half(view: DataView, at: number): number {
  const bits = view.getUint16(at, true);
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 31;
  const fraction = bits & 1023;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  if (exponent === 31) return fraction ? Number.NaN : sign * Number.POSITIVE_INFINITY;
  return sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
}

/** Numbers as IEEE halves, rounded to the nearest, ties to even; what is too large becomes infinite. */
export function toHalves(values: Float32Array): Uint8Array {
  const bytes = new Uint8Array(2 * values.length);
  const view = new DataView(bytes.buffer);
  for (const [i, value] of values.entries()) view.setUint16(2 * i, halfBits(value), true);
  return bytes;
}

function halfBits(value: number): number {
  scratch.setFloat32(0, value);
  const sign = (scratch.getUint32(0) >>> 16) & 0x8000;
  const size = Math.abs(value);
  if (Number.isNaN(size)) return sign | 0x7e00;
  if (size >= 65520) return sign | 0x7c00;
  // The step between neighbours: that of the least exponent below 2^-14.
  const exponent = Math.max(-14, Math.floor(Math.log2(Math.max(size, 2 ** -24))));
  const steps = roundEven(size / 2 ** (exponent - 10));
  // A carry into the exponent is what adding the fraction gives by itself.
  return sign | (exponent === -14 ? steps : ((exponent + 15) << 10) + steps - 1024);
}

function roundEven(x: number): number {
  const floor = Math.floor(x);
  const rest = x - floor;
  return rest > 0.5 || (rest === 0.5 && floor % 2 === 1) ? floor + 1 : floor;
}
