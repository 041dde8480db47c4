/** Central finite differences of fourth order, and tapes on small F32 tensors to compare with them. */
import { type BackendHandle, loadNative, type Native, type Tensor, TYPE } from '../../src/engine/native/library.ts';
import { Backends } from '../../src/engine/training/backends.ts';
import { Tape } from '../../src/engine/training/tape.ts';

export interface Cpu {
  readonly native: Native;
  readonly backends: Backends;
  readonly backend: BackendHandle;
  newTape(): Tape;
}

let shared: Cpu | undefined;

/** The CPU backend with one thread; one for the whole process. */
export function cpu(): Cpu {
  if (shared) return shared;
  const native = loadNative();
  const backends = Backends.open(native, { threads: 1 });
  shared = { native, backends, backend: backends.main, newTape: () => new Tape(native) };
  return shared;
}

/** An input of a graph: floats, or indices. `shape` in ggml order. */
export interface Leaf {
  readonly shape: readonly number[];
  readonly data: Float32Array | Int32Array;
}

/** Leaves in native memory that no graph writes to. */
export class Leaves {
  readonly tensors: Tensor[];
  readonly #cpu = cpu();
  readonly #context;
  readonly #buffer;

  constructor(leaves: readonly Leaf[]) {
    const f = this.#cpu.native;
    this.#context = f.init({ mem_size: 1 << 18, mem_buffer: null, no_alloc: true });
    this.tensors = leaves.map(({ shape: [n0, n1, n2], data }) => {
      const type = data instanceof Float32Array ? TYPE.F32 : TYPE.I32;
      if (n2 !== undefined) return f.new3(this.#context, type, n0!, n1!, n2);
      return n1 === undefined ? f.new1(this.#context, type, n0!) : f.new2(this.#context, type, n0!, n1);
    });
    this.#buffer = f.allocateContext(this.#context, this.#cpu.backend)!;
    leaves.forEach(({ data }, i) => {
      this.set(i, data);
    });
  }

  set(i: number, data: Float32Array | Int32Array): void {
    this.#cpu.native.tensorSet(this.tensors[i]!, data, 0, data.byteLength);
  }

  /** Builds a tape, computes it, and reads the tensors that `build` returns. */
  evaluate(build: (tape: Tape, tensors: Tensor[]) => Tensor[]): Float32Array[] {
    const f = this.#cpu.native;
    const tape = new Tape(f);
    const outputs = build(tape, this.tensors);
    for (const out of outputs) {
      f.setOutput(out);
      f.expand(tape.graph, out);
    }
    const results = outputs.map((out) => new Float32Array(f.elements(out)));
    const runner = this.#cpu.backends.newRunner();
    try {
      runner.run(tape, {
        after: () => {
          results.forEach((result, i) => {
            f.tensorGet(outputs[i]!, result, 0, result.byteLength);
          });
        },
      });
    } finally {
      runner.free();
    }
    return results;
  }

  free(): void {
    this.#cpu.native.bufferFree(this.#buffer);
    this.#cpu.native.free(this.#context);
  }
}

/** df/dt at t = 0 with error O(step^4). */
export function derivative(f: (t: number) => number, step: number): number {
  return (8 * (f(step) - f(-step)) - (f(2 * step) - f(-2 * step))) / (12 * step);
}

/** The same for a function that has to be waited for. */
export async function derivativeAsync(f: (t: number) => Promise<number>, step: number): Promise<number> {
  const plus = await f(step);
  const minus = await f(-step);
  const plus2 = await f(2 * step);
  const minus2 = await f(-2 * step);
  return (8 * (plus - minus) - (plus2 - minus2)) / (12 * step);
}

/** Largest difference, relative to the largest of the expected values. */
export function relativeDeviation(actual: ArrayLike<number>, expected: ArrayLike<number>): number {
  let error = 0;
  let size = 0;
  for (let i = 0; i < expected.length; i++) {
    error = Math.max(error, Math.abs(actual[i]! - expected[i]!));
    size = Math.max(size, Math.abs(expected[i]!));
  }
  return error / size;
}

export function dot(x: ArrayLike<number>, y: ArrayLike<number>): number {
  let sum = 0;
  for (let i = 0; i < x.length; i++) sum += x[i]! * y[i]!;
  return sum;
}
