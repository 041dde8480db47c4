/** One HTML file on a training of a policy: what it learned, how, and what it writes down before and after. */
import path from 'node:path';
import { writeFileAtomic } from '../engine/files.ts';
import { readLines } from '../report/json-lines.ts';
import { asHtml, htmlList, htmlTable, renderPage } from '../report/page.ts';
import { setting } from '../report/setting.ts';
import { type EpisodeSample, sampleSchema } from './evaluate.ts';
import { type Metrics, metricsSchema } from './metrics.ts';
import { metricsFile, samplesFile } from './train.ts';

export interface PolicyReport {
  readonly title: string;
  /** Shown as they are. */
  readonly settings: Readonly<Record<string, unknown>>;
  readonly metrics: readonly Metrics[];
  readonly samples: readonly EpisodeSample[];
}

/** Plots, and the metrics of each. */
const PLOTS: readonly (readonly [name: string, caption: string, metrics: readonly string[]])[] = [
  ['reward', 'Reward: in training, and on held-out tasks.', ['reward', 'eval_reward']],
  [
    'spread',
    'Deviation of rewards in a group, and share of groups without any.',
    ['reward_std', 'frac_reward_zero_std'],
  ],
  ['length', 'Tokens of an episode.', ['completions/mean_length', 'eval_completions/mean_length']],
  ['entropy', 'Entropy of the policy at the sampled tokens, in nats.', ['entropy']],
  [
    'update',
    'Norm of the gradient, share of clipped tokens, KL divergence.',
    ['grad_norm', 'clip_ratio/region_mean', 'kl'],
  ],
];

/** Writes `report.html` on what the folder of a training holds. */
export async function writeTrainingReport(folder: string, title: string, settings: object): Promise<string> {
  const file = path.join(folder, 'report.html');
  const metrics = readLines(metricsFile(folder), metricsSchema);
  const samples = readLines(samplesFile(folder), sampleSchema);
  const html = renderPolicyReport({ title, settings: { ...settings, ...setting() }, metrics, samples });
  await writeFileAtomic(file, (write) => write(Buffer.from(html)));
  return file;
}

export function renderPolicyReport({ title, settings, metrics, samples }: PolicyReport): string {
  const told = PLOTS.filter(([, , names]) => names.some((name) => metrics.some((line) => line[name] !== undefined)));
  const evaluations = metrics.filter((line) => line.eval_reward !== undefined);
  const names = [...new Set(evaluations.flatMap((line) => Object.keys(line)))].filter((name) => name !== 'step');
  const [before, after] = [samples[0]?.step, samples.at(-1)?.step];
  const shown = (step: number | undefined) =>
    samples
      .filter((sample) => sample.step === step)
      .map(showSample)
      .join('\n');
  const body = `<h2>Held-out tasks</h2>
${htmlTable(
  ['step', ...names],
  evaluations.map((line) => [String(line.step), ...names.map((name) => line[name]?.toFixed(3) ?? '')]),
)}
<h2>Training</h2>
${told
  .map(
    ([name, caption]) => `<figure><canvas id="${name}"></canvas><figcaption>${asHtml(caption)}</figcaption></figure>`,
  )
  .join('\n')}
<h2>Episodes after ${before ?? 0} steps</h2>
${shown(before)}
${after === before ? '' : `<h2>The same after ${after} steps</h2>\n${shown(after)}`}
<h2>Settings</h2>
${htmlList(Object.entries(settings).map(([name, value]) => [name, typeof value === 'string' ? value : JSON.stringify(value)]))}`;
  const charts = Object.fromEntries(told.map(([name, , of]) => [name, lines(metrics, of)]));
  return renderPage({ title, body, charts });
}

function lines(metrics: readonly Metrics[], names: readonly string[]) {
  const datasets = names.flatMap((label) => {
    const data = metrics.flatMap((line) => (line[label] === undefined ? [] : [{ x: line.step, y: line[label] }]));
    return data.length > 0 ? [{ label, data, showLine: true, pointRadius: data.length > 50 ? 0 : 2 }] : [];
  });
  return { type: 'scatter', data: { datasets }, options: { animation: false, scales: { y: { beginAtZero: true } } } };
}

function showSample({ task, turns, extractions, questions, reward }: EpisodeSample): string {
  const said = turns.map(({ speaker, content }) => (speaker ? `${speaker}: ${content}` : content)).join('\n');
  return `<h3>${asHtml(task)}: reward ${reward.toFixed(2)}</h3>
<pre>${asHtml(said)}</pre>
<details open><summary>Written down</summary><pre>${asHtml(extractions.join('\n'))}</pre></details>
${htmlTable(
  ['question', 'answer', 'expected'],
  questions.map(({ question, answer, gold }) => [question, answer, gold]),
)}`;
}
