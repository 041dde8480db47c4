/**
 * A reverse-mode tape over ggml operations: each method adds the forward nodes to the graph and remembers how the gradient
 * of its output reaches its inputs. Beside `ggml_build_backward_expand` it saves the slow `out_prod`: gradients to activations
 * are `mul_mat` with a transposed copy of the weight.
 *
 * Shapes are written in ggml order (fastest dimension first): T packed tokens, Q query rows, A answer rows, D width, V vocabulary,
 * R rank, H heads, G key-value heads, C channels of a head.
 */
import type { MatrixProduct } from '../native/blas.ts';
import type { GgmlContext, Graph, Native, RopeArguments, Tensor } from '../native/library.ts';
import { sizesOf, TYPE } from '../native/library.ts';
import { type AttentionBlock, type AttentionSize, blockAttention } from './attention.ts';

/** A frozen product: W [in, out] and, when gradients must pass through it, its transposed copy [out, in] unless it is dense. */
export interface Linear {
  readonly weight: Tensor;
  readonly transposed: Tensor | undefined;
  /** F32, to be multiplied with by a BLAS. */
  readonly dense?: boolean;
}

/** A product of F32 matrices that a BLAS computes in ggml's place. */
export interface DenseProduct extends MatrixProduct {
  readonly a: Tensor;
  readonly b: Tensor;
}

/** The tensors of one LoRA pair: A [in, R], A^T [R, in], B [R, out]. */
export interface LoraTensors {
  readonly a: Tensor;
  readonly aT: Tensor;
  readonly b: Tensor;
  /** Whether B is trained: its gradient is collected. */
  readonly trained: boolean;
  /** Whether A is, too; A^T is then of no use. */
  readonly trainsA?: boolean;
}

export const GRAPH_NODES = 16384;
/** Where a probability is 0, so that p log p is 0 there, and no other is changed. */
const TINY = 1e-37;
const GELU = { a: Math.sqrt(2 / Math.PI), b: 0.044715 };

export class Tape {
  readonly graph: Graph;
  readonly c: GgmlContext;
  readonly f: Native;
  /** Gradient of each trained B [R, out] and A [in, R], by the handle of B or A. */
  readonly gradients = new Map<Tensor, Tensor>();
  /** By their results. */
  readonly products = new Map<Tensor, DenseProduct>();
  readonly #dense: boolean;
  #needsGradient = new Set<Tensor>();
  #upstream = new Map<Tensor, Tensor>();
  #steps: { out: Tensor; back: (gradient: Tensor) => void }[] = [];

  /** @param dense whether a BLAS computes F32 products: they are then written down as such, and nothing is transposed for ggml's sake. */
  constructor(native: Native, { dense = false } = {}) {
    this.f = native;
    this.#dense = dense;
    const bytes = native.tensorOverhead() * GRAPH_NODES + native.graphOverhead(GRAPH_NODES, false);
    this.c = native.init({ mem_size: Number(bytes), mem_buffer: null, no_alloc: true });
    this.graph = native.newGraph(this.c, GRAPH_NODES, false);
  }

  free(): void {
    this.f.free(this.c);
  }

  /** Marks a leaf as one whose gradient is wanted (used by the gradient checks). */
  watch(x: Tensor): Tensor {
    this.#needsGradient.add(x);
    return x;
  }

  gradientOf(x: Tensor): Tensor | undefined {
    return this.#upstream.get(x);
  }

