import { closeSync, openSync, readSync } from 'node:fs';
import { TmemError } from '../errors.ts';
import { readGguf } from '../gguf/reader.ts';
import type { GgufTensor } from '../gguf/types.ts';
import {
  type BackendHandle,
  type BufferType,
  type GgmlContext,
  loadNative,
  type Native,
  type Buffer as NativeBuffer,
  type Tensor,
  TYPE,
} from '../native/library.ts';
import { findArchitecture, startsAtInput, trainableArchitectures } from './architectures/index.ts';
import type { Architecture } from './architectures/types.ts';
import { Backends } from './backends.ts';
import { fastType, type Layout, Layouts } from './layouts.ts';
import { checkLayers, type ModelShape, readShape } from './model-shape.ts';
import { type Linear, Tape } from './tape.ts';

export interface TopLayersOptions {
  /** Number of last layers. */
  readonly layers: number;
  /** Whether the products of their attention are adapted, too. */
  readonly attention?: boolean;
  /** Train on a GPU, with the CPU for what it lacks. */
  readonly gpu?: boolean;
  /** Other backends than these. */
  readonly backends?: (native: Native) => Backends;
  readonly threads: number;
  /**
   * Type of the transposed copies that gradients pass through. Q8_0 is the fastest and the smallest (what it does to a gradient: LOG.md);
   * products whose outputs are no multiple of its 32 take BF16. F32 is exact, for checks.
   */
  readonly backward?: 'Q8_0' | 'BF16' | 'F32';
}

interface Transposed {
  readonly tensor: Tensor;
  readonly type: number;
  /** It lies in a layout that is filled as a whole only. */
  readonly rearranged?: boolean;
}

export interface StoredWeight {
  readonly tensor: Tensor;
  readonly type: number;
  readonly inputs: number;
  readonly outputs: number;
  readonly dense?: boolean;
  readonly rearranged?: boolean;
}

const Q8_BLOCK = 32;
/** Rows of a weight that are converted at a time: bounds the float copies in between. */
const CHUNK_ROWS = 8192;

/** Rows of a tensor, or all of it, as the file holds them. */
function readTensor(
  modelPath: string,
  { bytes: size, offset, shape }: GgufTensor,
  rows?: readonly number[],
): Uint8Array {
  const fd = openSync(modelPath, 'r');
  try {
    const rowBytes = size / (shape[1] ?? 1);
    const bytes = Buffer.allocUnsafe(rows ? rows.length * rowBytes : size);
    if (!rows) readSync(fd, bytes, 0, size, offset);
    for (const [i, row] of rows?.entries() ?? []) readSync(fd, bytes, i * rowBytes, rowBytes, offset + row * rowBytes);
    return bytes;
  } finally {
    closeSync(fd);
  }
}

/**
 * The last K layers and the head of a model, as the training graph uses them: the tensors of inference, read from the file into the
 * layouts that are multiplied fastest, and a transposed copy of every product that gradients pass through.
 */
export class TopLayers {
  readonly native: Native;
  readonly backends: Backends;
  /** Where the weights lie and what is trained belongs. */
  readonly backend: BackendHandle;
  readonly architecture: Architecture;
  readonly shape: ModelShape;
  /** Index of the first trained layer. */
  readonly first: number;
  /** The residual stream that the layers are computed from: the first one's input, or what is behind its attention. */
  readonly cut: { readonly tensor: string; readonly isInput: boolean };
  #adapted: string[] = [];
  #weights = new Map<string, StoredWeight>();
  #transposed = new Map<string, Transposed>();
  #contexts: GgmlContext[] = [];
  #buffers: NativeBuffer[] = [];
  #head: string;
  /** How its transposed copy lies; undefined where a BLAS needs none. */
  #headCopy: Layout | undefined;
  #file: { readonly path: string; readonly tensors: ReadonlyMap<string, GgufTensor> };

