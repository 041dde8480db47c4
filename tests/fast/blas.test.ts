/** Products by a BLAS: one of loops everywhere, the system's where there is one. */
import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { describe, it } from 'node:test';
import { graphDeviation } from '../../src/engine/llama/verify.ts';
import { type Blas, findBlas } from '../../src/engine/native/blas.ts';
import { allocate, loadNative, type Native, release, TYPE, view } from '../../src/engine/native/library.ts';
import { type Backends, Backends as Cpu } from '../../src/engine/training/backends.ts';
import { CandidateHead } from '../../src/engine/training/head.ts';
import { Kernels } from '../../src/engine/training/kernels.ts';
import { HEAD_ROWS } from '../../src/engine/training/packed-batch.ts';
import { freePieces } from '../../src/engine/training/pieces.ts';
import { Trainer } from '../../src/engine/training/trainer.ts';
import type { Optimizer } from '../../src/engine/types.ts';
import { openTraining, randomWeights, scratchFile, tinySamples } from '../support/engine-fixture.ts';
import { relativeDeviation } from '../support/finite-differences.ts';
import { plainBlas, withBlas } from '../support/plain-blas.ts';
import { gaussian } from '../support/tiny-model.ts';

const system = findBlas(process.env.TMEM_TEST_BLAS || 'auto');
const pairs = [
  ['who', 'the train'],
  ['where is it', 'in the rain', 3],
] as const;
const sgd: Optimizer = { kind: 'sgd', lr: 0.05 };
type Training = Awaited<ReturnType<typeof open>>;

async function open(
  architecture: 'llama' | 'gemma3' | 'phi3',
  type: 'F32' | 'Q8_0',
  backends: ((native: Native) => Backends) | undefined,
) {
  const options = { layers: 2, attention: true, ...(backends && { backends }) };
  return { ...(await openTraining({ architecture, type }, options)), backends };
}

async function threeSteps({ top, prefix }: Training) {
  const frozen = randomWeights(top, { rank: 2, seed: 8 });
  const trainer = new Trainer(top, randomWeights(top, { rank: 3, seed: 4 }), sgd, frozen);
  const pieces = trainer.pack(await prefix.prepare(tinySamples(pairs)));
  const losses: number[] = [];
  for (let step = 0; step < 3; step++) {
    losses.push((await trainer.gradient(pieces)).loss);
    trainer.step();
  }
  const b = [...trainer.state.slots.values()].flatMap((slot) => [...trainer.state.get(slot.b)]);
  freePieces(pieces);
  trainer.free();
  return { losses, b };
}

describe('training with a BLAS', () => {
  for (const architecture of ['llama', 'gemma3', 'phi3'] as const) {
    it(`takes the steps that ggml takes (${architecture})`, async () => {
      const expected = await threeSteps(await open(architecture, 'F32', undefined));
      const blas = plainBlas();
      const dense = await open(architecture, 'F32', (native) => withBlas(native, blas));
      const actual = await threeSteps(dense);
      assert.ok(blas.calls() > 100, `${blas.calls()} calls`);
      assert.ok(relativeDeviation(actual.losses, expected.losses) < 1e-5);
      assert.ok(relativeDeviation(actual.b, expected.b) < 1e-4, `${relativeDeviation(actual.b, expected.b)}`);
    });
  }

  it('multiplies quantised weights exactly: nearer to llama.cpp than its rounding', async () => {
    const { top, prefix, model } = await open('llama', 'Q8_0', (native) => withBlas(native, plainBlas()));
    assert.ok(graphDeviation(top, prefix, model) < 0.03);
    assert.equal(top.headRows.type, TYPE.F32);
  });

  it('has a head of some tokens, too', async () => {
    const dense = await open('llama', 'Q8_0', (native) => withBlas(native, plainBlas()));
    const { top, prefix } = dense;
    const trainer = new Trainer(top, randomWeights(top, { rank: 3, seed: 4 }), sgd);
    const pieces = trainer.pack(await prefix.prepare(tinySamples(pairs)));
    const whole = await trainer.gradient(pieces);
    const head = new CandidateHead(top, [...Array(top.shape.V).keys()]);
    for (const { batch } of pieces) batch.setHead(head);
    const same = await trainer.gradient(pieces);
    assert.ok(Math.abs(same.gradNorm / whole.gradNorm - 1) < 1e-5);
    freePieces(pieces);
    head.free();
    trainer.free();
  });
});

