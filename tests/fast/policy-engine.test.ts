/** A policy on tiny random models: merged into one, saved, and recorded as it acts. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { hashOf } from '../../src/engine/adapter/fast-weights.ts';
import { dequantise, toHalves } from '../../src/engine/gguf/dequantise.ts';
import { readGguf } from '../../src/engine/gguf/reader.ts';
import { initialPolicy, loadPolicy, savePolicy } from '../../src/policy/adapter.ts';
import { syntheticTask } from '../../src/policy/environments/synthetic.ts';
import { logProbsOf } from '../../src/policy/gradient.ts';
import { mergePolicy } from '../../src/policy/merge.ts';
import type { Deltas } from '../../src/policy/recorder.ts';
import { rollOut } from '../../src/policy/rollout.ts';
import { openFile, openTiny, scratchFile, tinyModel, weightsFor } from '../support/engine-fixture.ts';
import { quickSettings } from '../support/policy.ts';
import type { TinyModelOptions, TinyType } from '../support/tiny-model.ts';

const score = async (engine: Awaited<ReturnType<typeof openFile>>) => [
  ...(await engine.score({ prompt: 'the rain in', answer: ' then there was an answer on it' })).logProbs,
];
const apart = (one: readonly number[], other: readonly number[]) =>
  Math.max(...one.map((x, i) => Math.abs(x - other[i]!)));

const TYPES: readonly TinyType[] = ['F32', 'F16', 'BF16', 'Q4_0', 'Q4_1', 'Q5_0', 'Q8_0', 'Q4_K', 'Q5_K', 'Q6_K'];
for (const type of TYPES) {
  test(`a policy merged into a model of type ${type} says what it says as an adapter`, async () => {
    const wide = type.endsWith('_K') ? { width: 256, feedForward: 256 } : {};
    const options: TinyModelOptions = { architecture: 'llama', layers: 2, type, ...wide };
    const file = await tinyModel(options);
    const policy = weightsFor(file, { layers: 1, seed: 5, attention: true });
    const engine = await openFile(file);
    const base = await score(engine);
    await engine.setPolicy(policy);
    const applied = await score(engine);
    const into = scratchFile(`merged-${type}.gguf`);
    await mergePolicy(file, policy, into);
    const merged = await score(await openFile(into));
    // The products of quantised weights round their inputs to 8 bits, those in F16 do not.
    assert.ok(apart(merged, applied) < 0.1, `${apart(merged, applied)} apart`);
    assert.ok(apart(applied, base) > 0.3, 'the policy changes what is said');
    const [before, after] = [readGguf(file), readGguf(into)];
    assert.deepEqual([...after.metadata], [...before.metadata]);
    const untouched = after.tensors.find(({ name }) => name === 'blk.0.ffn_up.weight');
    assert.equal(untouched!.typeName, type);
    assert.equal(after.tensors.find(({ name }) => name === 'blk.1.ffn_up.weight')!.typeName, 'F16');
  });
}

test('halves are rounded to the nearest, ties to even', () => {
  const values = [0, 1, -2, 65504, 65520, 2 ** -24, 2 ** -25, 1 + 2 ** -11, 1 + 3 * 2 ** -11, 2047.9999, 1 / 3];
  const found = dequantise(toHalves(Float32Array.from(values)), 1);
  const expected = [0, 1, -2, 65504, Infinity, 2 ** -24, 0, 1, 1 + 2 ** -9, 2048, 1365 / 4096];
  assert.deepEqual([...found], expected);
});

test('weights of a type that cannot be read, and a policy of another model, are refused', async () => {
  assert.throws(() => dequantise(new Uint8Array(18), 20), { code: 'usage', message: /Weights of type IQ4_NL/ });
  const file = await tinyModel({ architecture: 'llama', layers: 2, type: 'F32' });
  const policy = weightsFor(file, { layers: 1, seed: 5 });
  const other = { ...policy, tensors: policy.tensors.map((tensor) => ({ ...tensor, name: 'blk.9.ffn_up.weight' })) };
  await assert.rejects(mergePolicy(file, other, scratchFile('no.gguf')), /no tensor blk\.9\.ffn_up\.weight/);
});

test('a new policy changes nothing, adapts what is asked for, and is read back as it was saved', async () => {
  const engine = await openTiny({ architecture: 'llama', layers: 2 });
  const settings = { rank: 2, layers: 1, seed: 3 };
  const policy = await initialPolicy(engine, settings);
  const base = await score(engine);
  await engine.setPolicy(policy);
  assert.ok(apart(await score(engine), base) < 5e-3);
  const parts = (targets?: string[]) =>
    initialPolicy(engine, { ...settings, targets }).then(({ tensors }) => tensors.map(({ name }) => name).sort());
  assert.deepEqual(await parts(['ffn_up', 'attn_q']), ['blk.1.attn_q.weight', 'blk.1.ffn_up.weight']);
  assert.equal((await parts()).length, 7);
  await assert.rejects(parts(['ffn_sideways']), /no part "ffn_sideways"; choose targets of/);
  const gguf = readGguf(engine.model.path);
  const trained = weightsFor(engine.model.path, { layers: 1, seed: 9, attention: true });
  const saved = await savePolicy(scratchFile('saved'), trained, gguf, 'tiny');
  assert.equal(hashOf(await loadPolicy(saved.gguf, engine.model)), hashOf(trained));
});

test('what an episode recorded is what the training graph computes, under the policy and the Delta of each action', async () => {
  const engine = await openTiny({ architecture: 'llama', layers: 2, contextLength: 4096 }, 4096);
  const policy = weightsFor(engine.model.path, { layers: 2, seed: 5, attention: true });
  await engine.setPolicy(policy);
  const delta = weightsFor(engine.model.path, { layers: 1, seed: 6 });
  const own = { write: 'weights', recipe: 'paper', examples: 0, maxTokens: 6, grammar: false, note: false } as const;
  const { rollout } = quickSettings({ rollout: own });
  const deltas: Deltas = new Map();
  const task = syntheticTask('easy', 1, 'train');
  const { actions } = await rollOut(engine, task, rollout, { name: 'episode', seed: 3, deltas });
  assert.equal(actions.length, 4);
  const trained = await logProbsOf(engine, policy, actions, deltas, { temperature: 1 });
  for (const action of actions) {
    assert.ok(action.answer.length > 0 && action.logProbs.length === action.answer.length);
    const far = apart([...trained.get(action)!], [...action.logProbs]);
    assert.ok(far < 0.05, `${far} apart`);
  }
  deltas.set('other', delta);
  const other = actions.map((action) => ({ ...action, delta: 'other' }));
  const under = await logProbsOf(engine, policy, other, deltas, { temperature: 1 });
  assert.ok(apart([...under.get(other[0]!)!], [...actions[0]!.logProbs]) > 0.05, 'Delta matters');
});
