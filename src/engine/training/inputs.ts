/** The inputs of the adapted products, read from a forward pass. */
import { sizesOf } from '../native/library.ts';
import { forward, inputOf } from './forward.ts';
import type { LoraState } from './lora-state.ts';
import { groupSamples, PackedBatch, type PreparedSample } from './packed-batch.ts';
import type { TopLayers } from './top-layers.ts';

const MAX_TOKENS = 512;

/** Inputs of one adapted product: rows of d values. */
export interface Rows {
  readonly d: number;
  readonly values: Float32Array[];
}

export interface InputOptions {
  readonly frozen?: LoraState | undefined;
  /** Leaves out the prompt tokens that all samples share. */
  readonly ownOnly: boolean;
}

/** The inputs of the adapted products at every token. */
export function captureInputs(
  top: TopLayers,
  samples: readonly PreparedSample[],
  options: InputOptions,
): Map<string, Rows> {
  const found = new Map<string, Rows>();
  for (const group of inputsByGroup(top, samples, options)) {
    for (const [key, { d, values }] of group) {
      const rows = found.get(key) ?? { d, values: [] };
      found.set(key, rows);
      rows.values.push(...values);
    }
  }
  return found;
}

/** The same in runs of samples, for those who need not keep them: a token has some 100 KB of inputs. */
export function* inputsByGroup(
  top: TopLayers,
  samples: readonly PreparedSample[],
  { frozen, ownOnly }: InputOptions,
): Generator<Map<string, Rows>> {
  const f = top.native;
  const adapted = new Set(top.adaptedNames().map(inputOf));
  const runner = top.backends.newRunner();
  try {
    for (const group of groupSamples(samples, { tokens: MAX_TOKENS })) {
      const found = new Map<string, Rows>();
      const batch = new PackedBatch(top, group, 'all');
      const tape = top.newTape();
      const inputs = [...forward(tape, top, { frozen }, batch).inputs].filter(([key]) => adapted.has(key));
      for (const [, input] of inputs) {
        f.setOutput(input);
        f.expand(tape.graph, input);
      }
      runner.run(tape, {
        after: () => {
          for (const [key, input] of inputs) {
            const all = new Float32Array(f.elements(input));
            f.tensorGet(input, all, 0, all.byteLength);
            const [d] = sizesOf(input);
            const from = ownOnly ? batch.prefix : 0;
            const values = Array.from({ length: batch.tokens - from }, (_, i) =>
              all.subarray((from + i) * d, (from + i + 1) * d),
            );
            found.set(key, { d, values });
          }
        },
      });
      batch.free();
      yield found;
    }
  } finally {
    runner.free();
  }
}

/** At most n rows, evenly spread, as one matrix. */
export function spread(rows: Rows, n: number): Float32Array {
  const count = Math.min(n, rows.values.length);
  const matrix = new Float32Array(count * rows.d);
  for (let i = 0; i < count; i++) matrix.set(rows.values[Math.floor((i * rows.values.length) / count)]!, i * rows.d);
  return matrix;
}
