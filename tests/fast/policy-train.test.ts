import assert from 'node:assert/strict';
import { appendFileSync, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, test } from 'node:test';
import { hashOf } from '../../src/engine/adapter/fast-weights.ts';
import { TmemError } from '../../src/engine/errors.ts';
import type { Engine } from '../../src/engine/types.ts';
import { withMethods } from '../../src/engine/with-methods.ts';
import { loadCheckpoint } from '../../src/policy/checkpoint.ts';
import type { Environment } from '../../src/policy/environment.ts';
import { CLOCK_METRICS, type Metrics } from '../../src/policy/metrics.ts';
import type { TrainSettings } from '../../src/policy/settings.ts';
import { metricsFile, samplesFile, type TrainPolicyEvent, trainPolicy } from '../../src/policy/train.ts';
import { learningEngine, quickSettings, skyEnvironment } from '../support/policy.ts';

const root = mkdtempSync(path.join(tmpdir(), 'tmem-policy-'));
after(() => rmSync(root, { recursive: true }));
let folders = 0;
const newFolder = () => path.join(root, String(folders++));

const train = (
  engine: Engine,
  settings: TrainSettings,
  folder: string,
  resume = false,
  onEvent?: (e: TrainPolicyEvent) => void,
) => trainPolicy(engine, skyEnvironment, settings, { folder, resume, onEvent });

/** Without what a clock decides. */
const timeless = (metrics: readonly Metrics[]) =>
  metrics.map((line) =>
    Object.fromEntries(Object.entries(line).filter(([name]) => !CLOCK_METRICS.some((of) => of === name))),
  );

/** The same engine, which fails at the n-th call of a method. */
function failingAt(engine: Engine, method: 'policyGradient' | 'setPolicy' | 'setFastWeights', n: number): Engine {
  let calls = 0;
  const call = engine[method].bind(engine) as (...args: unknown[]) => Promise<unknown>;
  return withMethods(engine, {
    async [method](...args: unknown[]) {
      if (++calls === n) throw new TmemError('aborted', 'Killed.');
      return call(...args);
    },
  });
}

test('a policy learns what is rewarded', async () => {
  const { engine } = learningEngine();
  const { metrics, state } = await train(
    engine,
    quickSettings({ steps: 12, lr: 0.5, evalTasks: 40, evalTemperature: 1 }),
    newFolder(),
  );
  const rewards = metrics.flatMap(({ eval_reward: reward }) => (reward === undefined ? [] : [reward]));
  assert.ok(rewards[0]! > 0.2 && rewards[0]! < 0.8, `it begins in the middle: ${rewards[0]}`);
  assert.ok(rewards.at(-1)! >= 0.9, `it ends at ${rewards.at(-1)}`);
  assert.ok(state.policy.tensors[0]!.b[0]! > 1);
  assert.ok([...state.policy.tensors[0]!.b.slice(1)].every((b) => b === 0));
});

test('a step is told under the names that TRL gives its metrics', async () => {
  const { engine } = learningEngine();
  const { metrics } = await train(engine, quickSettings({ steps: 1, beta: 0.1, warmupSteps: 2 }), newFolder());
  const [before, step, evaluation] = metrics;
  assert.deepEqual([before!.step, step!.step, evaluation!.step], [0, 1, 1]);
  assert.equal(typeof before!.eval_reward, 'number');
  const names = `reward reward_std frac_reward_zero_std kl entropy loss grad_norm learning_rate num_tokens step_time tokens_per_second
    clip_ratio/low_mean clip_ratio/high_mean clip_ratio/region_mean completions/mean_length completions/clipped_ratio
    sampling/sampling_logp_difference/mean`;
  for (const name of names.split(/\s+/)) assert.equal(typeof step![name], 'number', name);
  assert.equal(step!.learning_rate, 0.15);
  assert.equal(step!.entropy, 0.5);
  assert.equal(step!.kl, 0, 'the policy is still its own reference');
});

test('the policy is in force while it acts, and not any more afterwards', async () => {
  const { engine, scripted } = learningEngine();
  await train(engine, quickSettings({ steps: 2 }), newFolder());
  const [first, ...others] = scripted.calls.flatMap((call) => (call.type === 'policy' ? [call.policy] : []));
  assert.ok(first && others.length > 2);
  assert.equal(others.at(-1), null);
  assert.equal(scripted.policy, null);
});

for (const [name, method, n, own] of [
  ['within the first step', 'policyGradient', 1, {}],
  ['within a later step', 'policyGradient', 4, {}],
  ['between the updates of a step', 'policyGradient', 9, { iterations: 2, beta: 0.05 }],
  ['within an evaluation', 'setFastWeights', 50, {}],
  ['after an update, before its checkpoint', 'setPolicy', 5, {}],
] as const) {
  test(`a training that was killed ${name} goes on as if it had not been`, async () => {
    const settings = quickSettings({ steps: 5, ...own });
    const whole = newFolder();
    const unbroken = await train(learningEngine().engine, settings, whole);
    const folder = newFolder();
    await assert.rejects(train(failingAt(learningEngine().engine, method, n), settings, folder), { code: 'aborted' });
    const { state: kept } = await loadCheckpoint(folder);
    assert.ok(kept.step < 5);
    const resumed = await train(learningEngine().engine, settings, folder, true);
    assert.deepEqual(timeless(resumed.metrics), timeless(unbroken.metrics));
    assert.equal(hashOf(resumed.state.policy), hashOf(unbroken.state.policy));
    assert.deepEqual(resumed.state, unbroken.state);
    assert.equal(readFileSync(samplesFile(folder), 'utf8'), readFileSync(samplesFile(whole), 'utf8'));
  });
}

