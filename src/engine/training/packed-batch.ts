import { TmemError } from '../errors.ts';
import { type GgmlContext, type Native, type Buffer as NativeBuffer, type Tensor, TYPE } from '../native/library.ts';
import type { Likely } from '../types.ts';
import type { LayerInputs, RowInputs } from './architectures/types.ts';
import { type AttentionBlock, planBlocks, sees, TOKENS_UNIT } from './attention.ts';
import { fullHead, type Head } from './head.ts';
import type { TopLayers } from './top-layers.ts';

export interface TokenisedSample {
  /** Prompt, then answer. */
  readonly tokens: Int32Array;
  readonly promptLength: number;
}

/** A sample with the residual stream that the trained layers are computed from. */
export interface SampleStates extends TokenisedSample {
  /** Row-major [tokens, D]. */
  readonly hidden: Float32Array;
}

/** A sample and what its loss is of. */
export interface PreparedSample extends SampleStates {
  readonly weight: number;
  /** By answer token, in place of `weight`; of any sign. */
  readonly tokenWeights?: ArrayLike<number> | undefined;
  /** At each answer token, in place of it. */
  readonly targets?: readonly (Likely | undefined)[] | undefined;
}

/** A token that a row is to predict, and with which probability: the label has 1. */
export interface Target {
  readonly row: number;
  readonly token: number;
  readonly probability: number;
}

/** Rows whose output is wanted: those that predict an answer token, or every row (to read inputs or logits). */
export type RowChoice = 'answers' | 'all';

/** Rows of a batch that follow one another. */
export interface RowPart {
  readonly from: number;
  readonly n: number;
  /** Of these rows. */
  readonly targets: readonly Target[];
  /** Index of each target in the flattened [V * n] logits, and its probability [1, targets]. */
  readonly flatTargets: Tensor;
  readonly probabilities: Tensor;
}

/** A row of logits has the vocabulary's size; a product with fewer rows than this is not worth its weight's way through the caches. */
export const HEAD_ROWS = 256;

/**
 * Samples packed one after the other behind the prompt tokens that all of them begin with (the chat template's system turn), which
 * are computed once: causal attention makes them the same in every sample. A token sees that prefix and the earlier tokens of its own
 * sample. The batch's tensors, and the products of the
 * first trained layer that no step changes, stay in native memory across the epochs of one write.
 */
export class PackedBatch {
  /** Tokens of the samples, and all with those that fill them up. */
  readonly tokens: number;
  readonly T: number;
  /** Tokens that all samples share, at the start. */
  readonly prefix: number;
  readonly A: number;
  readonly hidden: Tensor;
  readonly inputs: LayerInputs;
  readonly rows: Tensor;
  /** Which tokens the logits are of. Default all. */
  head: Head;
  /** The rows, as many as the head is computed for at a time. */
  readonly parts: readonly RowPart[];
  /** Weight of each row in the loss [1, A]. */
  readonly rowWeights: Tensor;
  /** Which of the samples each row belongs to. */
  readonly rowSample: readonly number[];
  /** The same weights, and their sum. */
  readonly weights: Float32Array;
  readonly totalWeight: number;
  /** What the weights are multiplied with in loss and gradient. */
  scale = 1;
  /** What the rows are to predict, row by row. */
  readonly targets: readonly Target[];
  #f: Native;
  #context: GgmlContext;
  #buffer: NativeBuffer;

