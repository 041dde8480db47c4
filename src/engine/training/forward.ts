import { TmemError } from '../errors.ts';
import { type GgmlContext, type Native, type Buffer as NativeBuffer, type Tensor, TYPE } from '../native/library.ts';
import type { Layer } from './architectures/types.ts';
import type { GraphRunner } from './backends.ts';
import type { LoraState } from './lora-state.ts';
import type { PackedBatch } from './packed-batch.ts';
import type { Tape } from './tape.ts';
import type { TopLayers } from './top-layers.ts';

/** Fast weights of a forward pass: those being trained, stacked on those that are not. */
export interface Deltas {
  readonly trained?: LoraState | undefined;
  readonly frozen?: LoraState | undefined;
}

/** By the names that `inputOf` gives them: the inputs of products [in, T]. */
export type ProductInputs = ReadonlyMap<string, Tensor>;

/** The input of a product by its GGUF name. q, k and v share theirs, and so do gate and up. */
export function inputOf(name: string): string {
  const [, layer, part] = name.split('.');
  return `${INPUTS[part!] ?? 'norm'}-${layer}`;
}

const INPUTS: Readonly<Record<string, string>> = {
  attn_q: 'attention',
  attn_k: 'attention',
  attn_v: 'attention',
  attn_qkv: 'attention',
  attn_output: 'heads',
  ffn_down: 'activated',
};

/** W x + frozen + trained on the tape; `ax` is A x of the trained pair when it is already known, and A is not trained. */
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
 * What no step changes in the first trained layer: unless its attention is trained, the input of its feed-forward part does not depend
 * on what is, so W x + frozen and A x of the products on it are computed once a write.
 */
export class FirstLayer {
  /** The residual stream after the attention, where the batch's is before it. */
  readonly hidden: Tensor | undefined;
  readonly norm: Tensor;
  readonly known = new Map<string, { base: Tensor; ax: Tensor | undefined }>();
  #f: Native;
  #context: GgmlContext;
  #buffer: NativeBuffer;

  static isConstant(top: TopLayers, { trained }: Deltas): boolean {
    return !top.architecture.attentionProducts.some((part) => trained?.slots.has(`blk.${top.first}.${part}.weight`));
  }

