/** Every op of the tape against central finite differences. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { RopeArguments, Tensor } from '../../src/engine/native/library.ts';
import { planBlocks, sees } from '../../src/engine/training/attention.ts';
import type { LoraTensors, Tape } from '../../src/engine/training/tape.ts';
import { derivative, dot, type Leaf, Leaves, relativeDeviation } from '../support/finite-differences.ts';
import { gaussian } from '../support/tiny-model.ts';

/** Forward values of these F32 graphs have a relative error of some 1e-7, which the difference divides by the step. */
const TOLERANCE = 2e-4;
const STEP = 0.02;

const normal = gaussian(5);
const random = (...shape: number[]): Leaf => ({
  shape,
  data: Float32Array.from({ length: shape.reduce((a, b) => a * b, 1) }, normal),
});
const indices = (...values: number[]): Leaf => ({ shape: [values.length], data: Int32Array.from(values) });

type Build = (tape: Tape, tensors: Tensor[]) => Tensor;
interface Case {
  readonly leaves: readonly Leaf[];
  /** Leaves whose gradients are checked. */
  readonly watched: readonly number[];
  /** Of the output, in ggml order. */
  readonly shape: readonly number[];
  readonly build: Build;
}

/** Gradients of sum(seed * out) as the tape gives them, by watched leaf. */
function tapeGradients({ leaves, watched, build }: Case, seed: Leaf): Float32Array[] {
  const native = new Leaves([...leaves, seed]);
  const gradients = native.evaluate((tape, tensors) => {
    for (const i of watched) tape.watch(tensors[i]!);
    const out = build(tape, tensors);
    tape.backward(out, tensors.at(-1)!);
    return watched.map((i) => {
      const gradient = tape.gradientOf(tensors[i]!);
      assert.ok(gradient, `no gradient reaches leaf ${i}`);
      return tape.f.cont(tape.c, gradient);
    });
  });
  native.free();
  return gradients;
}

/** d sum(seed * out) / d leaf, element by element. */
function numericGradient(native: Leaves, { leaves, build }: Case, seed: Leaf, leaf: number): Float64Array {
  const data = leaves[leaf]!.data as Float32Array;
  const gradient = Float64Array.from(data, (_, k) =>
    derivative((t) => {
      const moved = data.slice();
      moved[k]! += t;
      native.set(leaf, moved);
      const [out] = native.evaluate((tape, tensors) => [build(tape, tensors)]);
      return dot(out!, seed.data);
    }, STEP),
  );
  native.set(leaf, data);
  return gradient;
}

function check(test: Case): void {
  const seed = random(...test.shape);
  const gradients = tapeGradients(test, seed);
  const native = new Leaves(test.leaves);
  test.watched.forEach((leaf, i) => {
    const expected = numericGradient(native, test, seed, leaf);
    const deviation = relativeDeviation(gradients[i]!, expected);
    assert.ok(deviation < TOLERANCE, `leaf ${leaf}: ${deviation}`);
  });
  native.free();
}

function transposed({ shape: [n0, n1], data }: Leaf): Leaf {
  const out = new Float32Array(data.length);
  for (let i = 0; i < n1!; i++) for (let j = 0; j < n0!; j++) out[j * n1! + i] = data[i * n0! + j]!;
  return { shape: [n1!, n0!], data: out };
}

const lora = (a: Tensor, aT: Tensor, b: Tensor, trained = false): LoraTensors => ({ a, aT, b, trained });
/** 0 where row q may see column t <= q + T - Q, -inf elsewhere. */
/** One block that sees every token. */
const whole = (mask: Tensor, { Q, T }: { Q: number; T: number }) => [
  { queries: { from: 0, n: Q }, shared: 0, keys: { from: 0, n: T }, mask },
];

function causalMask(T: number, Q: number): Leaf {
  const data = new Float32Array(T * Q);
  for (let q = 0; q < Q; q++)
    for (let t = 0; t < T; t++) data[q * T + t] = t <= q + T - Q ? 0 : Number.NEGATIVE_INFINITY;
  return { shape: [T, Q], data };
}

