/**
 * Whether a weight is multiplied faster by ggml, in the layout that suits its type, or in F32 by the system's BLAS: measured at first use
 * and kept for the machine, so that training takes the same kernels, and gives the same bits, every time.
 */
import { mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { z } from 'zod';
import { ggmlTypes } from '../gguf/types.ts';
import { tmemHome } from '../home.ts';
import type { Blas } from '../native/blas.ts';
import { type BufferType, TYPE } from '../native/library.ts';
import { LLAMA_RELEASE } from '../native/platform.ts';
import type { Backends } from './backends.ts';

const [INPUTS, OUTPUTS] = [2048, 6144];
const ROWS = 256;
const REPEATS = 4;
/** F32 takes more memory: a smaller gain is not worth it. */
export const WORTH = 1.25;
/** Smaller products are not worth their own decision. */
const SMALLEST = 1 << 20;

/** One way to multiply: a type, and where it lies if not in plain memory. */
export interface Kernel {
  readonly type: number;
  readonly bufferType?: BufferType;
}

/** GFLOP/s by what is multiplied with: `Q4_K in CPU_REPACK`, `Q8_0`, `BLAS`. */
const rates = z.record(z.string(), z.number().positive());
const kept = z.record(z.string(), rates);
export type Rates = z.infer<typeof rates>;

export class Kernels {
  #backends: Backends;
  #file: string;
  #machine: string;
  #rates: Rates;

  constructor(backends: Backends, file = path.join(tmemHome(), 'kernels.json')) {
    this.#backends = backends;
    this.#file = file;
    const library = backends.blas?.library ?? '';
    this.#machine = [os.cpus()[0]?.model ?? '', `${backends.threads} threads`, `ggml ${LLAMA_RELEASE}`, library].join(
      ', ',
    );
    this.#rates = { ...read(file)[this.#machine] };
  }

  /** Whether a BLAS is to multiply with this weight of `values` numbers, which ggml has these kernels for. */
  prefersBlas(values: number, forward: Kernel, backward: Kernel): boolean {
    const { blas } = this.#backends;
    if (!blas || blas.wanted) return blas !== undefined;
    return values >= SMALLEST && this.gain(forward, backward) >= WORTH;
  }

  /** How many times faster the BLAS is, forward and backward together; 0 without one. */
  gain(forward: Kernel, backward: Kernel): number {
    const { blas } = this.#backends;
    if (!blas) return 0;
    const ggml = 1 / this.#rate(forward) + 1 / this.#rate(backward);
    return (ggml * this.#keep('BLAS', () => blasRate(this.#backends, blas))) / 2;
  }

  #rate(kernel: Kernel): number {
    const { native } = this.#backends;
    const lies = kernel.bufferType ? ` in ${native.bufferTypeName(kernel.bufferType)}` : '';
    return this.#keep(`${ggmlTypes.get(kernel.type)!.name}${lies}`, () => ggmlRate(this.#backends, kernel));
  }

  #keep(name: string, measure: () => number): number {
    const known = this.#rates[name];
    if (known !== undefined) return known;
    const rate = measure();
    this.#rates[name] = rate;
    this.#save();
    return rate;
  }

  #save(): void {
    try {
      mkdirSync(path.dirname(this.#file), { recursive: true });
      const temporary = `${this.#file}.${process.pid}`;
      writeFileSync(temporary, JSON.stringify({ ...read(this.#file), [this.#machine]: this.#rates }, null, 1));
      renameSync(temporary, this.#file);
    } catch {
      // Measured again next time.
    }
  }
}

function read(file: string): z.infer<typeof kept> {
  try {
    return kept.parse(JSON.parse(readFileSync(file, 'utf8')));
  } catch {
    return {};
  }
}

/** GFLOP/s of a product of that size, the best of some. */
function timed(multiply: () => void): number {
  multiply();
  let best = Number.POSITIVE_INFINITY;
  for (let i = 0; i < REPEATS; i++) {
    const start = performance.now();
    multiply();
    best = Math.min(best, performance.now() - start);
  }
  return (2 * INPUTS * OUTPUTS * ROWS) / best / 1e6;
}

function ggmlRate(backends: Backends, { type, bufferType }: Kernel): number {
  const { native: f, main } = backends;
  const weights = f.init({ mem_size: 1 << 14, mem_buffer: null, no_alloc: true });
  const w = f.new2(weights, type, INPUTS, OUTPUTS);
  const buffer = backends.allocate(weights, bufferType);
  const work = f.init({ mem_size: 1 << 18, mem_buffer: null, no_alloc: true });
  const allocator = f.allocatorNew(f.defaultBufferType(main));
  try {
    const x = f.new2(work, TYPE.F32, INPUTS, ROWS);
    f.setInput(x);
    const graph = f.newGraph(work, 16, false);
    f.expand(graph, f.mulMat(work, w, x));
    if (!buffer || !f.allocatorAllocate(allocator, graph)) return Number.MAX_VALUE;
    // Zeros throughout: what is multiplied does not change how long it takes, but subnormal numbers would.
    const zeros = new Uint8Array(Math.max(f.rowSize(type, INPUTS) * OUTPUTS, INPUTS * ROWS * 4));
    f.tensorSet(w, zeros, 0, f.rowSize(type, INPUTS) * OUTPUTS);
    f.tensorSet(x, zeros, 0, INPUTS * ROWS * 4);
    return timed(() => f.compute(main, graph));
  } finally {
    f.allocatorFree(allocator);
    if (buffer) f.bufferFree(buffer);
    f.free(work);
    f.free(weights);
  }
}

function blasRate({ native: f, main }: Backends, blas: Blas): number {
  const context = f.init({ mem_size: 1 << 14, mem_buffer: null, no_alloc: true });
  const matrix = (columns: number, rows: number) => f.new2(context, TYPE.F32, columns, rows);
  const [w, x, y] = [matrix(INPUTS, OUTPUTS), matrix(INPUTS, ROWS), matrix(OUTPUTS, ROWS)];
  const buffer = f.allocateContext(context, main);
  if (!buffer) {
    f.free(context);
    return Number.EPSILON;
  }
  try {
    const zeros = new Float32Array(INPUTS * OUTPUTS);
    f.tensorSet(w, zeros, 0, zeros.byteLength);
    f.tensorSet(x, zeros, 0, INPUTS * ROWS * 4);
    const product = { transposeA: false, transposeB: true, M: ROWS, N: OUTPUTS, K: INPUTS };
    return timed(() => blas.multiply(product, f.data(x), f.data(w), f.data(y)));
  } finally {
    f.bufferFree(buffer);
    f.free(context);
  }
}
