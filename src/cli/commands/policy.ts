/** `tmem policy`: reinforcement learning of the model that extracts and answers. */
import path from 'node:path';
import { type Command, Option } from 'commander';
import { z } from 'zod';
import { TmemError } from '../../engine/errors.ts';
import type { Engine } from '../../engine/types.ts';
import type { Environment } from '../../policy/environment.ts';
import type { EnvironmentOptions } from '../../policy/environments/registry.ts';
import type { TrainSettings, TrainSettingsInput } from '../../policy/settings.ts';
import type { TrainPolicyEvent } from '../../policy/train.ts';
import { type CliIo, numberOption, type Progress } from '../io.ts';
import { table } from '../table.ts';

interface ModelOptions extends EnvironmentOptions {
  readonly env: string;
  readonly model?: string;
  readonly context?: number;
}

interface TrainOptions extends ModelOptions {
  readonly out: string;
  readonly recipe: string;
  readonly steps?: number;
  readonly batch?: number;
  readonly group?: number;
  readonly lr?: number;
  readonly seed?: number;
  readonly rank?: number;
  readonly layers?: number;
  readonly targets?: string;
  readonly loss?: TrainSettings['lossType'];
  readonly beta?: number;
  readonly write?: TrainSettings['rollout']['write'];
  readonly evalEvery?: number;
  readonly evalTasks?: number;
  readonly warmStart?: number;
  readonly set?: string;
}

interface EvalOptions extends Omit<ModelOptions, 'env'> {
  readonly env?: string;
  readonly out?: string;
  readonly adapter?: string;
  readonly tasks: number;
  readonly temperature: number;
  readonly set?: string;
}

const OPTION_KEYS = ['grade', 'data', 'corpus', 'objectives', 'questions', 'aware', 'turns'] as const;
const ENVIRONMENT = 'synthetic, locomo, longmemeval or search';
const whole = (name: string, min = 1) => numberOption(name, { integer: true, min });

export function register(program: Command, io: CliIo): void {
  const policy = program
    .command('policy')
    .description('train the model itself to extract and to answer (GRPO), and see what it learned');

  withEnvironment(policy.command('train').option('--env <name>', ENVIRONMENT, 'synthetic'))
    .description('train a LoRA on the model by the outcome of whole episodes')
    .requiredOption('--out <dir>', 'folder of checkpoint, metrics and report')
    .option('--recipe <name>', 'laptop, or paper: 200 steps of 64 tasks, 8 episodes each, 1e-6', 'laptop')
    .option('--steps <n>', 'steps', whole('--steps'))
    .option('--batch <n>', 'tasks a step', whole('--batch'))
    .option('--group <n>', 'episodes of a task', whole('--group', 2))
    .option('--lr <rate>', 'learning rate', numberOption('--lr', { above: true }))
    .option('--seed <n>', 'of everything that is random', whole('--seed', 0))
    .option('--rank <n>', 'rank of the adapter', whole('--rank'))
    .option('--layers <n>', 'number of last layers to adapt', whole('--layers'))
    .option('--targets <parts>', 'parts of a layer, such as attn_q,ffn_up (default: all)')
    .addOption(new Option('--loss <type>', 'how tokens are averaged').choices(['grpo', 'bnpo', 'dr_grpo', 'dapo']))
    .option('--beta <x>', 'weight of the KL divergence from the start', numberOption('--beta'))
    .addOption(
      new Option('--write <kind>', 'train pairs into weights, or keep them as text').choices(['weights', 'explicit']),
    )
    .option('--eval-every <n>', 'steps between evaluations on held-out tasks', whole('--eval-every', 0))
    .option('--eval-tasks <n>', 'held-out tasks of one', whole('--eval-tasks', 0))
    .option('--warm-start <epochs>', 'first repeat the best extractions of a few tasks', whole('--warm-start', 0))
    .option('--set <json>', 'any other settings, as JSON: {"rollout": {"examples": 2}}')
    .action((options: TrainOptions) => train(io, options));

  policy
    .command('resume')
    .description('go on with a training that was broken off, or make it longer')
    .requiredOption('--out <dir>', 'its folder')
    .option('--steps <n>', 'steps in all', whole('--steps'))
    .action((options: { out: string; steps?: number }) => resume(io, options));

  withEnvironment(
    policy.command('eval').option('--env <name>', `${ENVIRONMENT} (default: that of --out, or synthetic)`),
  )
    .description('compare a policy with the model that it was trained from on held-out tasks')
    .option('--out <dir>', 'folder of a training: its settings and environment, as far as no others are given')
    .option('--adapter <file>', 'another policy, as a GGUF adapter')
    .option('--tasks <n>', 'held-out tasks', whole('--tasks'), 32)
    .option('--temperature <t>', 'of sampling; 0 is greedy', numberOption('--temperature'), 0)
    .option('--set <json>', 'other settings than those of the training or the laptop, as JSON')
    .action((options: EvalOptions) => evaluate(io, options));

  policy
    .command('export')
    .description('write the policy as a GGUF adapter and a PEFT folder, or merged into a whole model')
    .requiredOption('--out <dir>', 'folder of the training')
    .option('--to <dir>', 'folder to write to (default: the same)')
    .option('--merge', 'also write the whole model with the policy in it', false)
    .action((options: { out: string; to?: string; merge: boolean }) => exportPolicy(io, options));
}