describe('the tape agrees with finite differences', () => {
  it('linear', () => {
    const w = random(6, 5);
    check({
      leaves: [random(6, 3), w, transposed(w)],
      watched: [0],
      shape: [5, 3],
      build: (tape, [x, weight, transposed]) => tape.linear(x!, { weight: weight!, transposed: transposed! }),
    });
  });

  it('loraInput', () => {
    const a = random(6, 2);
    check({
      leaves: [random(6, 3), a, transposed(a), random(2, 5)],
      watched: [0],
      shape: [2, 3],
      build: (tape, [x, a, aT, b]) => tape.loraInput(x!, lora(a!, aT!, b!)),
    });
  });

  it('addLora, to the product and to A x', () => {
    const a = random(6, 2);
    check({
      leaves: [random(5, 3), random(2, 3), a, transposed(a), random(2, 5)],
      watched: [0, 1],
      shape: [5, 3],
      build: (tape, [base, ax, a, aT, b]) => tape.addLora(base!, ax!, lora(a!, aT!, b!)),
    });
  });

  it('addLora, to B', () => {
    const a = random(6, 2);
    const test: Case = {
      leaves: [random(5, 3), random(2, 3), a, transposed(a), random(2, 5)],
      watched: [],
      shape: [5, 3],
      build: (tape, [base, ax, a, aT, b]) => tape.addLora(base!, ax!, lora(a!, aT!, b!, true)),
    };
    const seed = random(5, 3);
    const native = new Leaves([...test.leaves, seed]);
    const [actual] = native.evaluate((tape, tensors) => {
      tape.backward(test.build(tape, tensors), tensors.at(-1)!);
      return [tape.gradients.get(tensors[4]!)!];
    });
    assert.ok(relativeDeviation(actual!, numericGradient(native, test, seed, 4)) < TOLERANCE);
    native.free();
  });

  it('add, also of a tensor to itself', () => {
    check({
      leaves: [random(4, 3), random(4, 3)],
      watched: [0, 1],
      shape: [4, 3],
      build: (tape, [a, b]) => tape.add(tape.add(a!, b!), a!),
    });
  });

  it('bias', () => {
    check({
      leaves: [random(4, 3), random(4)],
      watched: [0],
      shape: [4, 3],
      build: (tape, [x, b]) => tape.bias(x!, b!),
    });
  });

  it('rmsNorm, on two and on three dimensions', () => {
    check({
      leaves: [random(6, 3), random(6)],
      watched: [0],
      shape: [6, 3],
      build: (tape, [x, scale]) => tape.rmsNorm(x!, scale!, 1e-2),
    });
    check({
      leaves: [random(4, 2, 3), random(4)],
      watched: [0],
      shape: [4, 2, 3],
      build: (tape, [x, scale]) => tape.rmsNorm(x!, scale!, 1e-5),
    });
  });

  it('swiglu', () => {
    check({
      leaves: [random(5, 3), random(5, 3)],
      watched: [0, 1],
      shape: [5, 3],
      build: (tape, [gate, up]) => tape.swiglu(gate!, up!),
    });
  });

  it('geglu', () => {
    check({
      leaves: [random(5, 3), random(5, 3)],
      watched: [0, 1],
      shape: [5, 3],
      build: (tape, [gate, up]) => tape.geglu(gate!, up!),
    });
  });

  it('slice', () => {
    check({
      leaves: [random(7, 3)],
      watched: [0],
      shape: [4, 3],
      build: (tape, [x]) => tape.slice(x!, 7, 2, 4),
    });
  });

  it('rows, taken in any order and more than once', () => {
    check({
      leaves: [random(4, 5), indices(3, 0, 3)],
      watched: [0],
      shape: [4, 3],
      build: (tape, [x, rows]) => tape.rows(x!, rows!),
    });
  });

  it('splitHeads', () => {
    check({
      leaves: [random(6, 4)],
      watched: [0],
      shape: [3, 2, 4],
      build: (tape, [x]) => tape.splitHeads(x!, 3, 2, 4),
    });
  });

  for (const [name, mode, channels, rotated] of [
    ['of neighbouring pairs', 0, 6, 6],
    ['of halves (NeoX)', 2, 6, 6],
    ['of a part of the channels', 2, 8, 4],
  ] as const) {
    const options: RopeArguments = [rotated, mode, 512, 100, 0.5, 0, 1, 32, 1];
    it(`rope ${name}`, () => {
      check({
        leaves: [random(channels, 2, 4), indices(0, 1, 5, 30)],
        watched: [0],
        shape: [channels, 2, 4],
        build: (tape, [x, positions]) => tape.rope(x!, positions!, null, options),
      });
    });
    it(`rope ${name} with frequency factors`, () => {
      const factors = { shape: [rotated / 2], data: Float32Array.from({ length: rotated / 2 }, (_, i) => 1 + i) };
      check({
        leaves: [random(channels, 2, 4), indices(0, 1, 5, 30), factors],
        watched: [0],
        shape: [channels, 2, 4],
        build: (tape, [x, positions, f]) => tape.rope(x!, positions!, f!, options),
      });
    });
  }

  for (const size of [
    { C: 4, H: 2, G: 2, Q: 5, T: 5 },
    { C: 4, H: 6, G: 2, Q: 5, T: 5 },
    { C: 4, H: 4, G: 2, Q: 2, T: 5 },
    { C: 4, H: 3, G: 1, Q: 1, T: 4 },
  ]) {
    const { C, H, G, Q, T } = size;
    it(`attention of ${H} heads on ${G}, ${Q} queries on ${T} keys`, () => {
      check({
        leaves: [random(C, H, Q), random(C, G, T), random(C, G, T), causalMask(T, Q)],
        watched: [0, 1, 2],
        shape: [C * H, Q],
        build: (tape, [q, k, v, mask]) => tape.attention(q!, k!, v!, whole(mask!, size), size),
      });
    });
  }
});

