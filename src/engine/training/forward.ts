import { TmemError } from '../errors.ts';
import {
  type GgmlContext,
  type GraphAllocator,
  type Native,
  type Buffer as NativeBuffer,
  type Tensor,
  TYPE,
} from '../native/library.ts';
import type { LoraState } from './lora-state.ts';
import type { PackedBatch } from './packed-batch.ts';
import { Tape } from './tape.ts';
import type { TopLayers } from './top-layers.ts';

/** Fast weights of a forward pass: those being trained, stacked on those that are not. */
export interface Deltas {
  readonly trained?: LoraState | undefined;
  readonly frozen?: LoraState | undefined;
}

/** Inputs of the adapted products of one layer: of gate and up [D, T], of down [F, T]. */
export interface LayerKeys {
  readonly layer: number;
  readonly norm: Tensor;
  readonly swiglu: Tensor;
}

/** W x + frozen + trained on the tape; `ax` is A x of the trained pair when it is already known. */
function adapted(
  tape: Tape,
  top: TopLayers,
  deltas: Deltas,
  name: string,
  x: Tensor,
  known?: { base: Tensor; ax: Tensor | undefined },
): Tensor {
  const frozen = deltas.frozen?.slots.get(name);
  const trained = deltas.trained?.slots.get(name);
  let y = known?.base ?? tape.linear(x, top.linear(name));
  if (frozen && !known) y = tape.addLora(y, tape.loraInput(x, frozen), frozen);
  if (trained) y = tape.addLora(y, known?.ax ?? tape.loraInput(x, trained), trained);
  return y;
}

/**
 * What no step changes in the first trained layer: its input does not depend on any Delta, so W x + frozen and A x of gate and up
 * are computed once a write.
 */
export class FirstLayer {
  readonly norm: Tensor;
  readonly known = new Map<string, { base: Tensor; ax: Tensor | undefined }>();
  #f: Native;
  #context: GgmlContext;
  #buffer: NativeBuffer;

  constructor(top: TopLayers, deltas: Deltas, batch: PackedBatch, allocator: GraphAllocator) {
    const f = top.native;
    this.#f = f;
    const l = top.first;
    const { D, F, L } = top.shape;
    const n = l === L - 1 ? batch.A : batch.T;
    this.#context = f.init({ mem_size: 1 << 18, mem_buffer: null, no_alloc: true });
    this.norm = f.new2(this.#context, TYPE.F32, D, n);
    const names = [`blk.${l}.ffn_gate.weight`, `blk.${l}.ffn_up.weight`];
    for (const name of names) {
      const trained = deltas.trained?.slots.get(name);
      this.known.set(name, {
        base: f.new2(this.#context, TYPE.F32, F, n),
        ax: trained && f.new2(this.#context, TYPE.F32, trained.R, n),
      });
    }
    const buffer = f.allocateContext(this.#context, top.backend);
    if (!buffer) throw new TmemError('missing', 'There is not enough memory for this batch; use a smaller --batch.');
    this.#buffer = buffer;
    const tape = new Tape(f);
    const h = l === L - 1 ? tape.rows(batch.hidden, batch.rows) : batch.hidden;
    const x = tape.rmsNorm(h, top.vector(`blk.${l}.ffn_norm.weight`), top.shape.eps);
    f.expand(tape.graph, f.copy(tape.c, x, this.norm));
    for (const name of names) {
      const target = this.known.get(name)!;
      const base = adapted(tape, top, { frozen: deltas.frozen }, name, x);
      f.expand(tape.graph, f.copy(tape.c, base, target.base));
      const trained = deltas.trained?.slots.get(name);
      if (trained) f.expand(tape.graph, f.copy(tape.c, f.mulMat(tape.c, trained.a, x), target.ax!));
    }
    run(top, tape, allocator);
  }

  free(): void {
    this.#f.bufferFree(this.#buffer);
    this.#f.free(this.#context);
  }
}

/** Allocates the tape's graph, computes it and frees the tape; `before` sets inputs, `after` reads outputs. */
export function run(
  top: TopLayers,
  tape: Tape,
  allocator: GraphAllocator,
  around: { before?: () => void; after?: () => void } = {},
): void {
  const f = top.native;
  try {
    if (!f.allocatorAllocate(allocator, tape.graph)) {
      throw new TmemError(
        'missing',
        'There is not enough memory for the training graph; use a smaller --batch or fewer --layers.',
      );
    }
    around.before?.();
    const status = f.compute(top.backend, tape.graph);
    if (status !== 0)
      throw new TmemError('failed', `The training graph could not be computed (ggml status ${status}).`);
    around.after?.();
  } finally {
    tape.free();
  }
}

/**
 * The last K layers on a packed batch, from the residual stream after the first one's attention.
 * @returns logits [V, A] of the batch's rows over its head's tokens, and the inputs of the adapted products where asked for.
 */
export function forward(
  tape: Tape,
  top: TopLayers,
  deltas: Deltas,
  batch: PackedBatch,
  first?: FirstLayer,
): { logits: Tensor; keys: LayerKeys[] } {
  const { L, eps } = top.shape;
  const keys: LayerKeys[] = [];
  let h = batch.hidden;
  for (let l = top.first; l < L; l++) {
    const last = l === L - 1;
    if (l > top.first) {
      h = top.architecture.attention(tape, top, l, h, last ? batch.inputs : { ...batch.inputs, only: undefined });
    } else if (last) {
      h = tape.rows(h, batch.rows);
    }
    const known = l === top.first ? first : undefined;
    const x = known?.norm ?? tape.rmsNorm(h, top.vector(`blk.${l}.ffn_norm.weight`), eps);
    const product = (part: string, input: Tensor) => {
      const name = `blk.${l}.${part}.weight`;
      return adapted(tape, top, deltas, name, input, known?.known.get(name));
    };
    const y = top.architecture.activate(tape, product('ffn_gate', x), product('ffn_up', x));
    keys.push({ layer: l, norm: x, swiglu: y });
    const out = product('ffn_down', y);
    h = tape.add(h, top.architecture.afterFeedForward?.(tape, top, l, out) ?? out);
  }
  const normed = tape.rmsNorm(h, top.vector('output_norm.weight'), eps);
  const logits = tape.linear(tape.weighRows(normed, batch.rowWeights, top.shape.D, batch.A), batch.head.linear);
  return { logits, keys };
}