  constructor(top: TopLayers, samples: readonly PreparedSample[], rowChoice: RowChoice = 'answers') {
    const f = top.native;
    const { D } = top.shape;
    this.#f = f;
    const P = commonPrefix(samples);
    this.tokens = P + samples.reduce((n, s) => n + s.tokens.length - P, 0);
    const T = Math.ceil(this.tokens / TOKENS_UNIT) * TOKENS_UNIT;
    const positions = new Int32Array(T);
    const starts = new Int32Array(T);
    const hidden = new Float32Array(T * D);
    const rows: number[] = [];
    const targets: Target[] = [];
    const weights: number[] = [];
    const rowSample: number[] = [];
    const place = (s: PreparedSample, index: number, from: number, to: number, start: number) => {
      hidden.set(s.hidden.subarray(from * D, to * D), start * D);
      for (let i = from; i < to; i++) {
        const t = start + i - from;
        positions[t] = i;
        starts[t] = start;
        const answer = i + 1 - s.promptLength;
        const answers = answer >= 0 && i + 1 < s.tokens.length;
        if (answers || rowChoice === 'all') {
          const label = { tokens: [answers ? s.tokens[i + 1]! : 0], logProbs: [0] };
          targets.push(...asTargets(rows.length, (answers && s.targets?.[answer]) || label));
          rows.push(t);
          weights.push(answers ? (s.tokenWeights?.[answer] ?? s.weight) : 0);
          rowSample.push(index);
        }
      }
    };
    if (P > 0) place(samples[0]!, 0, 0, P, 0);
    let start = P;
    for (const [index, s] of samples.entries()) {
      place(s, index, P, s.tokens.length, start);
      start += s.tokens.length - P;
    }
    // What fills up sees itself alone, and nothing sees it.
    for (let t = this.tokens; t < T; t++) starts[t] = t;
    const packed = { T, shared: P, starts };
    const A = rows.length;
    if (A === 0) throw new TmemError('usage', 'There is nothing to train on: every answer is empty.');
    this.T = T;
    this.prefix = P;
    this.A = A;
    this.rowSample = rowSample;
    this.weights = Float32Array.from(weights);
    this.totalWeight = weights.reduce((a, b) => a + b, 0);

    this.#context = f.init({ mem_size: 1 << 20, mem_buffer: null, no_alloc: true });
    const c = this.#context;
    this.hidden = f.new2(c, TYPE.F32, D, T);
    this.rows = f.new1(c, TYPE.I32, A);
    this.parts = Array.from({ length: Math.ceil(A / HEAD_ROWS) }, (_, i) => {
      const from = i * HEAD_ROWS;
      const n = Math.min(HEAD_ROWS, A - from);
      const own = targets.filter(({ row }) => row >= from && row < from + n);
      const [flatTargets, probabilities] = [f.new1(c, TYPE.I32, own.length), f.new2(c, TYPE.F32, 1, own.length)];
      return { from, n, targets: own, flatTargets, probabilities };
    });
    this.rowWeights = f.new2(c, TYPE.F32, 1, A);
    const window = top.shape.window?.size ?? Number.POSITIVE_INFINITY;
    const isWindowed = samples.some((s) => s.tokens.length > window);
    /** What goes into tensors once they have memory. */
    const contents: [Tensor, ArrayBufferView][] = [];
    const rowInputs = (of: readonly number[]): RowInputs => {
      const rowPositions = f.new1(c, TYPE.I32, of.length);
      contents.push([rowPositions, Int32Array.from(of, (t) => positions[t]!)]);
      const planned = planBlocks(of, packed);
      const within = (reach: number): AttentionBlock[] =>
        planned.map(({ columns, ...block }) => {
          const tokens = of.slice(block.queries.from, block.queries.from + block.queries.n);
          const mask = f.new2(c, TYPE.F32, columns.length, tokens.length);
          const near = (t: number, other: number) => positions[t]! - positions[other]! < reach;
          contents.push([mask, maskOf(tokens, columns, (t, other) => sees(t, other, packed) && near(t, other))]);
          return { ...block, mask };
        });
      const blocks = within(Number.POSITIVE_INFINITY);
      return { positions: rowPositions, blocks, windowBlocks: isWindowed ? within(window) : blocks };
    };
    this.inputs = { T, ...rowInputs([...positions.keys()]), only: { A, rows: this.rows, ...rowInputs(rows) } };
    const buffer = f.allocateContext(c, top.backend);
    if (!buffer) throw new TmemError('missing', 'There is not enough memory for this batch; use a smaller --batch.');
    this.#buffer = buffer;
    contents.push([this.hidden, hidden], [this.rows, Int32Array.from(rows)]);
    for (const { probabilities, targets } of this.parts)
      contents.push([probabilities, Float32Array.from(targets, (target) => target.probability)]);
    for (const [tensor, data] of contents) f.tensorSet(tensor, data, 0, data.byteLength);
    this.targets = targets;
    this.head = fullHead(top);
    this.setHead(this.head);
    this.setScale(1);
  }

