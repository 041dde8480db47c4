/** How A is chosen: singular vectors of a matrix that is known, and whitened keys. */
import assert from 'node:assert/strict';
import { readdirSync } from 'node:fs';
import path from 'node:path';
import { describe, it } from 'node:test';
import { forward } from '../../src/engine/training/forward.ts';
import { keyInitialisation } from '../../src/engine/training/keys.ts';
import { cholesky, eigenSymmetric, orthonormalise } from '../../src/engine/training/linear-algebra.ts';
import { PackedBatch, type PreparedSample } from '../../src/engine/training/packed-batch.ts';
import { Tape } from '../../src/engine/training/tape.ts';
import type { TopLayers } from '../../src/engine/training/top-layers.ts';
import type { FastWeights, LoraTensor } from '../../src/engine/types.ts';
import {
  openFile,
  openTiny,
  openTraining,
  rewriteGguf,
  scratchFile,
  tinyModel,
  tinySamples,
} from '../support/engine-fixture.ts';
import { dot } from '../support/finite-differences.ts';
import { gaussian } from '../support/tiny-model.ts';

function orthonormalRows(rows: number, columns: number, seed: number): Float64Array {
  const X = Float64Array.from({ length: rows * columns }, gaussian(seed));
  orthonormalise(X, rows, columns);
  return X;
}

const row = (x: ArrayLike<number>, i: number, n: number) => Array.from({ length: n }, (_, k) => x[i * n + k]!);
const find = (weights: FastWeights, name: string): LoraTensor => weights.tensors.find((t) => t.name === name)!;

function zeroB(weights: FastWeights): void {
  for (const { b, inputs, outputs, name } of weights.tensors) {
    assert.deepEqual([inputs, outputs], name.includes('down') ? [64, 32] : [32, 64]);
    assert.equal(b.length, outputs * weights.rank);
    assert.ok(b.every((x) => x === 0));
  }
}

describe('SVD initialisation', () => {
  const NAME = 'blk.2.ffn_gate.weight';
  const singular = [9, 6, 4, 2.5, 1.5, 1, 0.5, 0.2];
  const rank = 4;
  // W [64, 32] = U diag(s) V^T.
  const U = orthonormalRows(singular.length, 64, 1);
  const V = orthonormalRows(singular.length, 32, 2);

  async function known() {
    const base = await tinyModel({ architecture: 'llama' });
    return rewriteGguf(base, scratchFile('svd.gguf'), {
      tensor: (name, data) =>
        name === NAME
          ? data.map((_, at) => {
              const [o, i] = [Math.floor(at / 32), at % 32];
              return singular.reduce((sum, s, k) => sum + s * U[k * 64 + o]! * V[k * 32 + i]!, 0);
            })
          : data,
    });
  }

  it('gives the singular vectors times the singular values, and B = 0', async () => {
    const engine = await openFile(await known());
    const weights = await engine.initialise({ init: { kind: 'svd' }, rank, layers: 2 });
    assert.deepEqual([weights.rank, weights.alpha, weights.tensors.length], [rank, rank, 6]);
    zeroB(weights);
    const { a } = find(weights, NAME);
    for (let i = 0; i < rank; i++) {
      for (let j = 0; j < rank; j++) {
        // A0 A0^T is diagonal and holds the squares of the singular values.
        const product = dot(row(a, i, 32), row(a, j, 32));
        const expected = i === j ? singular[i]! ** 2 : 0;
        assert.ok(Math.abs(product - expected) < 1e-3, `${i}, ${j}: ${product} is not ${expected}`);
      }
      const along = dot(row(a, i, 32), row(V, i, 32)) / singular[i]!;
      assert.ok(Math.abs(Math.abs(along) - 1) < 1e-4, `row ${i}: cosine ${along}`);
      const largest = row(a, i, 32).reduce((m, x) => (Math.abs(x) > Math.abs(m) ? x : m), 0);
      assert.ok(largest > 0, 'the largest entry is positive');
    }
  });

  it('gives A0 A0^T diagonal for every product, also of a quantised model', async () => {
    const engine = await openTiny({ architecture: 'qwen2', type: 'Q8_0' });
    const weights = await engine.initialise({ init: { kind: 'svd' }, rank: 3, layers: 3 });
    assert.equal(weights.tensors.length, 9);
    for (const { a, inputs } of weights.tensors) {
      const squares = [0, 1, 2].map((r) => dot(row(a, r, inputs), row(a, r, inputs)));
      assert.ok(squares[0]! >= squares[1]! && squares[1]! >= squares[2]!);
      for (const [i, j] of [
        [0, 1],
        [0, 2],
        [1, 2],
      ] as const)
        assert.ok(Math.abs(dot(row(a, i, inputs), row(a, j, inputs))) < 1e-3 * squares[0]!);
    }
  });

  it('is kept on disk per model, rank and layers', async () => {
    const file = await known();
    const first = await openFile(file);
    const a = await first.initialise({ init: { kind: 'svd' }, rank: 2, layers: 1 });
    const kept = () => readdirSync(path.join(process.env.TMEM_HOME!, 'initialisation')).sort();
    const before = kept();
    const b = await (await openFile(file)).initialise({ init: { kind: 'svd' }, rank: 2, layers: 1 });
    assert.deepEqual(b, a);
    assert.deepEqual(kept(), before);
    await first.initialise({ init: { kind: 'svd' }, rank: 1, layers: 1 });
    assert.equal(kept().length, before.length + 1);
  });
});