function withEnvironment(command: Command): Command {
  return command
    .option('--grade <grade>', 'synthetic: easy (default), updates, distractors or two-hop')
    .option('--data <file>', 'the published data, for all others')
    .option('--corpus <file>', 'search: the documents that are searched')
    .option('--objectives <n>', 'search: questions merged into one', whole('--objectives'))
    .option('--questions <n>', 'locomo, longmemeval: questions of an episode', whole('--questions'))
    .option('--aware', 'locomo, longmemeval: the extraction is shown the question')
    .option('--turns <n>', 'locomo, longmemeval: turns of an episode, a stretch (default: all)', whole('--turns'))
    .option('--model <model>', 'catalogue name, hf: URI or path of a GGUF')
    .option('--context <tokens>', 'length of the context over all episodes that run at once', whole('--context', 128));
}

async function train(io: CliIo, options: TrainOptions): Promise<void> {
  const { trainSettings } = await import('../../policy/settings.ts');
  const { openEnvironment } = await import('../../policy/environments/registry.ts');
  const { hasCheckpoint } = await import('../../policy/checkpoint.ts');
  const settings = trainSettings(options.recipe, ownSettings(options));
  const environment = await openEnvironment(options.env, options);
  if (hasCheckpoint(options.out))
    throw new TmemError('usage', `${options.out} holds a training; go on with it by \`tmem policy resume --out\`.`);
  const engine = await open(io, options, settings);
  const { env, model, context } = options;
  const run = { model, context, env, options: given(options) };
  await (await import('../../policy/run-file.ts')).saveRun(options.out, run);
  await runTraining(io, { engine, environment, settings, folder: options.out, resume: false });
}

async function resume(io: CliIo, { out, steps }: { readonly out: string; readonly steps?: number }): Promise<void> {
  const { loadCheckpoint } = await import('../../policy/checkpoint.ts');
  const { settings: kept } = await loadCheckpoint(out);
  const settings = { ...kept, steps: steps ?? kept.steps };
  const { engine, environment } = await openRun(io, out, settings);
  await runTraining(io, { engine, environment, settings, folder: out, resume: true });
}

interface Run {
  readonly engine: Engine;
  readonly environment: Environment;
  readonly settings: TrainSettings;
  readonly folder: string;
  readonly resume: boolean;
}

async function runTraining(io: CliIo, { engine, environment, settings, folder, resume }: Run): Promise<void> {
  const { metricsFile, trainPolicy } = await import('../../policy/train.ts');
  const { writeTrainingReport } = await import('../../policy/report.ts');
  const { signal } = io;
  const progress = io.progress('policy');
  try {
    const onEvent = tellProgress(io, progress, settings);
    const { metrics } = await trainPolicy(engine, environment, settings, { folder, resume, signal, onEvent });
    progress.done(`${settings.steps} steps done`);
    const origin = { environment: environment.name, model: engine.model.name, ...settings };
    const report = await writeTrainingReport(folder, `Policy, ${environment.name}, ${engine.model.name}`, origin);
    const document = { steps: metrics, settings, checkpoint: folder, metrics: metricsFile(folder), report };
    io.result(document, () => {
      const evaluations = metrics.filter((line) => line.eval_reward !== undefined);
      const rows = evaluations.map((line) => [String(line.step), line.eval_reward!.toFixed(3)]);
      return `${table([['step', 'held-out reward'], ...rows], [0, 1])}\nReport: ${report}`;
    });
  } finally {
    progress.done();
  }
}