  /** Logits over other tokens; the targets must be among them. */
  setHead(head: Head): void {
    this.head = head;
    for (const { from, targets, flatTargets } of this.parts) {
      const flat = Int32Array.from(targets, ({ row, token }) => (row - from) * head.V + head.rowOf(token));
      this.#f.tensorSet(flatTargets, flat, 0, flat.byteLength);
    }
  }

  /** Row weights times a factor: 1 / (sum of weights over all batches of a step) makes the loss a mean. */
  setScale(factor: number): void {
    this.scale = factor;
    const scaled = this.weights.map((w) => w * factor);
    this.#f.tensorSet(this.rowWeights, scaled, 0, scaled.byteLength);
  }

  free(): void {
    this.#f.bufferFree(this.#buffer);
    this.#f.free(this.#context);
  }
}

/** [columns, queries]: 0 where the query's token sees the column's, -inf elsewhere. */
function maskOf(
  queries: readonly number[],
  columns: Int32Array,
  seen: (token: number, other: number) => boolean,
): Float32Array {
  const mask = new Float32Array(columns.length * queries.length);
  let i = 0;
  for (const query of queries)
    for (const column of columns) mask[i++] = seen(query, column) ? 0 : Number.NEGATIVE_INFINITY;
  return mask;
}

/** A distribution over some tokens as one over those alone. */
function asTargets(
  row: number,
  { tokens, logProbs }: { tokens: ArrayLike<number>; logProbs: ArrayLike<number> },
): Target[] {
  const probabilities = Array.from(logProbs, Math.exp);
  const sum = probabilities.reduce((a, b) => a + b, 0);
  return probabilities.map((p, i) => ({ row, token: tokens[i]!, probability: p / sum }));
}

/** Tokens at the start that two sequences have in common, at most `limit`. */
function sharedTokens(a: Int32Array, b: Int32Array, limit: number): number {
  let i = 0;
  while (i < limit && a[i] === b[i]) i++;
  return i;
}

/** Tokens that all prompts begin with. The row that predicts a sample's first answer token is never among them. */
export function commonPrefix(samples: readonly TokenisedSample[]): number {
  const [first, ...rest] = samples;
  if (!first || rest.length === 0) return 0;
  const limit = Math.min(...samples.map((s) => s.promptLength - 1));
  return rest.reduce((n, s) => sharedTokens(first.tokens, s.tokens, n), limit);
}

export interface GroupLimits {
  /** A common prefix is counted once. */
  readonly tokens: number;
  readonly samples?: number;
  readonly answerTokens?: number;
}

/** Cuts samples into runs within the limits; one that alone is beyond them makes a run of its own. */
export function groupSamples<S extends TokenisedSample>(samples: readonly S[], limits: GroupLimits): S[][] {
  const { samples: maxSamples = Number.POSITIVE_INFINITY, answerTokens = Number.POSITIVE_INFINITY } = limits;
  const groups: S[][] = [];
  let group: S[] = [];
  let shared = 0;
  let tokens = 0;
  let answers = 0;
  for (const s of samples) {
    const ownAnswers = s.tokens.length - s.promptLength;
    const nextShared =
      group.length === 0
        ? s.promptLength - 1
        : sharedTokens(group[0]!.tokens, s.tokens, Math.min(shared, s.promptLength - 1));
    const total = tokens + s.tokens.length - group.length * nextShared;
    const full = total > limits.tokens || group.length === maxSamples || answers + ownAnswers > answerTokens;
    if (group.length > 0 && full) {
      groups.push(group);
      group = [s];
      shared = s.promptLength - 1;
      tokens = s.tokens.length;
      answers = ownAnswers;
    } else {
      group.push(s);
      shared = nextShared;
      tokens += s.tokens.length;
      answers += ownAnswers;
    }
  }
  if (group.length > 0) groups.push(group);
  return groups;
}