describe('random initialisation', () => {
  it('is uniform, seeded, and of B = 0', async () => {
    const engine = await openTiny({ architecture: 'llama' });
    const make = (seed: number) => engine.initialise({ init: { kind: 'random' }, rank: 4, layers: 2, seed });
    const weights = await make(1);
    zeroB(weights);
    assert.deepEqual(await make(1), weights);
    assert.notDeepEqual(await make(2), weights);
    for (const { a, inputs } of weights.tensors) {
      const bound = Math.sqrt(3 / inputs);
      assert.ok(a.every((x) => Math.abs(x) <= bound));
      const variance = dot(a, a) / a.length;
      assert.ok(Math.abs(variance * inputs - 1) < 0.35, `${variance * inputs}`);
    }
  });

  it('refuses ranks and layers that cannot be', async () => {
    const engine = await openTiny({ architecture: 'llama' });
    for (const [rank, layers] of [
      [0, 1],
      [1.5, 1],
      [1000, 1],
      [2, 0],
      [2, 9],
    ] as const)
      await assert.rejects(engine.initialise({ init: { kind: 'random' }, rank, layers }), { code: 'usage' });
  });
});

/** Inputs of the adapted products of a layer, row by row: [T, D] of gate and up, [T, F] of down. */
function inputsOf(top: TopLayers, samples: readonly PreparedSample[], layer: number, from: number) {
  const f = top.native;
  const found = { norm: [] as number[][], activated: [] as number[][] };
  for (const sample of samples) {
    const batch = new PackedBatch(top, [sample], 'all');
    const runner = top.backends.newRunner();
    const tape = new Tape(f);
    const { inputs } = forward(tape, top, {}, batch);
    const keys = { norm: inputs.get(`norm-${layer}`)!, activated: inputs.get(`activated-${layer}`)! };
    for (const t of [keys.norm, keys.activated]) {
      f.setOutput(t);
      f.expand(tape.graph, t);
    }
    runner.run(tape, {
      after: () => {
        for (const [kind, n] of [
          ['norm', top.shape.D],
          ['activated', top.shape.F],
        ] as const) {
          const values = new Float32Array(batch.tokens * n);
          f.tensorGet(keys[kind], values, 0, values.byteLength);
          for (let t = from; t < batch.tokens; t++) found[kind].push(row(values, t, n));
        }
      },
    });
    runner.free();
    batch.free();
  }
  return found;
}

