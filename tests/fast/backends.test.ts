/** Training over several backends by ggml's scheduler gives what one gives. A second CPU stands for the device. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { describe, it } from 'node:test';
import { graphDeviation } from '../../src/engine/llama/verify.ts';
import { withoutAmx } from '../../src/engine/native/backend-files.ts';
import { DEVICE, loadNative, type Native } from '../../src/engine/native/library.ts';
import { installedLibraries } from '../../src/engine/native/platform.ts';
import { Backends, type GraphRunner, ScheduledRunner } from '../../src/engine/training/backends.ts';
import { missingOperations } from '../../src/engine/training/operations.ts';
import { Trainer } from '../../src/engine/training/trainer.ts';
import { openTraining, randomWeights, tinySamples } from '../support/engine-fixture.ts';
import { cpuBackend, limitedBackend } from '../support/limited-device.ts';

/** A CPU that lacks some operations, and the CPU. */
class Pair extends Backends {
  readonly runners: ScheduledRunner[] = [];

  constructor(native: Native, lacks: (operation: string) => boolean = () => false) {
    const { device, backend } = limitedBackend(native, lacks);
    super(native, device, backend, cpuBackend(native));
  }

  override newRunner(): GraphRunner {
    const runner = new ScheduledRunner(this);
    this.runners.push(runner);
    return runner;
  }
}

async function gradients(architecture: 'llama' | 'gemma3' | 'phi3', backends?: (native: Native) => Backends) {
  const { top, prefix, model } = await openTraining(
    { architecture, type: 'Q8_0' },
    { layers: 2, attention: true, backward: 'Q8_0', ...(backends && { backends }) },
  );
  const samples = await prefix.prepare(
    tinySamples([
      ['who', 'the train'],
      ['where is it', 'in the rain'],
    ]),
  );
  const trainer = new Trainer(top, randomWeights(top, { rank: 3, seed: 4 }), { kind: 'adamw', lr: 0.01 });
  const pieces = trainer.pack(samples);
  const losses: number[] = [];
  for (let step = 0; step < 3; step++) {
    losses.push((await trainer.gradient(pieces)).loss);
    trainer.step();
  }
  const b = [...trainer.state.slots.values()].flatMap((slot) => [...trainer.state.get(slot.b)]);
  return { losses, b, deviation: graphDeviation(top, prefix, model), backends: top.backends };
}

describe('two backends', () => {
  for (const architecture of ['llama', 'gemma3', 'phi3'] as const) {
    it(`train as one does (${architecture})`, async () => {
      const one = await gradients(architecture);
      const two = await gradients(architecture, (native) => new Pair(native));
      assert.deepEqual(two.losses, one.losses);
      assert.deepEqual(two.b, one.b);
      assert.ok(two.deviation < 0.03);
    });
  }

  it('share a graph where the first lacks operations', async () => {
    const one = await gradients('llama');
    const lacking = new Set(['ROPE_BACK', 'SOFT_MAX', 'RMS_NORM_BACK', 'SET_ROWS']);
    const two = await gradients('llama', (native) => new Pair(native, (operation) => lacking.has(operation)));
    const splits = (two.backends as Pair).runners.map((runner) => runner.mostSplits);
    assert.ok(Math.max(...splits) > 10, `${splits}`);
    assert.deepEqual(two.losses, one.losses);
    assert.deepEqual(two.b, one.b);
  });
});

describe('a device', () => {
  it('is asked which operations of a training step it lacks', () => {
    const native = loadNative();
    const cpu = native.deviceByType(DEVICE.CPU)!;
    assert.deepEqual(missingOperations(native, cpu), []);
    const { device } = limitedBackend(native, (operation) => operation === 'ROPE_BACK');
    assert.deepEqual(missingOperations(native, device), ['ROPE_BACK']);
  });

  it('that is not there is named', () => {
    const native: Native = {
      ...loadNative(),
      deviceByType: (type) => (type === DEVICE.CPU ? loadNative().deviceByType(type) : null),
    };
    assert.throws(() => Backends.open(native, { threads: 1, gpu: true }), { code: 'missing', message: /no GPU/ });
  });
});

it("loads ggml's build for AMX unless it is not wanted", () => {
  const [libraries] = installedLibraries('cpu');
  const hasAmx = process.platform === 'linux' && /\bamx_int8\b/.test(readFileSync('/proc/cpuinfo', 'utf8'));
  const files = withoutAmx(libraries!.folder, false);
  assert.equal(files !== undefined, hasAmx, 'elsewhere ggml chooses');
  assert.equal(files?.filter((file) => file.includes('ggml-cpu')).length ?? 1, 1);
  assert.ok(!files?.some((file) => file.includes('sapphirerapids')));
  assert.equal(withoutAmx(libraries!.folder, true), undefined);
});