  /** @throws TmemError `missing` for an architecture without a training graph, absent tensors or too little memory; `usage` for a bad number of layers. */
  constructor(modelPath: string, options: TopLayersOptions) {
    const gguf = readGguf(modelPath);
    const name = String(gguf.metadata.get('general.architecture'));
    const architecture = findArchitecture(name);
    if (!architecture) {
      throw new TmemError(
        'missing',
        `Models of architecture ${name} cannot be trained, only run; use one of ${trainableArchitectures.join(', ')}.`,
      );
    }
    const shape = readShape(gguf, architecture);
    checkLayers(options.layers, shape.L);
    this.architecture = architecture;
    this.first = shape.L - options.layers;
    const f = loadNative();
    this.native = f;
    this.backends = options.backends?.(f) ?? Backends.open(f, { threads: options.threads, gpu: options.gpu ?? false });
    this.backend = this.backends.main;
    const files = new Map(gguf.tensors.map((t) => [t.name, t]));
    this.#file = { path: modelPath, tensors: files };
    this.#head = files.has('output.weight') ? 'output.weight' : 'token_embd.weight';
    const { attention = false } = options;
    const { residual, attentionProducts, feedForwardProducts, attentionVectors, feedForwardVectors } = architecture;
    const isInput = startsAtInput(architecture, attention);
    const input = this.first > 0 ? `l_out-${this.first - 1}` : residual.embedding;
    this.cut = { tensor: isInput ? input : `${residual.behindAttention}-${this.first}`, isInput };
    const names = ['output_norm.weight', this.#head];
    for (let l = this.first; l < shape.L; l++) {
      const weights = (products: readonly string[]) => products.map((part) => `blk.${l}.${part}.weight`);
      const vectors = (parts: readonly string[]) => parts.map((part) => `blk.${l}.${part}`);
      this.#adapted.push(...(attention ? weights(attentionProducts) : []), ...weights(feedForwardProducts));
      if (l > this.first || this.cut.isInput) names.push(...weights(attentionProducts), ...vectors(attentionVectors));
      names.push(...weights(feedForwardProducts), ...vectors(feedForwardVectors));
    }
    if (files.has(architecture.ropeFactors)) names.push(architecture.ropeFactors);
    const { backward = 'Q8_0' } = options;
    const values = (n: string) => (files.get(n)?.shape ?? []).reduce((a, b) => a * b, 1);
    const floats = 4 * names.reduce((bytes, n) => bytes + values(n), 0);
    const layouts = new Layouts(f, this.backends, { blas: floats < process.availableMemory() / 2 });
    const contexts = new Map<BufferType | undefined, GgmlContext>();
    const contextIn = (bufferType: BufferType | undefined) => {
      const context = contexts.get(bufferType) ?? f.init({ mem_size: 4 << 20, mem_buffer: null, no_alloc: true });
      contexts.set(bufferType, context);
      return context;
    };
    // Nothing below the first adapted products is trained, so no gradient passes through them.
    const firstAdapted = attention
      ? attentionProducts.slice(0, -1)
      : [...attentionProducts, ...feedForwardProducts.slice(0, -1)];
    const ends = new Set(firstAdapted.map((part) => `blk.${this.first}.${part}.weight`));
    for (const n of names) {
      const t = files.get(n);
      if (!t) throw new TmemError('missing', `The model has no tensor ${n}; it cannot be trained as ${name}.`);
      const [inputs, outputs = 1] = t.shape as [number, number?];
      if (outputs === 1) {
        this.#weights.set(n, { tensor: f.new1(contextIn(undefined), t.type, inputs), type: t.type, inputs, outputs });
        continue;
      }
      const copyType = TYPE[backward === 'Q8_0' && outputs % Q8_BLOCK !== 0 ? 'BF16' : backward];
      const { type, bufferType, dense = false } = layouts.choose(t.type, inputs, outputs, copyType);
      const tensor = f.new2(contextIn(bufferType), type, inputs, outputs);
      this.#weights.set(n, { tensor, type, inputs, outputs, dense, rearranged: bufferType !== undefined });
      if (ends.has(n) || dense) continue;
      const copy = layouts.ofTransposed(copyType, inputs, outputs);
      if (n === this.#head) {
        this.#headCopy = copy;
        continue;
      }
      const turned = f.new2(contextIn(copy.bufferType), copyType, outputs, inputs);
      this.#transposed.set(n, { tensor: turned, type: copyType, rearranged: copy.bufferType !== undefined });
    }
    for (const [bufferType, context] of contexts) {
      this.#contexts.push(context);
      const buffer = this.backends.allocate(context, bufferType);
      if (!buffer) {
        this.free();
        throw new TmemError(
          'missing',
          'There is not enough memory to load the trained layers; train fewer layers (--layers).',
        );
      }
      this.#buffers.push(buffer);
    }
    for (const n of names) this.#load(n, this.#get(n), this.#transposed.get(n));
    this.shape = { ...shape, ropeFactors: this.#weights.get(architecture.ropeFactors)?.tensor ?? null };
  }

  /** Its F32 products are a BLAS's where there is one. */
  newTape(): Tape {
    return new Tape(this.native, { dense: this.backends.blas !== undefined });
  }

  /** A frozen product by its GGUF name. */
  linear(name: string): Linear {
    const { tensor, dense = false } = this.#get(name);
    return { weight: tensor, transposed: this.#transposed.get(name)?.tensor, dense };
  }

  /** A norm's scale or a bias. */
  vector(name: string): Tensor {
    return this.#get(name).tensor;
  }

  /** Its transposed copy is made when a gradient first passes through it, which none does over likely tokens only. */
  get head(): Linear {
    const { tensor, dense = false } = this.#get(this.#head);
    const transposed = () => this.#headTransposed();
    return {
      weight: tensor,
      dense,
      get transposed() {
        return transposed();
      },
    };
  }

  #headTransposed(): Tensor | undefined {
    const before = this.#transposed.get(this.#head);
    const layout = this.#headCopy;
    if (before || !layout) return before?.tensor;
    const f = this.native;
    const { type, bufferType } = layout;
    const weight = this.#get(this.#head);
    const context = f.init({ mem_size: 1 << 14, mem_buffer: null, no_alloc: true });
    const tensor = f.new2(context, type, weight.outputs, weight.inputs);
    const buffer = this.backends.allocate(context, bufferType);
    if (!buffer) {
      f.free(context);
      throw new TmemError('missing', 'There is not enough memory to train over the whole vocabulary.');
    }
    this.#contexts.push(context);
    this.#buffers.push(buffer);
    const copy = { tensor, type, rearranged: bufferType !== undefined };
    const stored = { ...weight, type: this.#file.tensors.get(this.#head)!.type };
    this.withStored(this.#head, (tensor) => this.#transpose({ ...stored, tensor }, copy));
    this.#transposed.set(this.#head, copy);
    return tensor;
  }

  /** How some rows of the head are multiplied with fast: the type, and whether by a BLAS. */
  get headRows(): { readonly type: number; readonly dense: boolean } {
    const { type, dense = false, rearranged } = this.#get(this.#head);
    return { type: rearranged ? fastType(this.#file.tensors.get(this.#head)!.type) : type, dense };
  }

  /** Inputs and outputs of a product. */
  size(name: string): { inputs: number; outputs: number } {
    return this.#get(name);
  }

  /** Of native memory. */
  get bytes(): number {
    return this.#buffers.reduce((n, buffer) => n + Number(this.native.bufferBytes(buffer)), 0);
  }

  /** GGUF names of the adapted products, layer by layer. */
  adaptedNames(): readonly string[] {
    return this.#adapted;
  }

  /** Fills `to` [out, in] from w [in, out], which lies in the CPU's memory. */
  #transpose(w: StoredWeight, to: Transposed): void {
    const f = this.native;
    const { type } = to;
    const toRow = f.rowSize(type, w.outputs);
    this.#onCpu(to, { type, inputs: w.outputs, outputs: w.inputs }, (target) =>
      this.#byRows(w, (context, x, start, n) => {
        const part = f.view2(context, target, n, w.inputs, toRow, f.rowSize(type, start));
        const turned = f.cont(context, f.transpose(context, x));
        // ggml quantises into a tensor of its own only, which is then copied row by row.
        return f.copy(context, type === TYPE.Q8_0 ? f.cast(context, turned, type) : turned, part);
      }),
    );
  }

  /** Fills `to` from w of another type, which lies in the CPU's memory. */
  #convert(w: StoredWeight, to: StoredWeight): void {
    const f = this.native;
    const toRow = f.rowSize(to.type, w.inputs);
    this.#onCpu(to, to, (target) =>
      this.#byRows(w, (context, x, start, n) =>
        f.copy(context, x, f.view2(context, target, w.inputs, n, toRow, start * toRow)),
      ),
    );
  }

  /** Calls `fill` with the tensor, or with one as it stands in the CPU's memory that is copied to it. */
  #onCpu({ tensor, rearranged }: Transposed, size: Omit<StoredWeight, 'tensor'>, fill: (target: Tensor) => void): void {
    if (this.backends.isCpu && !rearranged) fill(tensor);
    else
      this.withCpuTensor(size, (target) => {
        fill(target);
        this.native.tensorCopy(target, tensor);
      });
  }

  /** Calls `use` with a tensor in the CPU's memory. @throws TmemError `missing` when there is too little. */
  withCpuTensor<T>({ type, inputs, outputs }: Omit<StoredWeight, 'tensor'>, use: (tensor: Tensor) => T): T {
    const f = this.native;
    const context = f.init({ mem_size: 1 << 14, mem_buffer: null, no_alloc: true });
    const tensor = f.new2(context, type, inputs, outputs);
    const buffer = f.allocateContext(context, this.backends.cpu);
    try {
      if (!buffer) throw new TmemError('missing', 'There is not enough memory to read the trained layers.');
      return use(tensor);
    } finally {
      if (buffer) f.bufferFree(buffer);
      f.free(context);
    }
  }

  /** Computes what `build` makes of runs of w's rows in F32 [in, n] from `start` on. */
  #byRows(w: StoredWeight, build: (context: GgmlContext, x: Tensor, start: number, n: number) => Tensor): void {
    const f = this.native;
    const { cpu } = this.backends;
    const context = f.init({ mem_size: 8 << 20, mem_buffer: null, no_alloc: true });
    const allocator = f.allocatorNew(f.defaultBufferType(cpu));
    const rowBytes = f.rowSize(w.type, w.inputs);
    for (let start = 0; start < w.outputs; start += CHUNK_ROWS) {
      const n = Math.min(CHUNK_ROWS, w.outputs - start);
      const graph = f.newGraph(context, 16, false);
      let x = f.view2(context, w.tensor, w.inputs, n, rowBytes, start * rowBytes);
      if (w.type !== TYPE.F32) x = f.cast(context, x, TYPE.F32);
      f.expand(graph, build(context, x, start, n));
      if (!f.allocatorAllocate(allocator, graph))
        throw new TmemError(
          'missing',
          'There is not enough memory to prepare training; train fewer layers (--layers).',
        );
      f.compute(cpu, graph);
    }
    f.allocatorFree(allocator);
    f.free(context);
  }

  /** Calls `use` with some rows of a tensor, or all of it, as the file holds them, in the CPU's memory. */
  withStored<T>(name: string, use: (tensor: Tensor, bytes: Uint8Array) => T, rows?: readonly number[]): T {
    const t = this.#file.tensors.get(name)!;
    const bytes = readTensor(this.#file.path, t, rows);
    const outputs = rows?.length ?? t.shape[1] ?? 1;
    return this.withCpuTensor({ type: t.type, inputs: t.shape[0]!, outputs }, (tensor) => {
      this.native.tensorSet(tensor, bytes, 0, bytes.byteLength);
      return use(tensor, bytes);
    });
  }

  /** Fills a weight with those rows of the head, and its transposed copy. */
  loadHeadRows(rows: readonly number[], weight: StoredWeight, transposed: Transposed | undefined): void {
    this.#load(this.#head, weight, transposed, rows);
  }

  #load(name: string, weight: StoredWeight, transposed: Transposed | undefined, rows?: readonly number[]): void {
    const { type } = this.#file.tensors.get(name)!;
    this.withStored(
      name,
      (tensor, bytes) => {
        const stored = { ...weight, tensor, type };
        if (weight.type === type) this.native.tensorSet(weight.tensor, bytes, 0, bytes.byteLength);
        else this.#convert(stored, weight);
        if (transposed) this.#transpose(stored, transposed);
      },
      rows,
    );
  }

  free(): void {
    for (const buffer of this.#buffers) this.native.bufferFree(buffer);
    for (const context of this.#contexts) this.native.free(context);
    this.backends.free();
  }

  #get(name: string): StoredWeight {
    const w = this.#weights.get(name);
    if (!w) throw new Error(`tensor ${name} is not loaded`);
    return w;
  }
}
