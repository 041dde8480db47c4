/** Where training graphs are computed: on the CPU, or on a device with the CPU for what it lacks. */
import { TmemError } from '../errors.ts';
import { type Blas, findBlas } from '../native/blas.ts';
import {
  type BackendHandle,
  type Buffer,
  type BufferType,
  DEVICE,
  type Device,
  type GgmlContext,
  type Graph,
  type GraphAllocator,
  type Native,
  type Scheduler,
  setBackendThreads,
  type Tensor,
} from '../native/library.ts';
import { type DenseProduct, GRAPH_NODES, type Tape } from './tape.ts';

/** Whether `TMEM_TRAIN_ON` asks for a GPU. Default cpu. @throws TmemError `usage` for another value than cpu and gpu. */
export function trainsOnGpu(wanted: string = process.env.TMEM_TRAIN_ON || 'cpu'): boolean {
  if (wanted !== 'cpu' && wanted !== 'gpu') throw new TmemError('usage', `TMEM_TRAIN_ON is cpu or gpu, not ${wanted}.`);
  return wanted === 'gpu';
}

/** Inputs are set before a graph is computed, outputs read after. */
export interface Around {
  readonly before?: () => void;
  readonly after?: () => void;
}

/** Computes graphs one after the other, whose memory it plans and keeps. */
export interface GraphRunner {
  /**
   * Computes the tape's graph and frees the tape.
   * @throws TmemError `missing` when there is too little memory, `failed` when the graph cannot be computed
   */
  run(tape: Tape, around?: Around): void;
  free(): void;
}

export class Backends {
  readonly native: Native;
  readonly device: Device;
  /** The device's: weights and what is trained lie in its memory. */
  readonly main: BackendHandle;
  /** The CPU's; the same without another device. */
  readonly cpu: BackendHandle;
  readonly threads: number;
  /** For F32 products on the CPU, where there is one. */
  readonly blas: Blas | undefined;

  constructor(
    native: Native,
    device: Device,
    main: BackendHandle,
    cpu: BackendHandle,
    { threads = 1, blas }: { threads?: number; blas?: Blas | undefined } = {},
  ) {
    this.threads = threads;
    this.native = native;
    this.device = device;
    this.main = main;
    this.cpu = cpu;
    this.blas = blas;
  }

  /** @throws TmemError `missing` when a GPU is asked for and there is none, or a BLAS that cannot be loaded. */
  static open(native: Native, { threads, gpu = false }: { threads: number; gpu?: boolean }): Backends {
    const cpuDevice = native.deviceByType(DEVICE.CPU)!;
    const device = gpu ? (native.deviceByType(DEVICE.GPU) ?? native.deviceByType(DEVICE.IGPU)) : cpuDevice;
    if (!device) throw new TmemError('missing', 'There is no GPU to train on; unset TMEM_TRAIN_ON.');
    const cpu = native.deviceInit(cpuDevice, null);
    setBackendThreads(native, cpuDevice, cpu, threads);
    if (gpu) return new Backends(native, device, native.deviceInit(device, null), cpu, { threads });
    const blas = findBlas();
    blas?.setThreads(threads);
    return new Backends(native, device, cpu, cpu, { threads, blas });
  }

  /** Memory for a context's tensors, in the device's own or in a layout of it; null when there is too little. */
  allocate(context: GgmlContext, bufferType?: BufferType): Buffer | null {
    const { native: f, main } = this;
    return bufferType ? f.allocateContextFrom(context, bufferType) : f.allocateContext(context, main);
  }

  /** Whether all is the CPU's memory. */
  get isCpu(): boolean {
    return this.main === this.cpu;
  }

  newRunner(): GraphRunner {
    return this.isCpu ? new PlannedRunner(this) : new ScheduledRunner(this);
  }

  free(): void {
    if (!this.isCpu) this.native.backendFree(this.main);
    this.native.backendFree(this.cpu);
  }
}

function runOn(
  tape: Tape,
  { before, after }: Around,
  backend: { allocate: () => boolean; compute: () => number },
): void {
  try {
    if (!backend.allocate()) {
      throw new TmemError(
        'missing',
        'There is not enough memory for the training graph; use a smaller --batch or fewer --layers.',
      );
    }
    before?.();
    const status = backend.compute();
    if (status !== 0)
      throw new TmemError('failed', `The training graph could not be computed (ggml status ${status}).`);
    after?.();
  } finally {
    tape.free();
  }
}

/** On the CPU: what the tape knows as dense products by a BLAS, what lies between them by ggml. */
class PlannedRunner implements GraphRunner {
  #backends: Backends;
  #allocator: GraphAllocator;
  #context: GgmlContext;
  /** A run of nodes between two dense products. */
  #part: Graph;

  constructor(backends: Backends) {
    const f = backends.native;
    this.#backends = backends;
    this.#allocator = f.allocatorNew(f.defaultBufferType(backends.main));
    this.#context = f.init({ mem_size: Number(f.graphOverhead(GRAPH_NODES, false)), mem_buffer: null, no_alloc: true });
    this.#part = f.newGraph(this.#context, GRAPH_NODES, false);
  }

  run(tape: Tape, around: Around = {}): void {
    const { native: f, main, blas } = this.#backends;
    runOn(tape, around, {
      allocate: () => f.allocatorAllocate(this.#allocator, tape.graph),
      compute: () => (blas && tape.products.size > 0 ? this.#inParts(tape, blas) : f.compute(main, tape.graph)),
    });
  }

  #inParts({ graph, products }: Tape, blas: Blas): number {
    const { native: f, main } = this.#backends;
    const nodes = f.graphNodes(graph);
    const part = this.#part;
    for (let i = 0; i < nodes; ) {
      f.graphClear(part);
      let product: DenseProduct | undefined;
      let node: Tensor;
      do {
        node = f.graphNode(graph, i++);
        product = products.get(node);
        if (!product) f.addNode(part, node);
      } while (!product && i < nodes);
      if (f.graphNodes(part) > 0) {
        const status = f.compute(main, part);
        if (status !== 0) return status;
      }
      if (product) blas.multiply(product, f.data(product.a), f.data(product.b), f.data(node));
    }
    return 0;
  }

  free(): void {
    const f = this.#backends.native;
    f.allocatorFree(this.#allocator);
    f.free(this.#context);
  }
}

/** Divided by ggml's scheduler: what the device cannot compute goes to the CPU. */
export class ScheduledRunner implements GraphRunner {
  /** The most parts that a graph was divided into so far. */
  mostSplits = 0;
  #backends: Backends;
  #scheduler: Scheduler;

  constructor(backends: Backends) {
    const { native: f, main, cpu } = backends;
    this.#backends = backends;
    this.#scheduler = f.schedulerNew([main, cpu], null, 2, GRAPH_NODES, false, false);
  }

  run(tape: Tape, around: Around = {}): void {
    const f = this.#backends.native;
    const { graph } = tape;
    f.schedulerReset(this.#scheduler);
    runOn(tape, around, {
      allocate: () => f.schedulerAllocate(this.#scheduler, graph),
      compute: () => {
        this.mostSplits = Math.max(this.mostSplits, f.schedulerSplits(this.#scheduler));
        return f.schedulerCompute(this.#scheduler, graph);
      },
    });
  }

  free(): void {
    this.#backends.native.schedulerFree(this.#scheduler);
  }
}