function tellProgress(io: CliIo, progress: Progress, { steps, batch, group }: TrainSettings) {
  let [done, of, step] = ['', 0, -1] as [string, number, number];
  return (event: TrainPolicyEvent): void => {
    if (event.type === 'episode') {
      if (event.of !== done || event.step !== step) [done, of, step] = [event.of, 0, event.step];
      of++;
      const whole = event.of === 'step' ? ` of ${batch * group}` : '';
      progress.update(event.step / steps, `${event.of} ${event.step}: ${of}${whole} episodes`);
    } else if (event.type === 'warm start') {
      const loss = event.losses.at(-1)?.toFixed(3) ?? 'none';
      io.note(`Warm start: ${event.kept} extractions, last loss ${loss}.`);
    } else {
      const { step, reward, eval_reward, entropy } = event.metrics;
      const figures = { 'held-out reward': eval_reward, reward, entropy };
      const told = Object.entries(figures).flatMap(([name, x]) => (x === undefined ? [] : `${name} ${x.toFixed(3)}`));
      io.note(`Step ${step}: ${told.join(', ')}`);
    }
  };
}

async function evaluate(io: CliIo, options: EvalOptions): Promise<void> {
  const { evaluatePolicy } = await import('../../policy/evaluate.ts');
  const { pairedDifference } = await import('../../benchmarks/statistics.ts');
  const { loadCheckpoint } = await import('../../policy/checkpoint.ts');
  const { trainSettings } = await import('../../policy/settings.ts');
  const { openEnvironment } = await import('../../policy/environments/registry.ts');
  const { loadPolicy } = await import('../../policy/adapter.ts');
  const { out, adapter, tasks, temperature } = options;
  if (out === undefined && adapter === undefined)
    throw new TmemError('usage', 'Name the policy: --out, the folder of a training, or --adapter, a GGUF adapter.');
  const own = parseSet(options.set);
  const checkpoint = out === undefined ? undefined : await loadCheckpoint(out);
  const settings = checkpoint
    ? trainSettings('laptop', {
        ...checkpoint.settings,
        ...own,
        rollout: { ...checkpoint.settings.rollout, ...own.rollout },
      })
    : trainSettings('laptop', own);
  const { readRun } = await import('../../policy/run-file.ts');
  const run = out === undefined ? undefined : await readRun(out);
  const { env = run?.env ?? 'synthetic' } = options;
  const environment = await openEnvironment(env, { ...(run?.env === env && run.options), ...given(options) });
  const { model = run?.model, context = run?.context } = options;
  const engine = await open(io, { model, context }, settings);
  const policy = adapter === undefined ? checkpoint!.state.policy : await loadPolicy(adapter, engine.model);
  const progress = io.progress('evaluation');
  const measure = async (label: string, step: number) => {
    let n = 0;
    const onEpisode = () => progress.update(++n / tasks, `${label}: ${n} of ${tasks} episodes`);
    const { seed, rollout } = settings;
    return evaluatePolicy(engine, environment, {
      step,
      tasks,
      temperature,
      seed,
      rollout,
      signal: io.signal,
      onEpisode,
    });
  };
  try {
    const before = await measure('base model', 0);
    await engine.setPolicy(policy);
    const after = await measure('policy', checkpoint?.state.step ?? 0);
    progress.done(`${tasks} tasks`);
    const gains = Object.fromEntries(
      Object.keys(before.episodes[0]!).map((name) => {
        const both = before.episodes.flatMap((episode, i) => {
          const [one, other] = [after.episodes[i]![name], episode[name]];
          return one === undefined || other === undefined ? [] : { one, other };
        });
        return [
          name,
          pairedDifference(
            both.map(({ one }) => one),
            both.map(({ other }) => other),
          ),
        ];
      }),
    );
    io.result({ environment: environment.name, tasks, before, after, gains }, () => {
      const names = [...new Set([...Object.keys(before.metrics), ...Object.keys(after.metrics)])];
      const shown = (value: number | undefined) => value?.toFixed(3) ?? '';
      const rows = names.map((name) => {
        const gain = gains[name.replace(/^eval_(figures\/)?/, '')];
        const interval = gain ? `${shown(gain.difference)} (${shown(gain.low)} to ${shown(gain.high)})` : '';
        return [name, shown(before.metrics[name]), shown(after.metrics[name]), interval];
      });
      return table([['', 'base', 'policy', 'gain (95 %)'], ...rows], [1, 2, 3]);
    });
  } finally {
    progress.done();
  }
}