describe('attention by blocks', () => {
  // Two shared tokens, then samples of 30, 9, 40, 17 and 21 tokens, then what fills up.
  const [shared, lengths] = [2, [30, 9, 40, 17, 21]];
  const T = 128;
  const starts = new Int32Array(T);
  let at = shared;
  for (const length of lengths) {
    starts.fill(at, at, at + length);
    at += length;
  }
  for (let t = at; t < T; t++) starts[t] = t;
  const packed = { T, shared, starts };
  const every = Array.from({ length: T }, (_, t) => t);

  for (const [title, queries] of [
    ['of all tokens', every],
    ['of some', every.filter((t) => t % 5 === 2 && t < at)],
    ['of one', [77]],
  ] as const) {
    it(`${title} is attention with one mask`, () => {
      const size = { C: 4, H: 4, G: 2, Q: queries.length, T };
      const { C, H, G, Q } = size;
      const planned = planBlocks(queries, packed);
      assert.deepEqual(
        planned.flatMap((block) => queries.slice(block.queries.from, block.queries.from + block.queries.n)),
        queries,
      );
      const maskOf = (of: readonly number[], columns: ArrayLike<number>): Leaf => ({
        shape: [columns.length, of.length],
        data: Float32Array.from(of.flatMap((t) => Array.from(columns, (o) => (sees(t, o, packed) ? 0 : -Infinity)))),
      });
      const masks = planned.map(({ columns, queries: { from, n } }) => maskOf(queries.slice(from, from + n), columns));
      const leaves = [
        random(C, H, Q),
        random(C, G, T),
        random(C, G, T),
        random(C * H, Q),
        maskOf(queries, every),
        ...masks,
      ];
      const evaluate = (build: (tape: Tape, tensors: Tensor[]) => Tensor) => {
        const native = new Leaves(leaves);
        const found = native.evaluate((tape, tensors) => {
          for (const x of tensors.slice(0, 3)) tape.watch(x);
          const out = build(tape, tensors);
          tape.backward(out, tensors[3]!);
          return [out, ...tensors.slice(0, 3).map((x) => tape.f.cont(tape.c, tape.gradientOf(x)!))];
        });
        native.free();
        return found;
      };
      const dense = evaluate((tape, [q, k, v, , mask]) => tape.attention(q!, k!, v!, whole(mask!, size), size));
      const byBlocks = evaluate((tape, [q, k, v, , , ...own]) => {
        const blocks = planned.map(({ columns: _, ...block }, i) => ({ ...block, mask: own[i]! }));
        return tape.attention(q!, k!, v!, blocks, size);
      });
      for (const [i, expected] of dense.entries())
        assert.ok(relativeDeviation(byBlocks[i]!, expected) < 1e-5, ['out', 'q', 'k', 'v'][i]);
    });
  }

  it('are fewer scores than all tokens by all, and sums of whole kernels', () => {
    const planned = planBlocks(
      Array.from({ length: 640 }, (_, t) => t),
      {
        T: 640,
        shared: 20,
        starts: Int32Array.from({ length: 640 }, (_, t) => (t < 20 ? 0 : 20 + 31 * Math.floor((t - 20) / 31))),
      },
    );
    const scores = planned.reduce((n, { columns, queries }) => n + columns.length * queries.n, 0);
    assert.ok(scores < (640 * 640) / 3, `${scores}`);
    for (const { columns, queries } of planned) assert.deepEqual([columns.length % 16, queries.n % 16], [0, 0]);
  });
});

