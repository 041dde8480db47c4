/** Optimisers against steps computed by hand, and what one call of `train` does with its request. */
import assert from 'node:assert/strict';
import { before, describe, it } from 'node:test';
import { evaluate } from '../../src/engine/training/evaluate.ts';
import { inputOf } from '../../src/engine/training/forward.ts';
import { withZeroB } from '../../src/engine/training/initialise.ts';
import { captureInputs } from '../../src/engine/training/inputs.ts';
import type { PreparedSample } from '../../src/engine/training/packed-batch.ts';
import { freePieces } from '../../src/engine/training/pieces.ts';
import type { TopLayers } from '../../src/engine/training/top-layers.ts';
import { EarlyEnd, train } from '../../src/engine/training/train.ts';
import { Trainer } from '../../src/engine/training/trainer.ts';
import { TrainingStep } from '../../src/engine/training/training-step.ts';
import type { FastWeights, Optimizer, TrainCheckpoint, TrainEvent } from '../../src/engine/types.ts';
import { openTraining, openTrainingOn, tinySamples } from '../support/engine-fixture.ts';
import { dot, relativeDeviation } from '../support/finite-differences.ts';
import { gaussian } from '../support/tiny-model.ts';

const NAME = 'blk.2.ffn_gate.weight';
let top: TopLayers;
let samples: PreparedSample[];
let weights: FastWeights;

before(async () => {
  ({ top, samples, weights } = await openTrainingOn({ architecture: 'llama' }, 1, [
    ['one', 'first answer', 1],
    ['two', 'another answer', 3],
    ['three', 'the end', 1],
  ]));
});

/** B after each of some steps along given gradients. */
function walk(optimizer: Optimizer, gradients: readonly Float32Array[]): Float32Array[] {
  const trainer = new Trainer(top, weights, optimizer);
  const slot = trainer.state.slots.get(NAME)!;
  const path = gradients.map((gradient) => {
    trainer.state.set(slot.ofB!.gradient, gradient);
    trainer.step();
    return trainer.state.snapshot().tensors.find((t) => t.name === NAME)!.b;
  });
  trainer.free();
  return path;
}

const start = () => Float64Array.from(weights.tensors.find((t) => t.name === NAME)!.b);
const normal = gaussian(9);
const gradients = Array.from({ length: 4 }, () => Float32Array.from({ length: 128 }, normal));

function close(actual: Float32Array, expected: Float64Array): void {
  actual.forEach((x, i) => {
    assert.ok(Math.abs(x - expected[i]!) < 2e-6, `element ${i}: ${x} is not ${expected[i]}`);
  });
}

describe('optimisers', () => {
  it('SGD goes lr times the gradient down', () => {
    let b = start();
    walk({ kind: 'sgd', lr: 0.1 }, gradients).forEach((found, step) => {
      b = b.map((x, i) => x - 0.1 * gradients[step]![i]!);
      close(found, b);
    });
  });

  it('SGD shrinks by lr times the weight decay, as PyTorch adds it to the gradient', () => {
    let b = start();
    walk({ kind: 'sgd', lr: 0.1, weightDecay: 0.5 }, gradients).forEach((found, step) => {
      b = b.map((x, i) => x - 0.1 * (gradients[step]![i]! + 0.5 * x));
      close(found, b);
    });
  });

  for (const optimizer of [
    { kind: 'adamw', lr: 0.01 },
    { kind: 'adamw', lr: 0.05, beta1: 0.7, beta2: 0.9, eps: 1e-3, weightDecay: 0.2 },
  ] as const) {
    it(`AdamW with ${JSON.stringify(optimizer)}`, () => {
      const { lr, beta1, beta2, eps, weightDecay } = {
        beta1: 0.9,
        beta2: 0.999,
        eps: 1e-8,
        weightDecay: 0,
        ...optimizer,
      };
      const b = start();
      const m = new Float64Array(b.length);
      const v = new Float64Array(b.length);
      walk(optimizer, gradients).forEach((found, step) => {
        gradients[step]!.forEach((g, i) => {
          b[i]! *= 1 - lr * weightDecay;
          m[i] = beta1 * m[i]! + (1 - beta1) * g;
          v[i] = beta2 * v[i]! + (1 - beta2) * g * g;
          const mHat = m[i]! / (1 - beta1 ** (step + 1));
          const vHat = v[i]! / (1 - beta2 ** (step + 1));
          b[i]! -= (lr * mHat) / (Math.sqrt(vHat) + eps);
        });
        close(found, b);
      });
    });
  }

  it('the first step of AdamW is lr along the sign of the gradient', () => {
    const [found] = walk({ kind: 'adamw', lr: 0.01 }, gradients.slice(0, 1));
    close(
      found!,
      start().map((x, i) => x - 0.01 * Math.sign(gradients[0]![i]!)),
    );
  });

  it('a penalty P on B adds B P to the gradient', () => {
    const R = 2;
    const P = Float32Array.of(3, 0.5, 0.5, 1);
    const trainer = new Trainer(top, weights, { kind: 'sgd', lr: 0.1 }, undefined, {
      penalties: new Map([[NAME, P]]),
    });
    const slot = trainer.state.slots.get(NAME)!;
    trainer.state.set(slot.ofB!.gradient, gradients[0]!);
    trainer.step();
    const found = trainer.state.snapshot().tensors.find((t) => t.name === NAME)!.b;
    trainer.free();
    const b = start();
    const expected = b.map((x, at) => {
      const [o, r] = [Math.floor(at / R), at % R];
      const pull = b[o * R]! * P[r]! + b[o * R + 1]! * P[R + r]!;
      return x - 0.1 * (gradients[0]![at]! + pull);
    });
    close(found, expected);
  });
});