describe('the head', () => {
  it('is computed for some rows at a time, with the gradient of all', async () => {
    const { top, prefix } = await open('llama', 'F32', undefined);
    const long = 'a train in the rain and '.repeat(6);
    const samples = await prefix.prepare(
      tinySamples([
        ['one', long],
        ['two', `${long}${long}`],
        ['three', long, 2],
      ]),
    );
    const trainer = new Trainer(top, randomWeights(top, { rank: 3, seed: 4 }), sgd);
    const together = trainer.pack(samples);
    const rows = together.map(({ batch }) => batch.A);
    assert.ok(rows.length === 1 && rows[0]! > HEAD_ROWS, `${rows}`);
    const all = await trainer.gradient(together);
    const apart = samples.flatMap((sample) => trainer.pack([sample]));
    const weight = apart.reduce((n, { batch }) => n + batch.totalWeight, 0);
    for (const { batch } of apart) batch.setScale(1 / weight);
    const sum = await trainer.gradient(apart);
    assert.ok(Math.abs(sum.loss / all.loss - 1) < 1e-5);
    assert.ok(Math.abs(sum.gradNorm / all.gradNorm - 1) < 1e-4, `${sum.gradNorm}, ${all.gradNorm}`);
    assert.deepEqual(
      all.tokenLosses.map((losses) => losses.length),
      sum.tokenLosses.map((losses) => losses.length),
    );
    freePieces([...together, ...apart]);
    trainer.free();
  });
});

describe('the BLAS of the system', { skip: system === undefined && 'there is none' }, () => {
  it('multiplies, plain and transposed', () => {
    const normal = gaussian(3);
    const [M, N, K] = [7, 5, 11];
    const filled = (n: number) => {
      const at = allocate(n * 4);
      new Float32Array(view(at, n * 4)).forEach((_, i, x) => {
        x[i] = normal();
      });
      return at;
    };
    const [a, b, c] = [filled(M * K), filled(K * N), filled(M * N)];
    const result = (blas: Blas, transposeA: boolean, transposeB: boolean) => {
      blas.multiply({ transposeA, transposeB, M, N, K }, a, b, c);
      return new Float32Array(view(c, M * N * 4)).slice();
    };
    for (const transposeA of [false, true])
      for (const transposeB of [false, true]) {
        const expected = result(plainBlas(), transposeA, transposeB);
        assert.ok(relativeDeviation(result(system!, transposeA, transposeB), expected) < 1e-5);
      }
    for (const at of [a, b, c]) release(at);
  });

  it('trains as ggml does, to the same bits each time', async () => {
    const dense = await open('llama', 'F32', (native) => withBlas(native, system!));
    const expected = await threeSteps(await open('llama', 'F32', undefined));
    const first = await threeSteps(dense);
    assert.ok(relativeDeviation(first.b, expected.b) < 1e-4);
    assert.deepEqual(await threeSteps(dense), first);
  });
});

describe('TMEM_BLAS', () => {
  it('can be off', () => {
    assert.equal(findBlas('off'), undefined);
  });

  it('that cannot be loaded is named', () => {
    assert.throws(() => findBlas('/nowhere/libblas.so'), { code: 'missing', message: /nowhere.*off/ });
  });
});

describe('the choice between ggml and a BLAS', () => {
  const blas = { ...plainBlas(), wanted: false };
  const backends = () => withBlas(loadNative(), blas);
  const [forward, backward] = [{ type: TYPE.Q8_0 }, { type: TYPE.BF16 }];
  const large = 1 << 24;

  it('is measured once and kept', () => {
    const file = scratchFile('kernels.json');
    const fast: Blas = { ...blas, multiply: () => {} };
    const first = new Kernels(withBlas(loadNative(), fast), file);
    assert.ok(first.prefersBlas(large, forward, backward));
    assert.ok(!first.prefersBlas(1000, forward, backward));
    const kept = Object.values(JSON.parse(readFileSync(file, 'utf8')) as Record<string, Record<string, number>>);
    assert.deepEqual(Object.keys(kept[0]!).sort(), ['BF16', 'BLAS', 'Q8_0']);
    // The same library on this machine: what was measured holds, although this one would take minutes.
    assert.ok(new Kernels(backends(), file).prefersBlas(large, forward, backward));
  });

  it('takes ggml where that is as fast', () => {
    const file = scratchFile('slow.json');
    const first = new Kernels(withBlas(loadNative(), { ...blas, multiply: () => {} }), file);
    first.gain(forward, backward);
    const [machine] = Object.keys(JSON.parse(readFileSync(file, 'utf8')));
    writeFileSync(file, JSON.stringify({ [machine!]: { Q8_0: 100, BF16: 150, BLAS: 145 } }));
    const kernels = new Kernels(backends(), file);
    assert.ok(Math.abs(kernels.gain(forward, backward) - 145 / 120) < 1e-9);
    assert.ok(!kernels.prefersBlas(large, forward, backward));
  });

  it('measures again what cannot be read', () => {
    const file = scratchFile('broken.json');
    writeFileSync(file, '{"a": 1');
    assert.ok(new Kernels(withBlas(loadNative(), { ...blas, multiply: () => {} }), file).gain(forward, backward) > 1);
  });

  it('without a BLAS is none', () => {
    const native = loadNative();
    const { device, main, cpu } = Cpu.open(native, { threads: 1 });
    assert.ok(!new Kernels(new Cpu(native, device, main, cpu)).prefersBlas(large, forward, backward));
  });
});
