import { TmemError } from '../errors.ts';
import { type GgmlContext, type Native, type Buffer as NativeBuffer, TYPE } from '../native/library.ts';
import type { Likely } from '../types.ts';
import type { Linear } from './tape.ts';
import type { TopLayers } from './top-layers.ts';

/** The last product: from the normed residual stream [D] to logits [V]. */
export interface Head {
  readonly linear: Linear;
  readonly V: number;
  /** Row of a token. */
  rowOf(token: number): number;
}

export function fullHead(top: TopLayers): Head {
  return { linear: top.head, V: top.shape.V, rowOf: (token) => token };
}

/** ggml's blocked BF16 kernels want a multiple of 32 where there is AVX-512; a few more tokens make a number of them one. */
const TOKENS_UNIT = 32;

/**
 * The head's rows of some tokens only: a softmax over the tokens that could be said, instead of the whole vocabulary. What it leaves out
 * is the probability of all others, which is small where the tokens hold the most probable ones of every row, and falls in training.
 */
export class CandidateHead implements Head {
  readonly linear: Linear;
  readonly V: number;
  #rows: ReadonlyMap<number, number>;
  #f: Native;
  #context: GgmlContext;
  #buffer: NativeBuffer;

  /** @throws TmemError `missing` when there is too little memory. */
  constructor(top: TopLayers, tokens: Iterable<number>) {
    const f = top.native;
    const chosen = new Set(tokens);
    for (let token = 0; chosen.size % TOKENS_UNIT !== 0 && token < top.shape.V; token++) chosen.add(token);
    const sorted = [...chosen].sort((a, b) => a - b);
    this.V = sorted.length;
    this.#rows = new Map(sorted.map((token, row) => [token, row]));
    this.#f = f;
    this.#context = f.init({ mem_size: 1 << 18, mem_buffer: null, no_alloc: true });
    const { D } = top.shape;
    const { type, dense } = top.headRows;
    const weight = f.new2(this.#context, type, D, this.V);
    const transposed = dense ? undefined : f.new2(this.#context, TYPE.BF16, this.V, D);
    const buffer = f.allocateContext(this.#context, top.backend);
    if (!buffer) throw new TmemError('missing', 'There is not enough memory for this batch; use a smaller --batch.');
    this.#buffer = buffer;
    const copy = transposed && { tensor: transposed, type: TYPE.BF16 };
    top.loadHeadRows(sorted, { tensor: weight, type, inputs: D, outputs: this.V }, copy);
    this.linear = { weight, transposed, dense };
  }

  rowOf(token: number): number {
    const row = this.#rows.get(token);
    if (row === undefined) throw new Error(`token ${token} is not among the candidates`);
    return row;
  }

  free(): void {
    this.#f.bufferFree(this.#buffer);
    this.#f.free(this.#context);
  }
}

/** The k most probable tokens of one row of logits, and their log-probabilities; `whole` is its log(sum(exp)). */
export function mostLikely(logits: Float32Array, k: number, whole = logSumExp(logits)): Likely {
  const found = new Set<number>();
  collectLikely(logits, logits.length, k, found);
  const tokens = Int32Array.from(found);
  return { tokens, logProbs: Float32Array.from(tokens, (token) => logits[token]! - whole) };
}

const FINE_STEPS = 64;
const FINE_STEP = Math.LN2 / FINE_STEPS;
/** 2^-i/64 and 2^-i. */
const FINE = Float64Array.from({ length: FINE_STEPS }, (_, i) => 2 ** (-i / FINE_STEPS));
const COARSE = Float64Array.from({ length: 1024 }, (_, i) => 2 ** -i);

/** log(sum(exp(x))), to 1e-12. Every sampled token takes one over the vocabulary: by tables it takes half the time of Math.exp. */
export function logSumExp(x: Float32Array): number {
  let max = Number.NEGATIVE_INFINITY;
  for (let i = 0; i < x.length; i++) if (x[i]! > max) max = x[i]!;
  let sum = 0;
  for (let i = 0; i < x.length; i++) {
    const below = max - x[i]!;
    if (below > 700) continue;
    const n = Math.trunc(below / FINE_STEP);
    const r = n * FINE_STEP - below;
    sum += COARSE[n >> 6]! * FINE[n & 63]! * (1 + r * (1 + r * (1 / 2 + r * (1 / 6 + r / 24))));
  }
  return max + Math.log(sum);
}

/** Adds the k most probable tokens of each row of logits [rows, V] to `found`. */
export function collectLikely(logits: Float32Array, V: number, k: number, found: Set<number>): void {
  for (let start = 0; start < logits.length; start += V) {
    const row = logits.subarray(start, start + V);
    const floor = kthLargest(row, k);
    for (let i = 0; i < V; i++) if (row[i]! >= floor) found.add(i);
  }
}

/** The k-th largest value, by a heap of the k largest so far whose root is the smallest of them. */
function kthLargest(values: Float32Array, k: number): number {
  if (k >= values.length) return Number.NEGATIVE_INFINITY;
  const heap = values.slice(0, k).sort();
  for (let i = k; i < values.length; i++) {
    const x = values[i]!;
    if (x <= heap[0]!) continue;
    let at = 0;
    for (;;) {
      const left = 2 * at + 1;
      if (left >= k) break;
      const child = left + 1 < k && heap[left + 1]! < heap[left]! ? left + 1 : left;
      if (heap[child]! >= x) break;
      heap[at] = heap[child]!;
      at = child;
    }
    heap[at] = x;
  }
  return heap[0]!;
}
