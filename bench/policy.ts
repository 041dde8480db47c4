/**
 * Does a policy learn? One training in the synthetic environment, and its reward on held-out tasks before, every few steps, and after, as
 * JSON lines. Notes are kept as text by default (`--write explicit`), so that an episode of a small model takes seconds.
 *   node bench/policy.ts [--model smollm2-135m] [--seed 1] [--grade easy] [--steps 30] [--minutes 55] [--set '{"lr": 1e-3}'] [--out DIR]
 * `--set` changes any setting of src/policy/settings.ts. It ends with the evaluation at which the minutes are over; a run in the same folder
 * goes on.
 */
import { mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { LlamaEngine } from '../src/engine/llama/engine.ts';
import { resolveModel } from '../src/engine/models/store.ts';
import type { FastWeights } from '../src/engine/types.ts';
import { hasCheckpoint } from '../src/policy/checkpoint.ts';
import { type Grade, syntheticEnvironment } from '../src/policy/environments/synthetic.ts';
import { evaluatePolicy } from '../src/policy/evaluate.ts';
import { writeTrainingReport } from '../src/policy/report.ts';
import { trainSettings } from '../src/policy/settings.ts';
import { trainPolicy } from '../src/policy/train.ts';
import { positive } from './support/options.ts';
import { setting } from './support/report.ts';

const { values: options } = parseArgs({
  options: {
    model: { type: 'string', default: 'smollm2-135m' },
    seed: { type: 'string', default: '1' },
    grade: { type: 'string', default: 'easy' },
    steps: { type: 'string', default: '30' },
    minutes: { type: 'string', default: '55' },
    write: { type: 'string', default: 'explicit' },
    set: { type: 'string', default: '{}' },
    out: { type: 'string' },
  },
});
const start = performance.now();
const minutes = () => (performance.now() - start) / 60_000;
const line = (figures: object) => console.log(JSON.stringify(figures));
const folder = options.out ?? mkdtempSync(path.join(tmpdir(), 'tmem-policy-'));
const own = JSON.parse(options.set);
const wanted = trainSettings('laptop', {
  ...{ steps: positive(options, 'steps'), seed: Number(options.seed), evalEvery: 5, evalTasks: 48, lr: 1e-3 },
  ...own,
  rollout: {
    ...{ write: options.write as 'explicit', note: false, examples: 3, maxTokens: 96, answerTokens: 24 },
    ...{ maxCompletionLength: 384, budget: 512 },
    ...own.rollout,
  },
});
const environment = syntheticEnvironment(options.grade as Grade);
const engine = await LlamaEngine.open({ modelPath: (await resolveModel(options.model)).path });
line({
  bench: 'policy',
  ...setting(),
  model: engine.model.name,
  environment: environment.name,
  folder,
  settings: wanted,
});

/** Reward on held-out tasks when actions are sampled as in training; the curve is greedy. */
async function sampledReward(policy: FastWeights | null): Promise<number> {
  await engine.setPolicy(policy);
  const { evalTasks: tasks, seed, rollout } = wanted;
  const { temperature } = rollout;
  return (await evaluatePolicy(engine, environment, { step: 0, tasks, temperature, seed, rollout })).metrics
    .eval_reward!;
}

const before = { sampled: await sampledReward(null) };
// From one evaluation to the next, so that the last one is not cut off by the clock.
const every = wanted.evalEvery || wanted.steps;
let trained: Awaited<ReturnType<typeof trainPolicy>> | undefined;
for (let steps = Math.min(every, wanted.steps); ; steps = Math.min(steps + every, wanted.steps)) {
  trained = await trainPolicy(
    engine,
    environment,
    { ...wanted, steps },
    {
      folder,
      resume: hasCheckpoint(folder),
      onEvent: (event) => {
        if (event.type === 'metrics') line({ minutes: Number(minutes().toFixed(1)), ...event.metrics });
        else if (event.type === 'warm start') line({ warmStart: event.kept, losses: event.losses });
      },
    },
  );
  if (steps >= wanted.steps || minutes() >= positive(options, 'minutes')) break;
}
const curve = trained.metrics.flatMap(({ step, eval_reward: reward }) =>
  reward === undefined ? [] : [{ step, reward }],
);
const after = { sampled: await sampledReward(trained.state.policy) };
const [first, last] = [curve[0]!.reward, curve.at(-1)!.reward];
line({
  ...{ seed: wanted.seed, steps: trained.state.step, minutes: Number(minutes().toFixed(1)), curve },
  greedy: { before: first, after: last, points: 100 * (last - first) },
  sampled: { before: before.sampled, after: after.sampled, points: 100 * (after.sampled - before.sampled) },
  report: await writeTrainingReport(folder, `Policy, ${environment.name}, ${engine.model.name}`, wanted),
});
await engine.close();
