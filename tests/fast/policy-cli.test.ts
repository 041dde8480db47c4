import assert from 'node:assert/strict';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, test } from 'node:test';
import { Command } from 'commander';
import { register } from '../../src/cli/commands/policy.ts';
import type { Engine } from '../../src/engine/types.ts';
import { renderPolicyReport } from '../../src/policy/report.ts';
import { trainSettings } from '../../src/policy/settings.ts';
import { openTiny } from '../support/engine-fixture.ts';
import { recordingIo } from '../support/home.ts';
import { learningEngine } from '../support/policy.ts';

const root = mkdtempSync(path.join(tmpdir(), 'tmem-policy-cli-'));
after(() => rmSync(root, { recursive: true }));
const SMALL = ['--batch', '1', '--group', '2', '--eval-tasks', '2', '--eval-every', '0', '--write', 'explicit'];
const TINY = '{"rollout": {"examples": 0, "maxTokens": 4, "note": false}}';

interface Trained {
  readonly steps: readonly Record<string, number>[];
  readonly settings: ReturnType<typeof trainSettings>;
  readonly report: string;
  readonly metrics: string;
}

async function policy<V>(engine: Engine, ...args: string[]) {
  const { io, results, notes } = recordingIo<V>(engine);
  const program = new Command('tmem').exitOverride().configureOutput({ writeErr: () => {} });
  register(program, io);
  await program.parseAsync(['policy', ...args], { from: 'user' });
  return { ...results[0]!, notes };
}

test('a policy is trained, gone on with, and compared with the model that it began from', async () => {
  const out = path.join(root, 'run');
  const { engine } = learningEngine();
  const first = await policy<Trained>(engine, 'train', '--out', out, '--steps', '1', '--lr', '0.2', ...SMALL);
  assert.deepEqual(
    first.value.steps.map(({ step }) => step),
    [0, 1, 1],
  );
  assert.match(first.text, /step +held-out reward\n +0 +0\.\d+\n +1 +0\.\d+\nReport: /);
  assert.ok(first.notes.some((note) => /^Step 1: reward \d\.\d+/.test(note)));
  assert.match(readFileSync(first.value.report, 'utf8'), /<canvas id="reward">/);
  const { value } = await policy<Trained>(engine, 'resume', '--out', out, '--steps', '2');
  assert.deepEqual([value.settings.steps, value.settings.lr, value.steps.at(-1)!.step], [2, 0.2, 2]);
  assert.equal(readFileSync(value.metrics, 'utf8').trim().split('\n').length, value.steps.length);
  type Evaluation = { metrics: Record<string, number>; episodes: Record<string, number>[] };
  const compared = await policy<{
    before: Evaluation;
    after: Evaluation;
    gains: Record<string, { difference: number }>;
  }>(...[engine, 'eval', '--out', out, '--tasks', '3']);
  assert.deepEqual(Object.keys(compared.value.before.metrics), Object.keys(compared.value.after.metrics));
  const { before, after: later, gains } = compared.value;
  assert.equal(later.episodes.length, 3);
  const gained = later.metrics.eval_reward! - before.metrics.eval_reward!;
  assert.ok(Math.abs(gains.reward!.difference - gained) < 1e-9);
  for (const named of [['--env', 'synthetic'], []]) {
    const elsewhere = await policy<{ environment: string; tasks: number }>(
      ...[engine, 'eval', '--out', out, ...named, '--grade', 'updates', '--tasks', '1'],
    );
    assert.deepEqual([elsewhere.value.environment, elsewhere.value.tasks], ['synthetic-updates', 1]);
  }
  assert.match(compared.text, /eval_reward +0\.\d+ +0\.\d+ +-?0\.\d+ \(-?0\.\d+ to -?0\.\d+\)/);
});