/** X_g^T X_g + n lambda I, as it is written. */
function ridged(Xg: number[][], ridge: number): Float64Array {
  const d = Xg[0]!.length;
  const C = new Float64Array(d * d);
  for (const x of Xg) for (let i = 0; i < d; i++) for (let j = 0; j < d; j++) C[i * d + j]! += x[i]! * x[j]!;
  let trace = 0;
  for (let i = 0; i < d; i++) trace += C[i * d + i]!;
  for (let i = 0; i < d; i++) C[i * d + i]! += (ridge * trace) / Xg.length;
  return C;
}

/** Top eigenvectors of C^-1 X_q^T X_q: L^-T v of the eigenvectors v of L^-1 X_q^T X_q L^-T, with C = L L^T. */
function generalisedDirections(Xq: number[][], C: Float64Array, rank: number): number[][] {
  const d = Xq[0]!.length;
  const L = C.slice();
  cholesky(L, d);
  const S = new Float64Array(d * d);
  for (const x of Xq) {
    const y: number[] = [];
    for (let i = 0; i < d; i++) y[i] = (x[i]! - y.reduce((sum, v, k) => sum + L[i * d + k]! * v, 0)) / L[i * d + i]!;
    for (let i = 0; i < d; i++) for (let j = 0; j < d; j++) S[i * d + j]! += y[i]! * y[j]!;
  }
  const { vectors } = eigenSymmetric(S, d);
  return Array.from({ length: rank }, (_, r) => {
    const a = row(vectors, r, d);
    for (let i = d - 1; i >= 0; i--) {
      for (let k = i + 1; k < d; k++) a[i]! -= L[k * d + i]! * a[k]!;
      a[i]! /= L[i * d + i]!;
    }
    return a;
  });
}