describe('train', () => {
  const sgd = { kind: 'sgd', lr: 0.05 } as const;

  it('reports the mean loss per answer token, weighted, before each step', async () => {
    const alone: number[] = [];
    for (const sample of samples) {
      const { steps } = await train(top, [sample], { weights, optimizer: sgd, epochs: 1 });
      alone.push(steps[0]!.loss);
    }
    const result = await train(top, samples, { weights, optimizer: sgd, epochs: 3 });
    const rows = samples.map((s) => s.weight * (s.tokens.length - s.promptLength));
    const expected = alone.reduce((sum, loss, i) => sum + loss * rows[i]!, 0) / rows.reduce((a, b) => a + b);
    assert.ok(Math.abs(result.steps[0]!.loss / expected - 1) < 1e-5);
    assert.equal(result.steps.length, 3);
    assert.deepEqual(
      result.epochs.map((e) => e.loss),
      result.steps.map((s) => s.loss),
    );
    assert.ok(result.steps[2]!.loss < result.steps[0]!.loss);
    assert.equal(
      result.answerTokens,
      samples.reduce((n, s) => n + s.tokens.length - s.promptLength, 0),
    );
  });

  it('takes the batches of every epoch in order, and leaves A and the given weights alone', async () => {
    const before = structuredClone(weights);
    const events: TrainEvent[] = [];
    const result = await train(top, samples, { weights, optimizer: sgd, epochs: 2, batch: 2 }, (e) => events.push(e));
    assert.deepEqual(
      events.map((e) => e.type === 'step' && [e.epoch, e.step]),
      [
        [1, 1],
        [1, 2],
        [2, 3],
        [2, 4],
      ],
    );
    assert.equal(result.epochs[1]!.loss, result.steps[3]!.loss);
    assert.deepEqual(weights, before);
    for (const [i, t] of result.weights.tensors.entries()) {
      assert.deepEqual(t.a, weights.tensors[i]!.a);
      assert.notDeepEqual(t.b, weights.tensors[i]!.b);
    }
    const again = await train(top, samples, { weights, optimizer: sgd, epochs: 2, batch: 2 });
    assert.deepEqual(again.weights, result.weights);
  });

  it('goes on from where B is: two epochs of SGD are one and one', async () => {
    const both = await train(top, samples, { weights, optimizer: sgd, epochs: 2 });
    const first = await train(top, samples, { weights, optimizer: sgd, epochs: 1 });
    const second = await train(top, samples, { weights: first.weights, optimizer: sgd, epochs: 1 });
    assert.deepEqual(second.weights, both.weights);
  });

  it('stops once no answer token of the first samples has the loss any more', async () => {
    const optimizer = { kind: 'adamw', lr: 0.05 } as const;
    const request = { weights, optimizer, batch: 2 };
    const lossesOf = async (given: FastWeights) => {
      const trainer = new Trainer(top, given, optimizer);
      const pieces = trainer.pack(samples);
      try {
        return (await trainer.gradient(pieces)).tokenLosses.map((losses) => Math.max(...losses));
      } finally {
        for (const { batch, first } of pieces) {
          batch.free();
          first?.free();
        }
        trainer.free();
      }
    };
    const before = await lossesOf(weights);
    const limit = Math.max(...before.slice(0, 2)) - 0.8;
    const { steps, epochs } = await train(top, samples, {
      ...request,
      epochs: 60,
      stop: { samples: 2, loss: limit },
    });
    assert.ok(epochs.length > 1 && epochs.length < 60, `${epochs.length} epochs`);
    assert.equal(steps.length, 2 * epochs.length);
    // One epoch less does not reach it: the last epoch of the longer run is the first that begins below the limit.
    const start = async (n: number) =>
      (await lossesOf((await train(top, samples, { ...request, epochs: n })).weights)).slice(0, 2);
    const below = (losses: number[]) => losses.every((loss) => loss < limit);
    assert.ok(below(await start(epochs.length - 1)));
    if (epochs.length > 2) assert.ok(!below(await start(epochs.length - 2)));
    // Half of them is enough: one that cannot be learned does not hold up the other.
    const never = { samples: 2, loss: Math.min(...before.slice(0, 2)) - 0.3, share: 0.5 };
    const half = await train(top, samples, { ...request, epochs: 60, stop: never });
    const reached = (losses: number[]) => losses.filter((loss) => loss < never.loss).length;
    assert.ok(half.epochs.length > 1 && half.epochs.length < 60, `${half.epochs.length} epochs`);
    assert.ok(reached(await start(half.epochs.length - 1)) >= 1);
    if (half.epochs.length > 2) assert.equal(reached(await start(half.epochs.length - 2)), 0);
  });

  it('stops when for a while no more samples were learned, if most of them are', () => {
    const [high, low] = [
      [0.1, 0.9],
      [0.1, 0.3],
    ];
    const some = (n: number) => [...Array(n).fill(low), ...Array(8 - n).fill(high), high];
    const run = (end: EarlyEnd, counts: readonly number[]) => counts.findIndex((n) => end.reached(some(n)));
    const stop = { loss: 0.5, patience: 2 };
    assert.equal(run(new EarlyEnd([8], stop), [0, 6, 6, 6, 8]), 3, 'two epochs without one more');
    assert.equal(run(new EarlyEnd([8], stop), [0, 6, 6, 7, 7, 7]), 5, 'one more sets it back');
    assert.equal(run(new EarlyEnd([8], stop), [5, 5, 5, 5, 5, 5]), -1, 'too few are learned');
    assert.equal(run(new EarlyEnd([8], { ...stop, share: 0.75 }), [0, 6]), 1);
    assert.equal(run(new EarlyEnd([6, 2], { loss: 0.5, share: 0.75 }), [0, 6, 7, 8]), 3, 'every group by itself');
    assert.equal(run(new EarlyEnd([8], { loss: 0.5 }), [7, 7, 7, 7, 7, 8]), 5);
  });

  it('passes gradients through copies of 8 bits nearly as through exact ones', async () => {
    const model = { architecture: 'qwen2', layers: 3, width: 64, feedForward: 96 } as const;
    const stepThrough = async (backward: 'Q8_0' | 'F32') => {
      const opened = await openTraining(model, { layers: 2, backward });
      const prepared = await opened.prefix.prepare(tinySamples([['one', 'first answer', 1]]));
      const given = withZeroB(opened.top, 2, (name) => {
        const normal = gaussian(opened.top.size(name).inputs);
        return Float32Array.from({ length: 2 * opened.top.size(name).inputs }, normal);
      });
      return train(opened.top, prepared, { weights: given, optimizer: { kind: 'sgd', lr: 1 }, epochs: 1 });
    };
    const exact = (await stepThrough('F32')).weights;
    const eight = (await stepThrough('Q8_0')).weights;
    for (const [i, { name, b }] of eight.tensors.entries()) {
      const deviation = relativeDeviation(b, exact.tensors[i]!.b);
      assert.ok(deviation < 0.03, `${name}: ${deviation}`);
    }
    assert.notDeepEqual(eight, exact);
  });

  it('trains A beside B where it is asked to, and neither keeps Delta still nor tells of checkpoints then', async () => {
    const request = { weights, optimizer: { kind: 'sgd', lr: 0.5 }, epochs: 3 } as const;
    const frozenA = await train(top, samples, request);
    const both = await train(top, samples, { ...request, trainsA: true });
    const change = (of: 'a' | 'b', found: FastWeights) =>
      found.tensors.map((t, i) => relativeDeviation(t[of], weights.tensors[i]![of]));
    assert.ok(change('a', frozenA.weights).every((x) => x === 0));
    assert.ok(change('a', both.weights).every((x) => x > 0));
    assert.ok(change('b', both.weights).every((x) => x > 0));
    assert.ok(both.steps.at(-1)!.loss < frozenA.steps.at(-1)!.loss, 'more is trained');
    const again = await train(top, samples, { ...request, weights: both.weights, epochs: 1 });
    assert.ok(again.steps[0]!.loss < both.steps.at(-1)!.loss, 'the A that is given back is the one that was trained');
    const still = { samples, strength: 1 };
    for (const more of [{ still }, { checkpoints: {} }])
      await assert.rejects(train(top, samples, { ...request, ...more, trainsA: true }), { code: 'usage' });
  });

  it('trains what is replayed beside the samples, and ends by it too', async () => {
    const trainer = new Trainer(top, weights, sgd);
    const pieces = trainer.pack(samples);
    const losses = await trainer.losses(pieces);
    assert.deepEqual(losses, (await trainer.gradient(pieces)).tokenLosses);
    freePieces(pieces);
    trainer.free();
    const worst = (i: number) => Math.max(...losses[i]!);
    const order = [...samples.keys()].sort((a, b) => worst(a) - worst(b));
    const [best, ...others] = order.map((i) => samples[i]!) as [PreparedSample, ...PreparedSample[]];
    const request = { weights, optimizer: sgd, epochs: 2 } as const;
    const replayed = await train(top, [best], { ...request, replay: others });
    const beside = await train(top, [...others, best], request);
    assert.deepEqual([replayed.weights, replayed.steps], [beside.weights, beside.steps]);
    const stop = { samples: 1, loss: (worst(order[0]!) + worst(order.at(-1)!)) / 2 };
    assert.equal((await train(top, [best], { ...request, stop })).steps.length, 1, 'learned before the first step');
    const held = await train(top, [best], { ...request, stop, replay: others.slice(-1) });
    assert.equal(held.steps.length, 2, 'the weakest is not');
  });

  it('knows the losses under weights that are not trained', async () => {
    const trainer = new Trainer(top, weights, sgd);
    const pieces = trainer.pack(samples);
    const expected = (await trainer.losses(pieces)).flat();
    freePieces(pieces);
    trainer.free();
    const { losses: found, likely } = await evaluate(top, samples, { weights, likely: 5 });
    assert.deepEqual(
      found.map((losses) => losses.length),
      samples.map((s) => s.tokens.length - s.promptLength),
    );
    assert.ok(relativeDeviation(found.flat(), expected) < 1e-5);
    const nudged = { ...weights, tensors: weights.tensors.map((t) => ({ ...t, b: t.b.map((x) => x + 0.1) })) };
    const other = await evaluate(top, samples, { weights: nudged });
    assert.ok(relativeDeviation(other.losses.flat(), expected) > 1e-3);
    assert.equal(other.likely, undefined);
    for (const [i, of] of likely!.entries())
      for (const [t, { tokens, logProbs }] of of.entries()) {
        assert.equal(new Set(tokens).size, 5);
        const label = samples[i]!.tokens[samples[i]!.promptLength + t]!;
        const place = tokens.indexOf(label);
        if (place >= 0) assert.ok(Math.abs(logProbs[place]! + found[i]![t]!) < 1e-4);
        else assert.ok(Math.min(...logProbs) >= -found[i]![t]! - 1e-4, 'the label is less probable');
      }
  });

  it('goes on from a checkpoint to the same bits', async () => {
    const optimizer = { kind: 'adamw', lr: 0.01 } as const;
    const stop = { samples: samples.length, loss: 1e-6, patience: 30 };
    for (const [candidates, batch] of [
      [8, 64],
      [0, 2],
    ] as const) {
      const request = { weights, optimizer, epochs: 20, candidates, batch, stop };
      const found: TrainCheckpoint[] = [];
      const collect = (event: TrainEvent) => {
        if (event.type === 'checkpoint') found.push(event.checkpoint);
      };
      const whole = await train(top, samples, { ...request, checkpoints: {} }, collect);
      assert.ok(found.length >= 2, `${found.length} checkpoints`);
      const plain = await train(top, samples, request);
      assert.deepEqual(plain.weights, whole.weights, 'telling of them changes nothing');
      for (const from of [found[0]!, found.at(-1)!]) {
        const kept = structuredClone(from);
        const told: number[] = [];
        const rest = await train(top, samples, { ...request, checkpoints: { from } }, (event) => {
          if (event.type === 'step') told.push(event.step);
        });
        assert.equal(told[0], from.steps.length + 1);
        assert.deepEqual([rest.weights, rest.steps], [whole.weights, whole.steps]);
        assert.deepEqual(from, kept, 'it can be gone on from again');
      }
    }
  });

  it('keeps Delta from acting on what is to stay still', async () => {
    const still = samples.slice(2);
    const request = { weights, optimizer: { kind: 'adamw', lr: 0.02 }, epochs: 20 } as const;
    const action = (given: FastWeights) => {
      const inputs = captureInputs(top, still, { ownOnly: true });
      return given.tensors.reduce((sum, { name, a, b, inputs: d, outputs }) => {
        const R = given.rank;
        for (const x of inputs.get(inputOf(name))!.values) {
          const ax = Array.from({ length: R }, (_, r) => dot(a.subarray(r * d, (r + 1) * d), x));
          for (let o = 0; o < outputs; o++) sum += dot(b.subarray(o * R, (o + 1) * R), ax) ** 2;
        }
        return sum;
      }, 0);
    };
    const free = await train(top, samples.slice(0, 2), request);
    const held = await train(top, samples.slice(0, 2), { ...request, still: { samples: still, strength: 10 } });
    assert.ok(action(held.weights) < action(free.weights) / 4, `${action(held.weights)}, ${action(free.weights)}`);
    assert.ok(held.steps.at(-1)!.loss < held.steps[0]!.loss);
  });

  it('takes the likely tokens anew every eight passes, and their losses are nearly those over the whole vocabulary', async () => {
    const trainer = new Trainer(top, weights, sgd);
    const whole = new TrainingStep(trainer, samples);
    const likely = new TrainingStep(trainer, samples, top.shape.V - 2);
    const looks: number[] = [];
    const look = likely.look.bind(likely);
    let passes = 0;
    likely.look = (signal) => {
      looks.push(passes);
      return look(signal);
    };
    const expected = await whole.gradient();
    for (; passes < 20; passes++) {
      const given = await likely.gradient();
      assert.ok(Math.abs(given.loss / expected.loss - 1) < 1e-2, `${passes}: ${given.loss}`);
      for (const [i, losses] of likely.losses.entries()) {
        assert.equal(losses.length, whole.losses[i]!.length);
        for (const [t, loss] of losses.entries()) assert.ok(Math.abs(loss - whole.losses[i]![t]!) < 0.02);
      }
    }
    assert.deepEqual(looks, [0, 8, 16]);
    await likely.look();
    for (const [i, losses] of likely.losses.entries())
      for (const [t, loss] of losses.entries())
        assert.ok(Math.abs(loss - whole.losses[i]![t]!) < 1e-6, 'a look is exact');
    whole.free();
    likely.free();
    trainer.free();
  });

  it('refuses what makes no sense, stops at a signal, and reports divergence', async () => {
    const usage = { code: 'usage' };
    await assert.rejects(train(top, samples, { weights, optimizer: sgd, epochs: 0 }), usage);
    await assert.rejects(train(top, samples, { weights, optimizer: sgd, epochs: 1.5 }), usage);
    await assert.rejects(train(top, samples, { weights, optimizer: sgd, epochs: 1, batch: 0 }), usage);
    for (const lr of [0, -1, Number.NaN, Number.POSITIVE_INFINITY])
      await assert.rejects(train(top, samples, { weights, optimizer: { kind: 'sgd', lr }, epochs: 1 }), usage);
    const controller = new AbortController();
    const running = train(top, samples, { weights, optimizer: sgd, epochs: 1000, signal: controller.signal }, () =>
      controller.abort(),
    );
    await assert.rejects(running, { code: 'aborted' });
    const diverging = train(top, samples, { weights, optimizer: { kind: 'sgd', lr: 1e30 }, epochs: 9 });
    await assert.rejects(diverging, { code: 'failed', message: /diverged/ });
    const wrong = {
      ...weights,
      tensors: weights.tensors.map((t) => ({ ...t, name: t.name.replace('blk.2', 'blk.1') })),
    };
    await assert.rejects(train(top, samples, { weights: wrong, optimizer: sgd, epochs: 1 }), { code: 'missing' });
  });
});