  #needs(x: Tensor): boolean {
    return this.#needsGradient.has(x);
  }

  #send(to: Tensor, gradient: () => Tensor): void {
    if (!this.#needs(to)) return;
    const before = this.#upstream.get(to);
    this.#upstream.set(to, before ? this.f.add(this.c, before, gradient()) : gradient());
  }

  #record(out: Tensor, inputs: readonly Tensor[], back: (gradient: Tensor) => void, always = false): Tensor {
    if (always || inputs.some((x) => this.#needs(x))) {
      this.#needsGradient.add(out);
      this.#steps.push({ out, back });
    }
    return out;
  }

  /** Walks the tape backwards from `out`, whose gradient is given. */
  backward(out: Tensor, gradient: Tensor): void {
    this.#upstream.set(out, gradient);
    for (const step of this.#steps.toReversed()) {
      const upstream = this.#upstream.get(step.out);
      if (upstream) step.back(upstream);
    }
  }

  /** W x [n, T] for W [k, n] and x [k, T]. */
  multiply(w: Tensor, x: Tensor, dense = this.#dense): Tensor {
    const y = this.f.mulMat(this.c, w, x);
    if (dense) {
      const [[K, N], [, M]] = [sizesOf(w), sizesOf(x)];
      this.products.set(y, { a: x, b: w, transposeA: false, transposeB: true, M, N, K });
    }
    return y;
  }

  /** W^T d [k, T] for W [k, n] and d [n, T], both F32. */
  #multiplyBack(w: Tensor, d: Tensor): Tensor {
    const { f, c } = this;
    const y = f.outProd(c, w, f.transpose(c, d));
    const [[N, K], [, M]] = [sizesOf(w), sizesOf(d)];
    this.products.set(y, { a: d, b: w, transposeA: false, transposeB: false, M, N, K });
    return y;
  }

  /** X S [d, m] of X [d, n] and S [n, m]: sums of X's columns. */
  combine(x: Tensor, s: Tensor): Tensor {
    const { f, c } = this;
    return this.#dense ? this.#multiplyBack(x, s) : f.mulMat(c, f.cont(c, f.transpose(c, x)), s);
  }

  /** The gradient of B [R, out] from ax [R, T] and dy [out, T], or that of A [in, R] from x [in, T] and d(ax) [R, T]. */
  #outer(ax: Tensor, dy: Tensor): Tensor {
    const { f, c } = this;
    if (!this.#dense) return f.mulMat(c, f.cont(c, f.transpose(c, ax)), f.cont(c, f.transpose(c, dy)));
    const y = f.outProd(c, ax, dy);
    const [[N, K], [M]] = [sizesOf(ax), sizesOf(dy)];
    this.products.set(y, { a: dy, b: ax, transposeA: true, transposeB: false, M, N, K });
    return y;
  }

  /** y [out, T] = W x. */
  linear(x: Tensor, w: Linear): Tensor {
    return this.#record(this.multiply(w.weight, x, w.dense ?? false), [x], (dy) =>
      this.#send(x, () => this.linearBack(w, dy)),
    );
  }

  /** W^T dy [in, T]. */
  linearBack({ weight, transposed, dense = false }: Linear, dy: Tensor): Tensor {
    return dense ? this.#multiplyBack(weight, dy) : this.multiply(transposed!, dy, false);
  }

  /** A x [R, T]. */
  loraInput(x: Tensor, { a, aT, trainsA = false }: LoraTensors): Tensor {
    const { f, c } = this;
    const transposed = () => (trainsA ? f.cont(c, f.transpose(c, a)) : aT);
    const back = (d: Tensor) => {
      this.#send(x, () => (this.#dense ? this.#multiplyBack(a, d) : this.multiply(transposed(), d)));
      if (trainsA) this.gradients.set(a, this.#outer(x, d));
    };
    return this.#record(this.multiply(a, x), [x], back, trainsA);
  }

  /** base [out, T] + B ax, where ax [R, T] = A x. */
  addLora(base: Tensor, ax: Tensor, lora: LoraTensors): Tensor {
    const { f, c } = this;
    const { b } = lora;
    const y = f.add(c, base, this.multiply(b, ax));
    const back = (dy: Tensor) => {
      this.#send(base, () => dy);
      this.#send(ax, () => (this.#dense ? this.#multiplyBack(b, dy) : this.multiply(f.cont(c, f.transpose(c, b)), dy)));
      if (lora.trained) this.gradients.set(b, this.#outer(ax, dy));
    };
    return this.#record(y, [base, ax], back, lora.trained);
  }

  add(a: Tensor, b: Tensor): Tensor {
    return this.#record(this.f.add(this.c, a, b), [a, b], (d) => {
      this.#send(a, () => d);
      this.#send(b, () => d);
    });
  }

  /** x [n, T] + constant [n]. */
  bias(x: Tensor, constant: Tensor): Tensor {
    return this.#record(this.f.add(this.c, x, constant), [x], (d) => this.#send(x, () => d));
  }

  /** s x. */
  scale(x: Tensor, s: number): Tensor {
    const { f, c } = this;
    return this.#record(f.scale(c, x, s), [x], (d) => this.#send(x, () => f.scale(c, d, s)));
  }

  /** RMS norm over the first dimension, times a constant scale. */
  rmsNorm(x: Tensor, scale: Tensor, eps: number): Tensor {
    const { f, c } = this;
    const y = f.mul(c, f.rmsNorm(c, x, eps), scale);
    return this.#record(y, [x], (d) => this.#send(x, () => f.rmsNormBack(c, f.mul(c, d, scale), x, eps)));
  }

  /** silu(gate) * up. */
  swiglu(gate: Tensor, up: Tensor): Tensor {
    const { f, c } = this;
    const activated = f.silu(c, gate);
    return this.#record(f.mul(c, activated, up), [gate, up], (d) => {
      this.#send(gate, () => f.siluBack(c, f.mul(c, d, up), gate));
      this.#send(up, () => f.mul(c, d, activated));
    });
  }

  /** gelu(gate) * up, with the tanh form of gelu: x (1 + tanh u) / 2, u = a (x + b x^3). ggml has no gradient of its own for it. */
  geglu(gate: Tensor, up: Tensor): Tensor {
    const { f, c } = this;
    const square = f.sqr(c, gate);
    const t = f.tanh(c, f.mul(c, gate, f.scaleBias(c, square, GELU.a * GELU.b, GELU.a)));
    const half = f.scaleBias(c, t, 0.5, 0.5);
    const activated = f.mul(c, gate, half);
    return this.#record(f.mul(c, activated, up), [gate, up], (d) => {
      this.#send(gate, () => {
        const du = f.scaleBias(c, square, 1.5 * GELU.a * GELU.b, 0.5 * GELU.a); // u' / 2
        const slope = f.mul(c, f.mul(c, gate, f.scaleBias(c, f.sqr(c, t), -1, 1)), du);
        return f.mul(c, f.mul(c, d, up), f.add(c, half, slope));
      });
      this.#send(up, () => f.mul(c, d, activated));
    });
  }

  /** Elements from .. from + n of every row of x [width, T]. */
  slice(x: Tensor, width: number, from: number, n: number): Tensor {
    const { f, c } = this;
    const rowBytes = f.rowSize(TYPE.F32, width);
    const part = f.view2(c, x, n, f.elements(x) / width, rowBytes, f.rowSize(TYPE.F32, from));
    return this.#record(f.cont(c, part), [x], (d) =>
      this.#send(x, () => f.pad(c, d, from, width - from - n, 0, 0, 0, 0, 0, 0)),
    );
  }

  /** Rows of x [D, T] at indices [A]. */
  rows(x: Tensor, indices: Tensor): Tensor {
    const { f, c } = this;
    return this.#record(f.getRows(c, x, indices), [x], (d) => this.#send(x, () => f.getRowsBack(c, d, indices, x)));
  }

  /** x [D, A] unchanged; its gradient is multiplied row by row with weights [1, A] (the rows of a loss that are weighted). */
  weighRows(x: Tensor, weights: Tensor, D: number, A: number): Tensor {
    const { f, c } = this;
    return this.#record(f.reshape2(c, x, D, A), [x], (d) => this.#send(x, () => f.mul(c, d, weights)));
  }

  /** [C * heads, T] seen as [C, heads, T]. */
  splitHeads(x: Tensor, channels: number, heads: number, tokens: number): Tensor {
    const { f, c } = this;
    return this.#record(f.reshape3(c, x, channels, heads, tokens), [x], (d) =>
      this.#send(x, () => f.reshape2(c, d, channels * heads, tokens)),
    );
  }

  /** Rotary embedding of x [C, heads, T] at positions [T]. */
  rope(x: Tensor, positions: Tensor, factors: Tensor | null, options: RopeArguments): Tensor {
    const { f, c } = this;
    return this.#record(f.rope(c, x, positions, factors, ...options), [x], (d) =>
      this.#send(x, () => f.ropeBack(c, d, positions, factors, ...options)),
    );
  }

  /** Grouped-query attention of q [C, H, Q] on k and v [C, G, T], block by block (`attention.ts`). Returns [C * H, Q]. */
  attention(q: Tensor, k: Tensor, v: Tensor, blocks: readonly AttentionBlock[], size: AttentionSize): Tensor {
    const { out, back } = blockAttention(this.f, this.c, q, k, v, blocks, size);
    return this.#record(out, [q, k, v], (d) => {
      const gradient = back(d);
      this.#send(q, gradient.q);
      this.#send(k, gradient.k);
      this.#send(v, gradient.v);
    });
  }

  /** Rows of x [D, A] from `start` on, seen as a matrix of their own. No gradient passes. */
  run(x: Tensor, start: number, n: number): Tensor {
    const [D] = sizesOf(x);
    const rowBytes = this.f.rowSize(TYPE.F32, D);
    return this.f.view2(this.c, x, D, n, rowBytes, start * rowBytes);
  }

  /**
   * Cross entropy of logits [V, A] without one-hot rows: the softmax is gathered at the targets for the loss, and the gradient,
   * softmax minus the targets' probabilities, is the softmax with those subtracted in place there. `flatTargets` [E] index the flattened
   * [V * A] matrix; a label is a target of probability 1.
   * @returns the softmax [V, A], logProbs [1, E] of the targets, and the gradient of the unweighted sum of losses to the logits [V, A].
   */
  crossEntropy(
    logits: Tensor,
    flatTargets: Tensor,
    targetProbabilities: Tensor,
    V: number,
    A: number,
  ): { probabilities: Tensor; logProbs: Tensor; gradient: Tensor } {
    const { f, c } = this;
    const probabilities = f.softMax(c, logits);
    const flat = f.reshape2(c, probabilities, 1, V * A);
    const picked = f.getRows(c, flat, flatTargets); // [1, E]
    const logProbs = f.log(c, picked);
    const gradient = f.reshape2(c, f.setRows(c, flat, f.sub(c, picked, targetProbabilities), flatTargets), V, A);
    return { probabilities, logProbs, gradient };
  }

  /** Entropy [1, 1, A] in nats of each row of probabilities [V, A]. No gradient passes. */
  entropy(probabilities: Tensor, V: number, A: number): Tensor {
    const { f, c } = this;
    const logs = f.log(c, f.scaleBias(c, probabilities, 1, TINY));
    const byRow = (x: Tensor) => f.reshape3(c, x, V, 1, A);
    return f.scale(c, f.mulMat(c, byRow(probabilities), byRow(logs)), -1);
  }
}