describe('whitened keys', () => {
  const learned = tinySamples([
    ['where is he', 'in there'],
    ['who ran', 'the train'],
  ]);
  const ordinary = Array.from({ length: 12 }, (_, i) => ({
    prompt: `${String.fromCharCode(65 + i)} TEXT ${'XYZ#%QVWJ'.slice(i % 5)} ${i * 7919} LINE`,
    answer: `ANSWER ${i} ${'%$&'.repeat(i % 4)}!`,
  }));

  async function setUp(scale: number) {
    const rank = 2;
    const { top, prefix } = await openTraining({ architecture: 'llama' }, { layers: 2 });
    const samples = await prefix.prepare(learned);
    const general = await prefix.prepare(ordinary);
    const request = {
      samples,
      ordinary: general,
      rank,
      ridge: 0.02,
      scale,
      seed: 0,
    };
    const weights = keyInitialisation(top, request);
    // What both prompts begin with is no key.
    const shared = new PackedBatch(top, samples, 'all');
    const own = shared.prefix;
    shared.free();
    const rms = (part: 'gate' | 'up' | 'down', layer: number, list: readonly PreparedSample[], from: number) => {
      const { a, inputs } = find(weights, `blk.${layer}.ffn_${part}.weight`);
      const rows = inputsOf(top, list, layer, from)[part === 'down' ? 'activated' : 'norm'];
      return Array.from({ length: rank }, (_, r) => {
        const squares = rows.map((x) => dot(row(a, r, inputs), x) ** 2);
        return Math.sqrt(squares.reduce((s, x) => s + x, 0) / squares.length);
      });
    };
    return { weights, samples, general, own, rms, top, request };
  }

  it('give A x the wanted size on the samples, and a much smaller one on ordinary text', async () => {
    const { weights, samples, general, own, rms } = await setUp(50);
    zeroB(weights);
    assert.ok(own > 0);
    for (const layer of [1, 2]) {
      for (const part of ['gate', 'up', 'down'] as const) {
        const there = rms(part, layer, samples, own);
        assert.ok(Math.abs(there[0]! - 50) < 0.5 && there[1]! < there[0]!, `${part} of layer ${layer}: ${there}`);
        const elsewhere = rms(part, layer, general, 0);
        for (const x of elsewhere) assert.ok(x < 50 / 3, `${part} of layer ${layer} on ordinary text: ${elsewhere}`);
      }
      const gate = find(weights, `blk.${layer}.ffn_gate.weight`);
      assert.deepEqual(gate.a, find(weights, `blk.${layer}.ffn_up.weight`).a, 'gate and up share their input');
    }
  });

  it('are the directions that are largest on the samples for their size on ordinary text, all of one size there', async () => {
    const { weights, samples, general, own, top, request } = await setUp(50);
    for (const layer of [1, 2]) {
      for (const part of ['gate', 'down'] as const) {
        const kind = part === 'down' ? 'activated' : 'norm';
        const C = ridged(inputsOf(top, general, layer, 0)[kind], request.ridge);
        const wanted = generalisedDirections(inputsOf(top, samples, layer, own)[kind], C, request.rank);
        const { a, inputs } = find(weights, `blk.${layer}.ffn_${part}.weight`);
        const onOrdinary = wanted.map((v, r) => {
          const x = row(a, r, inputs);
          const cosine = Math.abs(dot(v, x)) / Math.sqrt(dot(v, v) * dot(x, x));
          assert.ok(cosine > 0.999, `row ${r} of ${part} of layer ${layer}: cosine ${cosine}`);
          return x.reduce((sum, xi, i) => sum + xi * dot(row(C, i, inputs), x), 0);
        });
        assert.ok(Math.abs(onOrdinary[1]! / onOrdinary[0]! - 1) < 0.01, `${part} of layer ${layer}: ${onOrdinary}`);
      }
    }
  });

  it('are taken anew for other ordinary text', async () => {
    const { weights, general, top, request } = await setUp(50);
    const other = keyInitialisation(top, { ...request, ordinary: general.slice(0, 4) });
    assert.notDeepEqual(other, weights);
    assert.deepEqual(keyInitialisation(top, request), weights);
  });

  it('scale with the scale only, and are the same for the same request', async () => {
    const one = await setUp(50);
    const two = await setUp(5);
    for (const [i, { a }] of one.weights.tensors.entries()) {
      const other = two.weights.tensors[i]!.a;
      a.forEach((x, k) => {
        assert.ok(Math.abs(x - 10 * other[k]!) < 1e-3 * Math.abs(x) + 1e-3);
      });
    }
    assert.deepEqual(keyInitialisation(one.top, one.request), one.weights);
  });

  it('come from the engine, also beside frozen fast weights and with more rank than tokens', async () => {
    const engine = await openTiny({ architecture: 'llama' });
    const init = { kind: 'keys', samples: learned, ordinary } as const;
    const first = await engine.initialise({ init, rank: 2, layers: 2 });
    const frozen = {
      ...first,
      tensors: first.tensors.map((t) => ({ ...t, b: t.b.map((_, i) => 0.003 * ((i % 5) - 2)) })),
    };
    const second = await engine.initialise({ init, rank: 2, layers: 2, frozen });
    // The first trained layer's input does not depend on Delta, that of its down product does.
    assert.deepEqual(find(second, 'blk.1.ffn_gate.weight').a, find(first, 'blk.1.ffn_gate.weight').a);
    assert.notDeepEqual(find(second, 'blk.1.ffn_down.weight').a, find(first, 'blk.1.ffn_down.weight').a);
    const wide = await engine.initialise({
      init: { kind: 'keys', samples: [{ prompt: 'ab', answer: 'c' }], ordinary },
      rank: 6,
      layers: 1,
    });
    for (const t of wide.tensors) {
      assert.ok(t.a.every(Number.isFinite));
      assert.ok(t.a.some((x) => x !== 0));
    }
    await assert.rejects(engine.initialise({ init: { ...init, samples: [] }, rank: 2, layers: 1 }), { code: 'usage' });
    await assert.rejects(engine.initialise({ init: { ...init, ordinary: [] }, rank: 2, layers: 1 }), { code: 'usage' });
  });
});
