import assert from 'node:assert/strict';
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, it } from 'node:test';
import type { TrainCheckpoint, TrainRequest } from '../../src/engine/types.ts';
import { FileCheckpoints, keyOfTraining } from '../../src/memory/checkpoints.ts';

const home = mkdtempSync(join(tmpdir(), 'tmem-checkpoints-'));
process.env.TMEM_HOME = home;
after(() => rmSync(home, { recursive: true, force: true }));
const folder = join(home, 'checkpoints');

const checkpoint = (done: number): TrainCheckpoint => ({
  tensors: [{ name: 'x', b: Float32Array.of(1, -0), m: Float32Array.of(2, 3), v: Float32Array.of(4, Number.NaN) }],
  losses: [Float64Array.of(0.1)],
  watched: { most: 1, epochsSince: 0 },
  steps: [{ loss: 2, gradNorm: 1 }],
  epochs: Array.from({ length: done }, () => ({ loss: 2, ms: 5 })),
});

it('keeps the last checkpoint of one training in a file, bit by bit, until it is removed', async () => {
  const kept = new FileCheckpoints('ann');
  assert.equal(kept.load('a'), undefined);
  for (const done of [1, 2, 3]) kept.save('a', checkpoint(done));
  await kept.close();
  assert.deepEqual(new FileCheckpoints('ann').load('a'), checkpoint(3));
  assert.equal(new FileCheckpoints('ann').load('b'), undefined, 'of another training');
  assert.equal(new FileCheckpoints('bob').load('a'), undefined, 'of another session');
  assert.deepEqual(readdirSync(folder), ['ann.bin']);
  await kept.remove();
  assert.deepEqual(readdirSync(folder), []);
});

it('starts afresh where the file is damaged', async () => {
  const kept = new FileCheckpoints('ann');
  kept.save('a', checkpoint(1));
  await kept.close();
  writeFileSync(join(folder, 'ann.bin'), 'no checkpoint');
  assert.equal(kept.load('a'), undefined);
});

it('knows a training by everything that decides its weights', () => {
  const tensor = { name: 't', inputs: 2, outputs: 2, a: Float32Array.of(1, 2), b: new Float32Array(2) };
  const request: TrainRequest = {
    samples: [{ prompt: 'p', answer: 'a' }],
    weights: { rank: 1, alpha: 1, tensors: [tensor] },
    optimizer: { kind: 'sgd', lr: 1 },
    epochs: 3,
  };
  const key = keyOfTraining('f', request);
  assert.equal(keyOfTraining('f', structuredClone(request)), key);
  assert.equal(keyOfTraining('f', { ...request, signal: new AbortController().signal }), key);
  const others: [string, Partial<TrainRequest>][] = [
    ['other', {}],
    ['f', { epochs: 4 }],
    ['f', { samples: [{ prompt: 'p', answer: 'b' }] }],
    ['f', { optimizer: { kind: 'sgd', lr: 2 } }],
    ['f', { weights: { ...request.weights, tensors: [{ ...tensor, a: Float32Array.of(1, 3) }] } }],
    ['f', { frozen: request.weights }],
  ];
  const keys = others.map(([model, change]) => keyOfTraining(model, { ...request, ...change }));
  assert.equal(new Set([key, ...keys]).size, others.length + 1);
});