test('a line that a kill has cut off, and lines behind the checkpoint, are written again', async () => {
  const folder = newFolder();
  const { metrics } = await train(learningEngine().engine, quickSettings({ steps: 2 }), folder);
  appendFileSync(metricsFile(folder), '{"step":3,"reward":1}\n{"step":3,"ev');
  const resumed = await train(learningEngine().engine, quickSettings({ steps: 2 }), folder, true);
  assert.deepEqual(resumed.metrics, metrics);
});

test('a training can be made longer', async () => {
  const settings = (steps: number) => quickSettings({ steps, evalEvery: 2 });
  const folder = newFolder();
  await train(learningEngine().engine, settings(2), folder);
  const longer = await train(learningEngine().engine, settings(4), folder, true);
  const whole = await train(learningEngine().engine, settings(4), newFolder());
  assert.deepEqual(timeless(longer.metrics), timeless(whole.metrics));
  const files = readdirSync(folder).filter((name) => name.startsWith('checkpoint'));
  assert.deepEqual(files.sort(), ['checkpoint-4.safetensors', 'checkpoint.json'], 'older weights are removed');
});

test('a folder with a training is neither begun again nor resumed with other settings', async () => {
  const folder = newFolder();
  await train(learningEngine().engine, quickSettings({ steps: 1 }), folder);
  await assert.rejects(
    train(learningEngine().engine, quickSettings({ steps: 1 }), folder),
    /holds a training; resume it/,
  );
  await assert.rejects(train(learningEngine().engine, quickSettings({ steps: 1, lr: 1 }), folder, true), {
    code: 'usage',
    message: /another model, environment or settings/,
  });
  await assert.rejects(train(learningEngine().engine, quickSettings(), newFolder(), true), { code: 'missing' });
});

test('a damaged checkpoint is refused', async () => {
  const folder = newFolder();
  await train(learningEngine().engine, quickSettings({ steps: 1 }), folder);
  writeFileSync(path.join(folder, 'checkpoint-1.safetensors'), 'x');
  await assert.rejects(loadCheckpoint(folder), { code: 'missing' });
  writeFileSync(path.join(folder, 'checkpoint.json'), '{}');
  await assert.rejects(loadCheckpoint(folder), /checkpoint\.json is damaged/);
});

test('held-out tasks are never trained on', async () => {
  const seen: string[] = [];
  const watched: Environment = {
    ...skyEnvironment,
    episode(seed, split) {
      seen.push(`${split} ${seed}`);
      return skyEnvironment.episode(seed, split);
    },
  };
  const settings = quickSettings({ steps: 3, evalEvery: 0, evalTasks: 2 });
  await trainPolicy(learningEngine().engine, watched, settings, { folder: newFolder() });
  const trained = seen.filter((task) => task.startsWith('train'));
  assert.equal(trained.length, 6);
  assert.equal(new Set(trained).size, 6, 'every step has tasks of its own');
  assert.deepEqual(
    seen.filter((task) => task.startsWith('held')),
    ['held-out 0', 'held-out 1', 'held-out 0', 'held-out 1'],
  );
});

test('a warm start repeats the extractions of the best episodes, and is the reference', async () => {
  const { engine, scripted } = learningEngine();
  const requests: number[][] = [];
  const watched = withMethods(engine, {
    policyGradient: async (request) => {
      const found = await engine.policyGradient(request);
      requests.push(request.samples.flatMap(({ weights }) => [...weights]));
      return { ...found, tensors: found.tensors.map((t) => ({ ...t, a: t.a.map(() => 1) })) };
    },
  });
  const settings = quickSettings({ steps: 1, warmStart: { epochs: 2, tasks: 3, lr: 0.1 } });
  const events: TrainPolicyEvent[] = [];
  const { state } = await train(watched, settings, newFolder(), false, (event) => events.push(event));
  const warm = events.find((event) => event.type === 'warm start');
  assert.ok(warm && warm.kept > 0);
  assert.equal(warm.losses.length, 2);
  for (const weights of requests.slice(0, 2)) {
    assert.ok(weights.every((w) => w === weights[0]) && weights[0]! > 0);
    assert.ok(Math.abs(weights.reduce((a, b) => a + b, 0) - 1) < 1e-9, 'every token weighs 1 / N');
  }
  const made = await scripted.initialise({ init: { kind: 'random' }, rank: 1, layers: 1 });
  assert.ok(state.reference.tensors[0]!.a[0]! < made.tensors[0]!.a[0]! - 0.15);
});

test('episodes before and after are kept to be read', async () => {
  const folder = newFolder();
  await train(learningEngine().engine, quickSettings({ steps: 2, evalEvery: 0 }), folder);
  assert.ok(existsSync(samplesFile(folder)));
  const samples = readFileSync(samplesFile(folder), 'utf8')
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line));
  assert.deepEqual(
    samples.map(({ step }) => step),
    [0, 0, 0, 2, 2, 2],
  );
  assert.match(samples[0].extractions.join(), /What is the sky\?/);
  assert.equal(samples[0].questions[0].gold, 'blue');
});