async function exportPolicy(
  io: CliIo,
  options: { readonly out: string; readonly to?: string; readonly merge: boolean },
) {
  const { loadCheckpoint } = await import('../../policy/checkpoint.ts');
  const { savePolicy } = await import('../../policy/adapter.ts');
  const { resolveModel } = await import('../../engine/models/store.ts');
  const { readGguf } = await import('../../engine/gguf/reader.ts');
  const { readRun } = await import('../../policy/run-file.ts');
  const { out, to = out, merge } = options;
  const { state, model: fingerprint } = await loadCheckpoint(out);
  const { DEFAULT_MODEL } = await import('../../engine/models/catalogue.ts');
  const named = (await readRun(out)).model ?? process.env.TMEM_MODEL ?? DEFAULT_MODEL;
  const { path: modelPath } = await resolveModel(named, { signal: io.signal, onNote: io.note });
  const gguf = readGguf(modelPath);
  if (gguf.fingerprint !== fingerprint)
    throw new TmemError(
      'missing',
      `${modelPath} is another model than the one that the policy in ${out} was trained on.`,
    );
  const files = await savePolicy(to, state.policy, gguf, path.basename(modelPath, '.gguf'));
  const whole = merge ? path.join(to, 'merged.gguf') : undefined;
  if (whole) await (await import('../../policy/merge.ts')).mergePolicy(modelPath, state.policy, whole);
  const all = { ...files, ...(whole && { merged: whole }) };
  io.result(all, () => Object.values(all).join('\n'));
}

async function open(io: CliIo, { model, context }: Pick<ModelOptions, 'model' | 'context'>, settings: TrainSettings) {
  const { rank: _, layers, targets, rollout } = settings;
  const attention = targets?.some((target) => target.startsWith('attn_')) ?? true;
  const training = { layers, attention, keys: rollout.write === 'weights' && rollout.recipe === 'default' };
  return io.openEngine({ model, contextSize: context, training });
}

/** The options of an environment that were given. */
function given(options: EnvironmentOptions): Record<string, unknown> {
  const keys = OPTION_KEYS.filter((key) => options[key] !== undefined);
  return Object.fromEntries(keys.map((key) => [key, options[key]]));
}

async function openRun(io: CliIo, folder: string, settings: TrainSettings) {
  const { openEnvironment } = await import('../../policy/environments/registry.ts');
  const run = await (await import('../../policy/run-file.ts')).readRun(folder);
  const environment = await openEnvironment(run.env, run.options);
  return { engine: await open(io, run, settings), environment };
}

function ownSettings(options: TrainOptions): TrainSettingsInput {
  const { steps, batch, group, lr, seed, rank, layers, targets, beta, evalEvery, evalTasks, warmStart } = options;
  const more = parseSet(options.set);
  return {
    ...{ steps, batch, group, lr, seed, rank, layers, beta, evalEvery, evalTasks, lossType: options.loss },
    ...(targets !== undefined && { targets: targets.split(',').map((target) => target.trim()) }),
    ...(warmStart !== undefined && { warmStart: { epochs: warmStart } }),
    ...more,
    rollout: { write: options.write, ...more.rollout },
  };
}

/** @throws TmemError `usage` for what is no JSON object; what it holds is checked with the other settings. */
function parseSet(json: string | undefined): TrainSettingsInput {
  if (json === undefined) return {};
  try {
    return z.looseObject({}).parse(JSON.parse(json)) as TrainSettingsInput;
  } catch (cause) {
    throw new TmemError('usage', '--set is no JSON object; give settings such as {"rollout": {"examples": 2}}.', {
      cause,
    });
  }
}
