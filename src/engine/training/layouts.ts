/** How the weights of products lie in memory: as in the file, or in a layout that ggml multiplies faster with. */
import { ggmlTypes } from '../gguf/types.ts';
import { type BufferType, extraBufferTypes, type Native, TYPE } from '../native/library.ts';
import type { Backends } from './backends.ts';
import { Kernels } from './kernels.ts';

export interface Layout {
  readonly type: number;
  /** Where it lies, when not in the backend's own memory: the weight is rearranged there and can only be multiplied with. */
  readonly bufferType?: BufferType;
  /** F32, which a BLAS multiplies with in both directions. */
  readonly dense?: boolean;
}

/** Quantised types that ggml has blocked kernels for; the others are multiplied row by row, Q6_K at two thirds of Q8_0's speed. */
const BLOCKED = new Set(['Q4_0', 'Q5_0', 'Q8_0', 'IQ4_NL']);

/** Those that its CPU backends rearrange, most of them on any processor. */
export const REARRANGED = new Set(['Q4_0', 'Q4_K', 'IQ4_NL']);

/** ggml's kernels for AMX read memory that is not theirs where a row is a single block of 32. No model but those of tests has such. */
const LEAST_INPUTS = 64;

/** The type itself where ggml multiplies it fast as it lies in the file, Q8_0 otherwise. */
export function fastType(type: number): number {
  const { name, block } = ggmlTypes.get(type)!;
  return block > 1 && !BLOCKED.has(name) ? TYPE.Q8_0 : type;
}

/** The fastest layout of each product on one device, as llama.cpp chooses it, or Q8_0 where there is none for its type. */
export class Layouts {
  #f: Native;
  #backends: Backends;
  #extra: readonly BufferType[];
  #blas: boolean;
  #kernels: Kernels;
  #found = new Map<string, BufferType | undefined>();

  /** @param blas whether a BLAS may be chosen, for which weights are kept in F32. */
  constructor(native: Native, backends: Backends, { blas = true } = {}) {
    this.#f = native;
    this.#blas = blas;
    this.#backends = backends;
    this.#kernels = new Kernels(backends);
    this.#extra = backends.isCpu ? extraBufferTypes(native, backends.device) : [];
  }

  /** @param backward type of the transposed copy that the gradient passes through, if it has to be one of ggml's */
  choose(type: number, inputs: number, outputs: number, backward: number = TYPE.Q8_0): Layout {
    const layout = this.#ofGgml(type, inputs, outputs);
    const copy = this.ofTransposed(backward, inputs, outputs);
    const dense = this.#blas && this.#kernels.prefersBlas(inputs * outputs, layout, copy);
    return dense ? { type: TYPE.F32, dense } : layout;
  }

  /** Of the transposed copy, in that type, of a weight [inputs, outputs]. */
  ofTransposed(type: number, inputs: number, outputs: number): Layout {
    const bufferType = type === TYPE.Q8_0 ? this.#rearranged(type, outputs, inputs) : undefined;
    return { type, ...(bufferType && { bufferType }) };
  }

  /** How many times faster a BLAS multiplies with large weights of a type; 0 without one. */
  gain(type: number): number {
    const size = 1 << 11;
    return this.#kernels.gain(this.#ofGgml(type, size, size), this.ofTransposed(TYPE.Q8_0, size, size));
  }

  #ofGgml(type: number, inputs: number, outputs: number): Layout {
    const wanted = REARRANGED.has(ggmlTypes.get(type)!.name) ? type : fastType(type);
    const bufferType = this.#rearranged(wanted, inputs, outputs);
    if (bufferType) return { type: wanted, bufferType };
    if (!this.#backends.isCpu) return { type: this.#multiplies(undefined, type, inputs, outputs) ? type : TYPE.Q8_0 };
    return { type: fastType(type) };
  }

  #rearranged(type: number, inputs: number, outputs: number): BufferType | undefined {
    if (inputs < LEAST_INPUTS) return undefined;
    const key = `${type} ${inputs} ${outputs}`;
    if (!this.#found.has(key))
      this.#found.set(
        key,
        this.#extra.find((bufferType) => this.#multiplies(bufferType, type, inputs, outputs)),
      );
    return this.#found.get(key);
  }

  #multiplies(bufferType: BufferType | undefined, type: number, inputs: number, outputs: number): boolean {
    const f = this.#f;
    const context = f.init({ mem_size: 1 << 14, mem_buffer: null, no_alloc: true });
    const weight = f.new2(context, type, inputs, outputs);
    const buffer = this.#backends.allocate(context, bufferType);
    try {
      // The input is made after the allocation: it would lie in the backend's own memory.
      return (
        buffer !== null &&
        f.supports(this.#backends.device, f.mulMat(context, weight, f.new2(context, TYPE.F32, inputs, 1)))
      );
    } finally {
      if (buffer) f.bufferFree(buffer);
      f.free(context);
    }
  }
}
