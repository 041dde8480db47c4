import { TmemError } from '../errors.ts';
import { type GgmlContext, type Native, type Buffer as NativeBuffer, type Tensor, TYPE } from '../native/library.ts';
import type { FastWeights, LoraTensor } from '../types.ts';
import type { LoraTensors } from './tape.ts';
import type { TopLayers } from './top-layers.ts';

/**
 * ggml's blocked F32 kernels want a rank that is a multiple of 16 where there is AVX-512, of 8 elsewhere (B's product takes a third of the
 * time), so A and B are filled up with zeros. What is added to B has no gradient and stays 0.
 */
const RANK_UNIT = 16;

/** A, A^T and B, and the moments of A and of B. */
const TENSORS_A_SLOT = 9;

/** What the optimiser keeps of a tensor, in its shape: gradient, and AdamW's moments. */
export interface Moments {
  readonly gradient: Tensor;
  readonly m: Tensor;
  readonly v: Tensor;
}

/** The native side of one adapted product while it is trained or applied; R is the rank filled up. */
export interface LoraSlot extends LoraTensors {
  readonly name: string;
  readonly source: LoraTensor;
  readonly R: number;
  /** Of B [R, out], when trained. */
  readonly ofB?: Moments;
  /** Of A [in, R], when it is trained, too. */
  readonly ofA?: Moments;
}

/** Fast weights in native memory. A and B start as given, the moments as 0. */
export class LoraState {
  readonly slots = new Map<string, LoraSlot>();
  /** As given, and filled up. */
  readonly rank: number;
  readonly R: number;
  #f: Native;
  #context: GgmlContext;
  #buffer: NativeBuffer;

  /** @throws TmemError `missing` when the shapes do not fit the model's layers. */
  constructor(
    top: TopLayers,
    weights: FastWeights,
    options: { readonly trained: boolean; readonly trainsA?: boolean },
  ) {
    const f = top.native;
    this.#f = f;
    this.rank = weights.rank;
    const tensorBytes = Number(f.tensorOverhead()) * TENSORS_A_SLOT;
    this.#context = f.init({ mem_size: tensorBytes * weights.tensors.length, mem_buffer: null, no_alloc: true });
    const { rank } = weights;
    const R = Math.ceil(rank / RANK_UNIT) * RANK_UNIT;
    this.R = R;
    const known = new Set(top.adaptedNames());
    for (const source of weights.tensors) {
      const { name, inputs, outputs } = source;
      if (!known.has(name))
        throw new TmemError(
          'missing',
          `The fast weights adapt ${name}, which is not among the trained layers; make new ones with --layers to match.`,
        );
      const size = top.size(name);
      if (
        size.inputs !== inputs ||
        size.outputs !== outputs ||
        source.a.length !== rank * inputs ||
        source.b.length !== outputs * rank
      ) {
        throw new TmemError(
          'missing',
          `The fast weights of ${name} have another shape than the model; they were made for another model.`,
        );
      }
      const a = () => f.new2(this.#context, TYPE.F32, inputs, R);
      const b = () => f.new2(this.#context, TYPE.F32, R, outputs);
      const moments = (of: () => Tensor): Moments => ({ gradient: of(), m: of(), v: of() });
      const { trained, trainsA = false } = options;
      const common = {
        name,
        source,
        R,
        a: a(),
        aT: f.new2(this.#context, TYPE.F32, R, inputs),
        b: b(),
        ...{ trained, trainsA },
      };
      this.slots.set(name, {
        ...common,
        ...(trained && { ofB: moments(b) }),
        ...(trainsA && { ofA: moments(a) }),
      });
    }
    const buffer = f.allocateContext(this.#context, top.backend);
    if (!buffer) throw new TmemError('missing', 'There is not enough memory for the fast weights; use a lower rank.');
    this.#buffer = buffer;
    for (const slot of this.slots.values()) {
      const { a, b, inputs } = slot.source;
      const filled = new Float32Array(R * inputs);
      filled.set(a);
      f.tensorSet(slot.a, filled, 0, filled.byteLength);
      f.tensorSet(slot.aT, transposed(filled, R, inputs), 0, filled.byteLength);
      this.set(slot.b, b);
      for (const { gradient, m, v } of [slot.ofA, slot.ofB].filter((of) => of !== undefined)) {
        const zero = new Float32Array(f.elements(gradient));
        for (const t of [gradient, m, v]) f.tensorSet(t, zero, 0, zero.byteLength);
      }
    }
  }

  /** The fast weights as a value, with A and B as they are now. */
  snapshot(): FastWeights {
    const tensors = [...this.slots.values()].map((slot) => ({
      ...slot.source,
      b: this.get(slot.b),
      ...(slot.trainsA && { a: this.getA(slot.a, slot.source.inputs) }),
    }));
    return { rank: this.rank, alpha: this.rank, tensors };
  }

  /** A tensor in B's shape as [out, rank]. */
  get(tensor: Tensor): Float32Array {
    const filled = new Float32Array(this.#f.elements(tensor));
    this.#f.tensorGet(tensor, filled, 0, filled.byteLength);
    return resizeRows(filled, this.R, this.rank);
  }

  /** A tensor in A's shape as [rank, in]. */
  getA(tensor: Tensor, inputs: number): Float32Array {
    const filled = new Float32Array(this.R * inputs);
    this.#f.tensorGet(tensor, filled, 0, filled.byteLength);
    return filled.slice(0, this.rank * inputs);
  }

  set(tensor: Tensor, values: Float32Array): void {
    const filled = resizeRows(values, this.rank, this.R);
    this.#f.tensorSet(tensor, filled, 0, filled.byteLength);
  }

  free(): void {
    this.#f.bufferFree(this.#buffer);
    this.#f.free(this.#context);
  }
}

/** Rows cut or filled up with zeros. */
export function resizeRows(x: Float32Array, from: number, to: number): Float32Array {
  const rows = x.length / from;
  const y = new Float32Array(rows * to);
  for (let r = 0; r < rows; r++) y.set(x.subarray(r * from, r * from + Math.min(from, to)), r * to);
  return y;
}

/** [rows, columns] to [columns, rows], both row-major. */
export function transposed(x: Float32Array, rows: number, columns: number): Float32Array {
  const y = new Float32Array(x.length);
  for (let r = 0; r < rows; r++) for (let c = 0; c < columns; c++) y[c * rows + r] = x[r * columns + c]!;
  return y;
}
