/** The inputs of the adapted products, read from a forward pass. */
import { forward, run } from './forward.ts';
import type { LoraState } from './lora-state.ts';
import { groupSamples, PackedBatch, type PreparedSample } from './packed-batch.ts';
import { Tape } from './tape.ts';
import type { TopLayers } from './top-layers.ts';

const MAX_TOKENS = 512;

/** Inputs of one adapted product: rows of d values. */
export interface Rows {
  readonly d: number;
  readonly values: Float32Array[];
}

/** Gate and up share their input. */
export function inputOf(name: string): string {
  const [, layer, part] = name.split('.');
  return `${part === 'ffn_down' ? 'swiglu' : 'norm'}-${layer}`;
}

/** The inputs of the adapted products at every token; `ownOnly` leaves out the prompt tokens that all samples share. */
export function captureInputs(
  top: TopLayers,
  samples: readonly PreparedSample[],
  { frozen, ownOnly }: { frozen?: LoraState | undefined; ownOnly: boolean },
): Map<string, Rows> {
  const f = top.native;
  const { D, F } = top.shape;
  const found = new Map<string, Rows>();
  const allocator = f.allocatorNew(f.defaultBufferType(top.backend));
  try {
    for (const group of groupSamples(samples, MAX_TOKENS)) {
      const batch = new PackedBatch(top, group, 'all');
      const tape = new Tape(f);
      const { keys } = forward(tape, top, { frozen }, batch);
      for (const k of keys) {
        for (const t of [k.norm, k.swiglu]) f.setOutput(t);
        f.expand(tape.graph, k.swiglu);
      }
      run(top, tape, allocator, {
        after: () => {
          for (const k of keys) {
            for (const [kind, tensor, d] of [
              ['norm', k.norm, D],
              ['swiglu', k.swiglu, F],
            ] as const) {
              const all = new Float32Array(batch.T * d);
              f.tensorGet(tensor, all, 0, all.byteLength);
              const rows = found.get(`${kind}-${k.layer}`) ?? { d, values: [] };
              found.set(`${kind}-${k.layer}`, rows);
              for (let t = ownOnly ? batch.prefix : 0; t < batch.T; t++)
                rows.values.push(all.subarray(t * d, (t + 1) * d));
            }
          }
        },
      });
      batch.free();
    }
  } finally {
    f.allocatorFree(allocator);
  }
  return found;
}

/** At most n rows, evenly spread, as one matrix. */
export function spread(rows: Rows, n: number): Float32Array {
  const count = Math.min(n, rows.values.length);
  const matrix = new Float32Array(count * rows.d);
  for (let i = 0; i < count; i++) matrix.set(rows.values[Math.floor((i * rows.values.length) / count)]!, i * rows.d);
  return matrix;
}
