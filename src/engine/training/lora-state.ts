import { TmemError } from '../errors.ts';
import { type GgmlContext, type Native, type Buffer as NativeBuffer, type Tensor, TYPE } from '../native/library.ts';
import type { FastWeights, LoraTensor } from '../types.ts';
import type { LoraTensors } from './tape.ts';
import type { TopLayers } from './top-layers.ts';

/** The native side of one adapted product while it is trained or applied. */
export interface LoraSlot extends LoraTensors {
  readonly name: string;
  readonly source: LoraTensor;
  readonly R: number;
  /** Gradient of B [R, out] and AdamW's moments, when trained. */
  readonly gradient?: Tensor;
  readonly m?: Tensor;
  readonly v?: Tensor;
}

/** Fast weights in native memory. B and the moments start as given and as 0. */
export class LoraState {
  readonly slots = new Map<string, LoraSlot>();
  readonly rank: number;
  #f: Native;
  #context: GgmlContext;
  #buffer: NativeBuffer;

  /** @throws TmemError `missing` when the shapes do not fit the model's layers. */
  constructor(top: TopLayers, weights: FastWeights, options: { trained: boolean }) {
    const f = top.native;
    this.#f = f;
    this.rank = weights.rank;
    this.#context = f.init({ mem_size: 1 << 20, mem_buffer: null, no_alloc: true });
    const R = weights.rank;
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
        source.a.length !== R * inputs ||
        source.b.length !== outputs * R
      ) {
        throw new TmemError(
          'missing',
          `The fast weights of ${name} have another shape than the model; they were made for another model.`,
        );
      }
      const b = () => f.new2(this.#context, TYPE.F32, R, outputs);
      const common = {
        name,
        source,
        R,
        a: f.new2(this.#context, TYPE.F32, inputs, R),
        aT: f.new2(this.#context, TYPE.F32, R, inputs),
        b: b(),
        trained: options.trained,
      };
      this.slots.set(name, options.trained ? { ...common, gradient: b(), m: b(), v: b() } : common);
    }
    const buffer = f.allocateContext(this.#context, top.backend);
    if (!buffer) throw new TmemError('missing', 'There is not enough memory for the fast weights; use a lower rank.');
    this.#buffer = buffer;
    for (const slot of this.slots.values()) {
      const { a, b, inputs, outputs } = slot.source;
      f.tensorSet(slot.a, a, 0, a.byteLength);
      f.tensorSet(slot.aT, transposed(a, R, inputs), 0, a.byteLength);
      f.tensorSet(slot.b, b, 0, b.byteLength);
      const zero = new Float32Array(outputs * R);
      for (const t of [slot.gradient, slot.m, slot.v]) if (t) f.tensorSet(t, zero, 0, zero.byteLength);
    }
  }

  /** The fast weights as a value, with B as it is now. */
  snapshot(): FastWeights {
    const tensors = [...this.slots.values()].map((slot) => {
      const b = new Float32Array(slot.source.outputs * slot.R);
      this.#f.tensorGet(slot.b, b, 0, b.byteLength);
      return { ...slot.source, b };
    });
    return { rank: this.rank, alpha: this.rank, tensors };
  }

  free(): void {
    this.#f.bufferFree(this.#buffer);
    this.#f.free(this.#context);
  }
}

/** [rows, columns] to [columns, rows], both row-major. */
export function transposed(x: Float32Array, rows: number, columns: number): Float32Array {
  const y = new Float32Array(x.length);
  for (let r = 0; r < rows; r++) for (let c = 0; c < columns; c++) y[c * rows + r] = x[r * columns + c]!;
  return y;
}
