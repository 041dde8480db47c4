/** Training over the tokens that could be said, against training over the whole vocabulary. */
import assert from 'node:assert/strict';
import { before, describe, it } from 'node:test';
import { CandidateHead, collectLikely, fullHead, logSumExp } from '../../src/engine/training/head.ts';
import type { PreparedSample } from '../../src/engine/training/packed-batch.ts';
import { freePieces } from '../../src/engine/training/pieces.ts';
import type { TopLayers } from '../../src/engine/training/top-layers.ts';
import { train } from '../../src/engine/training/train.ts';
import { Trainer } from '../../src/engine/training/trainer.ts';
import type { FastWeights } from '../../src/engine/types.ts';
import { openTrainingOn } from '../support/engine-fixture.ts';

let top: TopLayers;
let samples: PreparedSample[];
let weights: FastWeights;

before(async () => {
  ({ top, samples, weights } = await openTrainingOn({ architecture: 'llama', type: 'Q8_0' }, 2, [
    ['one', 'first answer', 1],
    ['two', 'another answer', 3],
  ]));
});

describe('logSumExp', () => {
  const exactly = (x: Float32Array) => {
    const max = Math.max(...x);
    return max + Math.log(x.reduce((sum, v) => sum + Math.exp(v - max), 0));
  };

  it('agrees with Math.exp over all distances from the largest', () => {
    for (let width = 0.01; width < 2000; width *= 1.7) {
      const x = Float32Array.from({ length: 999 }, (_, i) => width * Math.sin(i * i));
      assert.ok(Math.abs(logSumExp(x) - exactly(x)) <= 1e-12 * Math.max(1, width), `width ${width}`);
    }
  });

  it('counts what is forbidden as nothing, and hides no number that is none', () => {
    assert.equal(logSumExp(Float32Array.of(Number.NEGATIVE_INFINITY, 3)), 3);
    assert.ok(Number.isNaN(logSumExp(Float32Array.of(1, Number.NaN))));
  });
});

describe('collectLikely', () => {
  it('finds the k most probable tokens of every row', () => {
    const found = new Set<number>();
    collectLikely(Float32Array.of(5, 1, 3, 2, 4, /* */ 0, 9, 0, 0, 8), 5, 2, found);
    assert.deepEqual([...found].sort(), [0, 1, 4]);
    const all = new Set<number>();
    collectLikely(Float32Array.of(1, 2, 3), 3, 7, all);
    assert.equal(all.size, 3);
  });

  it('agrees with sorting', () => {
    for (let seed = 1; seed < 20; seed++) {
      const row = Float32Array.from({ length: 200 }, (_, i) => Math.sin(seed * 999 + i * i));
      const found = new Set<number>();
      collectLikely(row, row.length, seed, found);
      const sorted = [...row.keys()].sort((a, b) => row[b]! - row[a]!).slice(0, seed);
      assert.deepEqual(
        [...found].sort((a, b) => a - b),
        sorted.sort((a, b) => a - b),
      );
    }
  });
});

describe('a head of some tokens', () => {
  it('needs no transposed copy of the whole head', async () => {
    const { top } = await openTrainingOn({ architecture: 'llama', type: 'Q8_0' }, 2, [['one', 'first answer', 1]]);
    const request = { weights, optimizer: { kind: 'sgd', lr: 1 }, epochs: 1 } as const;
    const { bytes } = top;
    await train(top, samples, { ...request, candidates: 8 });
    assert.equal(top.bytes, bytes);
    await train(top, samples, request);
    const { D, V } = top.shape;
    assert.ok(top.bytes >= bytes + D * V, 'made for the first gradient over the whole vocabulary');
    await train(top, samples, request);
    assert.ok(top.bytes < bytes + 2 * 4 * D * V, 'and once');
  });

  it('of all tokens gives the loss and gradient of the whole head', async () => {
    const trainer = new Trainer(top, weights, { kind: 'sgd', lr: 1 });
    const head = new CandidateHead(top, Array.from({ length: fullHead(top).V }, (_, i) => i).reverse());
    const pieces = trainer.pack(samples);
    const whole = await trainer.gradient(pieces);
    for (const { batch } of pieces) batch.setHead(head);
    const same = await trainer.gradient(pieces);
    assert.ok(Math.abs(same.loss / whole.loss - 1) < 1e-6);
    // Its transposed copy is of BF16, that of the whole head of F32.
    assert.ok(Math.abs(same.gradNorm / whole.gradNorm - 1) < 5e-3, `${same.gradNorm}, ${whole.gradNorm}`);
    freePieces(pieces);
    head.free();
    trainer.free();
  });

  it('of some tokens leaves the others out of the softmax', async () => {
    const trainer = new Trainer(top, weights, { kind: 'sgd', lr: 1 });
    const pieces = trainer.pack(samples);
    let logits = new Float32Array();
    const all = await trainer.losses(pieces, undefined, (given) => {
      logits = given.slice();
    });
    const { V } = top.shape;
    const [{ batch }] = pieces as [(typeof pieces)[0]];
    const kept = new Set(batch.targets.map(({ token }) => token));
    for (let token = 70; kept.size % 32 !== 0; token++) kept.add(token); // others are added to another number of tokens
    const head = new CandidateHead(top, kept);
    assert.equal(head.V, kept.size);
    batch.setHead(head);
    const some = await trainer.gradient(pieces);
    let row = 0;
    for (const [s, losses] of all.entries()) {
      for (const [t, loss] of losses.entries()) {
        const of = logits.subarray(row * V, (row + 1) * V);
        const sum = (tokens: Iterable<number>) => [...tokens].reduce((n, i) => n + Math.exp(of[i]!), 0);
        const share = sum(kept) / sum(of.keys());
        assert.ok(Math.abs(some.tokenLosses[s]![t]! - (loss + Math.log(share))) < 1e-3);
        row++;
      }
    }
    assert.throws(() => head.rowOf(99), /not among/);
    freePieces(pieces);
    head.free();
    trainer.free();
  });

  it('of few tokens learns the answers as the whole head does', async () => {
    const request = { weights, optimizer: { kind: 'adamw', lr: 0.05 }, epochs: 30 } as const;
    const whole = await train(top, samples, request);
    const some = await train(top, samples, { ...request, candidates: 8 });
    const [first, exact] = [some.steps[0]!.loss, whole.steps[0]!.loss];
    assert.ok(
      first < exact && first > 0.9 * exact,
      `${first}: the likely tokens hold most of the probability, not all`,
    );
    assert.notDeepEqual(some.weights, whole.weights);
    const { loss } = (await train(top, samples, { ...request, weights: some.weights, epochs: 1 })).steps[0]!;
    const learned = (end: number) => whole.steps[0]!.loss - end;
    const share = learned(loss) / learned(whole.steps.at(-1)!.loss);
    assert.ok(share > 0.9, `${share} of what the whole head learns, over all tokens`);
  });
});
