/**
 * Does a policy learn? One training in the synthetic environment, and its reward on held-out tasks before, every few steps, and after, as
 * JSON lines. Notes are kept as text by default (`--write explicit`), so that an episode of a small model takes seconds.
 *   node bench/policy.ts [--model smollm2-135m] [--seed 1] [--grade easy] [--steps 96] [--minutes 55] [--set '{"lr": 1e-3}'] [--out DIR]
 * `--set` changes any setting of src/policy/settings.ts. It ends with the evaluation at which the minutes are over; a run in the same folder
 * goes on. `tmem policy eval --out DIR --env locomo --data FILE --turns 8` then says what was learned for conversations.
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
import { saveRun } from '../src/policy/run-file.ts';
import { trainSettings } from '../src/policy/settings.ts';
import { trainPolicy } from '../src/policy/train.ts';
import { positive } from './support/options.ts';
import { setting } from './support/report.ts';
import { SMALL_MODEL } from './support/small-model.ts';

const { values: options } = parseArgs({
  options: {
    model: { type: 'string', default: 'smollm2-135m' },
    seed: { type: 'string', default: '1' },
    grade: { type: 'string', default: 'easy' },
    steps: { type: 'string', default: '96' },
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
// A line of an extraction, or an answer, has about 10 tokens: more of them are more words on nothing.
const wanted = trainSettings('laptop', {
  ...{ steps: positive(options, 'steps'), seed: Number(options.seed), evalEvery: 8, evalTasks: 24 },
  ...{ batch: 3, group: 6 },
  ...own,
  rollout: {
    ...{ ...SMALL_MODEL, write: options.write as 'explicit' },
    ...{ maxTokens: 16, maxCompletionLength: 64, parallel: 16 },
    ...own.rollout,
  },
});
const environment = syntheticEnvironment(options.grade as Grade);
await saveRun(folder, { model: options.model, env: 'synthetic', options: { grade: options.grade } });
const engine = await LlamaEngine.open({ modelPath: (await resolveModel(options.model)).path });
line({
  bench: 'policy',
  ...setting(),
  model: engine.model.name,
  environment: environment.name,
  folder,
  settings: wanted,
});

type Point = { readonly step: number; readonly reward: number; readonly said: number };
const pointOf = (metrics: Readonly<Record<string, number>>, step: number): Point => {
  return { step, reward: metrics.eval_reward!, said: metrics['eval_figures/said']! };
};

/** On held-out tasks when actions are sampled as in training; the curve is greedy. */
async function sampled(policy: FastWeights | null, step: number): Promise<Point> {
  await engine.setPolicy(policy);
  const { evalTasks: tasks, seed, rollout } = wanted;
  const { temperature } = rollout;
  const { metrics } = await evaluatePolicy(engine, environment, { step, tasks, temperature, seed, rollout });
  return pointOf(metrics, step);
}

const before = await sampled(null, 0);
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
const curve = trained.metrics.flatMap((metrics) =>
  metrics.eval_reward === undefined ? [] : [pointOf(metrics, metrics.step)],
);
const after = await sampled(trained.state.policy, trained.state.step);
const compared = (first: Point, last: Point) => ({
  before: first,
  after: last,
  points: 100 * (last.reward - first.reward),
});
line({
  ...{ seed: wanted.seed, steps: trained.state.step, minutes: Number(minutes().toFixed(1)), curve },
  ...{ greedy: compared(curve[0]!, curve.at(-1)!), sampled: compared(before, after) },
  report: await writeTrainingReport(folder, `Policy, ${environment.name}, ${engine.model.name}`, wanted),
});
await engine.close();