  constructor(top: TopLayers, deltas: Deltas, batch: PackedBatch, runner: GraphRunner) {
    const f = top.native;
    this.#f = f;
    const l = top.first;
    const { D, L } = top.shape;
    const n = l === L - 1 ? batch.A : batch.T;
    this.#context = f.init({ mem_size: 1 << 18, mem_buffer: null, no_alloc: true });
    this.hidden = top.cut.isInput ? f.new2(this.#context, TYPE.F32, D, n) : undefined;
    this.norm = f.new2(this.#context, TYPE.F32, D, n);
    const names = top.architecture.feedForwardProducts.slice(0, -1).map((part) => `blk.${l}.${part}.weight`);
    for (const name of names) {
      const trained = deltas.trained?.slots.get(name);
      this.known.set(name, {
        base: f.new2(this.#context, TYPE.F32, top.size(name).outputs, n),
        ax: trained && !trained.trainsA ? f.new2(this.#context, TYPE.F32, trained.R, n) : undefined,
      });
    }
    const buffer = f.allocateContext(this.#context, top.backend);
    if (!buffer) throw new TmemError('missing', 'There is not enough memory for this batch; use a smaller --batch.');
    this.#buffer = buffer;
    const tape = top.newTape();
    const h = behindAttention(tape, top, deltas, batch, l, batch.hidden);
    if (this.hidden) f.expand(tape.graph, f.copy(tape.c, h, this.hidden));
    const x = tape.rmsNorm(h, top.vector(`blk.${l}.ffn_norm.weight`), top.shape.eps);
    f.expand(tape.graph, f.copy(tape.c, x, this.norm));
    for (const name of names) {
      const target = this.known.get(name)!;
      const base = adapted(tape, top, { frozen: deltas.frozen }, name, x);
      f.expand(tape.graph, f.copy(tape.c, base, target.base));
      const trained = deltas.trained?.slots.get(name);
      if (trained && target.ax) f.expand(tape.graph, f.copy(tape.c, tape.multiply(trained.a, x), target.ax));
    }
    runner.run(tape);
  }

  free(): void {
    this.#f.bufferFree(this.#buffer);
    this.#f.free(this.#context);
  }
}

function layerOf(
  tape: Tape,
  top: TopLayers,
  deltas: Deltas,
  index: number,
  { known, inputs }: { known?: FirstLayer['known'] | undefined; inputs?: Map<string, Tensor> } = {},
): Layer {
  return {
    tape,
    top,
    index,
    product: (part, x) => {
      const name = `blk.${index}.${part}.weight`;
      inputs?.set(inputOf(name), x);
      return adapted(tape, top, deltas, name, x, known?.get(name));
    },
    vector: (part) => top.vector(`blk.${index}.${part}`),
  };
}

/** The residual stream behind the attention of layer l, of the rows that are needed further on. */
function behindAttention(
  tape: Tape,
  top: TopLayers,
  deltas: Deltas,
  batch: PackedBatch,
  l: number,
  h: Tensor,
  inputs?: Map<string, Tensor>,
): Tensor {
  const last = l === top.shape.L - 1;
  if (l > top.first || top.cut.isInput) {
    const layer = layerOf(tape, top, deltas, l, { inputs });
    return top.architecture.attention(layer, h, last ? batch.inputs : { ...batch.inputs, only: undefined });
  }
  return last ? tape.rows(h, batch.rows) : h;
}

/** Layers that follow one another: the first one's index, and the index behind the last. */
export interface LayerRange {
  readonly from: number;
  readonly to: number;
}

/** Layers of the range on the residual stream h [D, T] before them. Returns [D, T], or [D, A] behind the model's last layer. */
export function throughLayers(
  tape: Tape,
  top: TopLayers,
  deltas: Deltas,
  batch: PackedBatch,
  h: Tensor,
  range: LayerRange,
  { first, inputs }: { readonly first?: FirstLayer | undefined; readonly inputs?: Map<string, Tensor> } = {},
): Tensor {
  for (let l = range.from; l < range.to; l++) {
    const known = l === top.first ? first : undefined;
    h = known?.hidden ?? behindAttention(tape, top, deltas, batch, l, h, inputs);
    const layer = layerOf(tape, top, deltas, l, { known: known?.known, ...(inputs && { inputs }) });
    const x = known?.norm ?? tape.rmsNorm(h, layer.vector('ffn_norm.weight'), top.shape.eps);
    h = tape.add(h, top.architecture.feedForward(layer, x, top.shape));
  }
  return h;
}

/** The head's input rows [D, A], weighted in the gradient, from the residual stream [D, A] behind the last layer. */
export function headRows(tape: Tape, top: TopLayers, batch: PackedBatch, h: Tensor): Tensor {
  const { D, eps } = top.shape;
  const normed = tape.rmsNorm(h, top.vector('output_norm.weight'), eps);
  return tape.weighRows(normed, batch.rowWeights, D, batch.A);
}

/**
 * The last K layers on a packed batch, from the residual stream at the cut.
 * @returns the head's input rows [D, A], weighted in the gradient, and the inputs of the products.
 */
export function forward(
  tape: Tape,
  top: TopLayers,
  deltas: Deltas,
  batch: PackedBatch,
  first?: FirstLayer,
): { rows: Tensor; inputs: ProductInputs } {
  const inputs = new Map<string, Tensor>();
  const range = { from: top.first, to: top.shape.L };
  const h = throughLayers(tape, top, deltas, batch, batch.hidden, range, { first, inputs });
  return { rows: headRows(tape, top, batch, h), inputs };
}