test('a training does not begin in the folder of another one', async () => {
  const out = path.join(root, 'taken');
  const { engine } = learningEngine();
  await policy(engine, 'train', '--out', out, '--steps', '1', ...SMALL);
  await assert.rejects(policy(engine, 'train', '--out', out, '--steps', '1', ...SMALL), /tmem policy resume/);
});

test('what cannot be used is refused before the model is opened', async () => {
  const { engine } = learningEngine();
  const refused = (...args: string[]) => policy(engine, ...args);
  const out = ['--out', path.join(root, 'refused')];
  await assert.rejects(refused('train', ...out, '--env', 'chess'), /no environment "chess"/);
  await assert.rejects(refused('train', ...out, '--recipe', 'cloud'), /use one of laptop, paper/);
  await assert.rejects(refused('train', ...out, '--set', '{"lr": -1}'), /The setting lr cannot be used/);
  await assert.rejects(refused('train', ...out, '--set', '{"rollout": {"budge": 1}}'), /The setting rollout/);
  await assert.rejects(refused('train', ...out, '--set', 'lr=1'), /--set is no JSON object/);
  await assert.rejects(refused('resume', ...out), { code: 'missing' });
  await assert.rejects(refused('eval'), /Name the policy/);
  assert.ok(!existsSync(out[1]!));
});

test("the paper's recipe has the paper's figures, and options change some of them", () => {
  const { steps, batch, group, lr, rollout } = trainSettings('paper', { batch: 8, rollout: { write: undefined } });
  assert.deepEqual([steps, batch, group, lr], [200, 8, 8, 1e-6]);
  assert.deepEqual(
    [rollout.write, rollout.recipe, rollout.maxTokens, rollout.temperature],
    ['weights', 'paper', 1024, 1],
  );
});

test('a policy of a real model is trained and exported as adapter, PEFT folder and whole model', async () => {
  const engine = await openTiny({ architecture: 'llama', layers: 2, contextLength: 4096 }, 4096);
  const out = path.join(root, 'real');
  const model = ['--model', engine.model.path];
  await policy(
    engine,
    'train',
    '--out',
    out,
    ...model,
    '--steps',
    '1',
    '--rank',
    '2',
    '--layers',
    '1',
    ...SMALL,
    '--set',
    TINY,
  );
  const to = path.join(root, 'exported');
  const { value } = await policy<Record<string, string>>(engine, 'export', '--out', out, '--to', to, '--merge');
  assert.deepEqual(Object.keys(value), ['gguf', 'peft', 'merged']);
  for (const file of Object.values(value)) assert.ok(existsSync(file), file);
  const compared = await policy<{ after: object }>(
    ...[engine, 'eval', '--adapter', value.gguf!, '--tasks', '1', '--set', TINY],
  );
  assert.ok(compared.value.after);
});

test('a report shows the curve, the figures of evaluations, and episodes before and after, with nothing of theirs as HTML', () => {
  const sample = (step: number) => ({
    ...{ step, task: 'one', turns: [{ role: 'user' as const, content: '<b>hi</b>' }], extractions: ['</script>'] },
    ...{ questions: [{ question: 'q', gold: 'g', answer: `a${step}` }], reward: 0.5 },
  });
  const html = renderPolicyReport({
    ...{ title: 'A policy', settings: { lr: 1 } },
    metrics: [
      { step: 0, eval_reward: 0.25 },
      { step: 1, reward: 0.5, entropy: 1 },
      { step: 1, eval_reward: 0.75 },
    ],
    samples: [sample(0), sample(1)],
  });
  assert.match(html, /<td>0\.250<\/td>[\s\S]*<td>0\.750<\/td>/);
  assert.match(html, /Episodes after 0 steps[\s\S]*a0[\s\S]*The same after 1 steps[\s\S]*a1/);
  assert.ok(html.includes('&lt;b&gt;hi') && !html.includes('<b>hi'));
  assert.ok(html.includes('canvas id="entropy"') && !html.includes('canvas id="update"'));
});