describe('the tape does what it defines', () => {
  it('attention computes softmax(q k / sqrt(C)) v', () => {
    const size = { C: 4, H: 4, G: 2, Q: 2, T: 3 };
    const { C, H, G, Q, T } = size;
    const leaves = [random(C, H, Q), random(C, G, T), random(C, G, T), causalMask(T, Q)];
    const native = new Leaves(leaves);
    const [actual] = native.evaluate((tape, [q, k, v, mask]) => [tape.attention(q!, k!, v!, whole(mask!, size), size)]);
    native.free();
    const [q, k, v, mask] = leaves.map((leaf) => leaf.data);
    const expected = new Float64Array(C * H * Q);
    for (let i = 0; i < Q; i++)
      for (let h = 0; h < H; h++) {
        const group = Math.floor(h / (H / G));
        const at = (x: ArrayLike<number>, heads: number, head: number, t: number) =>
          Array.from({ length: C }, (_, c) => x[(t * heads + head) * C + c]!);
        const p = Array.from({ length: T }, (_, t) =>
          Math.exp(dot(at(q!, H, h, i), at(k!, G, group, t)) / Math.sqrt(C) + mask![i * T + t]!),
        );
        const sum = p.reduce((a, b) => a + b);
        for (let t = 0; t < T; t++)
          for (let c = 0; c < C; c++) expected[(i * H + h) * C + c]! += (p[t]! / sum) * at(v!, G, group, t)[c]!;
      }
    assert.ok(relativeDeviation(actual!, expected) < 1e-5);
  });

  it('weighRows passes x on and multiplies the rows of its gradient', () => {
    const [x, weights, seed] = [random(3, 2), random(1, 2), random(3, 2)];
    const native = new Leaves([x, weights, seed]);
    const [out, gradient] = native.evaluate((tape, [x, w, d]) => {
      const y = tape.weighRows(tape.watch(x!), w!, 3, 2);
      tape.backward(y, d!);
      return [y, tape.gradientOf(x!)!];
    });
    native.free();
    assert.deepEqual(out, x.data);
    const expected = Float32Array.from(seed.data, (d, i) => d * weights.data[Math.floor(i / 3)]!);
    assert.deepEqual(gradient, expected);
  });

  it('crossEntropy gives log-probabilities, and softmax minus one-hot', () => {
    const [V, A] = [5, 3];
    const labels = [4, 0, 2];
    const logits = random(V, A);
    const test: Case = {
      leaves: [
        logits,
        indices(...labels.map((label, i) => i * V + label)),
        { shape: [1, A], data: new Float32Array(A).fill(1) },
      ],
      watched: [],
      shape: [1, A],
      build: (tape, [x, flat, ones]) => tape.crossEntropy(x!, flat!, ones!, V, A).logProbs,
    };
    const native = new Leaves(test.leaves);
    const [logProbs, gradient] = native.evaluate((tape, [x, flat, ones]) => {
      const found = tape.crossEntropy(x!, flat!, ones!, V, A);
      return [found.logProbs, found.gradient];
    });
    labels.forEach((label, i) => {
      const row = Array.from(logits.data.subarray(i * V, (i + 1) * V));
      const expected = row[label]! - Math.log(row.reduce((sum, x) => sum + Math.exp(x), 0));
      assert.ok(Math.abs(logProbs![i]! - expected) < 1e-5, `${logProbs![i]} is not ${expected}`);
    });
    // The gradient is that of the loss, minus the sum of the log-probabilities.
    const minus: Leaf = { shape: [1, A], data: new Float32Array(A).fill(-1) };
    assert.ok(relativeDeviation(gradient!, numericGradient(native, test, minus, 0)) < TOLERANCE);
    native.free();
  });

  it('a tensor without anything to train gets no gradient', () => {
    const native = new Leaves([random(4, 3), random(4, 3)]);
    native.evaluate((tape, [a, b]) => {
      const out = tape.add(tape.watch(a!), b!);
      tape.backward(out, b!);
      assert.equal(tape.gradientOf(b!), undefined);
      return [tape.gradientOf(a!)!];
    });
    native.free();
  });
});
