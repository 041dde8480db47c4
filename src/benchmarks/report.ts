/** One HTML file with the figures of a run: tables, plots, settings and prompts. */
import { asHtml, htmlList, htmlTable, renderPage } from '../report/page.ts';
import type { MemoryLine } from './results.ts';
import { type Row, type Summary, shownScore } from './summary.ts';

export interface ReportContent {
  readonly title: string;
  /** Hashes, model, judge, commit, options: shown as they are. */
  readonly settings: Readonly<Record<string, unknown>>;
  /** What is said to the model, by room. */
  readonly prompts: Readonly<Record<string, unknown>>;
  readonly summary: Summary;
  readonly memories: readonly MemoryLine[];
  /** What each method is. */
  readonly methods: readonly { readonly name: string; readonly description: string; readonly source: string }[];
}

/** Points of a line in a plot. */
const MOST_POINTS = 400;

export function renderReport(content: ReportContent): string {
  const { title, settings, prompts, summary, methods } = content;
  const { rows, rowsWithAll, differences, metric } = summary;
  const shown = (score: number) => shownScore(score, summary);
  const categories = [...new Set((rowsWithAll ?? rows).flatMap((row) => Object.keys(row.categories)))].sort();
  const withCategories = rowsWithAll ?? rows;
  const body = `<h2>Scores</h2>
${scoreTable(summary, rows)}
${rowsWithAll ? `<h3>With the categories that are reported apart</h3>${scoreTable(summary, rowsWithAll)}` : ''}
<figure><canvas id="scores"></canvas><figcaption>${asHtml(metric)}, mean over the questions.</figcaption></figure>
<h3>Differences on the same questions (${asHtml(metric)}, 95 % interval of the paired bootstrap)</h3>
${htmlTable(
  ['method', 'over', 'difference', 'from', 'to'],
  differences.map((d) => [d.method, d.over, ...[d.difference, d.low, d.high].map(shown)]),
)}
<h2>By category</h2>
${htmlTable(
  ['method', ...categories],
  withCategories.map((row) => [
    row.method,
    ...categories.map((name) => {
      const found = row.categories[name];
      return found ? `${shown(found.score)} (${found.n})` : '';
    }),
  ]),
)}
<figure><canvas id="categories"></canvas><figcaption>${asHtml(metric)} by category.</figcaption></figure>
<h2>Cost</h2>
${costTable(rows)}
<figure><canvas id="cost"></canvas><figcaption>Tokens computed in prompts, generated and trained.</figcaption></figure>
<h2>Context length over time</h2>
<figure><canvas id="contexts"></canvas><figcaption>Length of the prompt of every call, in their order, in tokens; first memory of each method.</figcaption></figure>
<h2>Methods</h2>
${htmlList(methods.map(({ name, description, source }) => [name, `${description} (${source})`] as const))}
<h2>Settings</h2>
${htmlList(Object.entries(settings).map(([name, value]) => [name, typeof value === 'string' ? value : JSON.stringify(value)] as const))}
<h2>Prompts</h2>
${Object.entries(prompts)
  .map(
    ([name, text]) =>
      `<details><summary>${asHtml(name)}</summary><pre>${asHtml(typeof text === 'string' ? text : JSON.stringify(text, null, 1))}</pre></details>`,
  )
  .join('\n')}`;
  return renderPage({ title, body, charts: chartsOf(content, categories) });
}

function scoreTable(summary: Summary, rows: readonly Row[]): string {
  const { metric, metrics: names } = summary;
  const shown = (score: number) => shownScore(score, summary);
  // Of a single run there is none.
  const deviates = rows.some(({ deviation }) => deviation > 0);
  return htmlTable(
    ['method', 'questions', ...names, `${metric}, 95 %`, ...(deviates ? ['deviation of runs'] : [])],
    rows.map((row) => [
      ...[row.method, String(row.n), ...names.map((name) => shown(row.scores[name] ?? 0))],
      ...[`${shown(row.ci.low)} to ${shown(row.ci.high)}`, ...(deviates ? [shown(row.deviation)] : [])],
    ]),
  );
}

function costTable(rows: readonly Row[]): string {
  const whole = (value: number) => Math.round(value).toLocaleString('en');
  return htmlTable(
    [
      'method',
      'seconds',
      'generations reused',
      'prompt tokens',
      'generated',
      'trained',
      'peak MiB',
      'mean context of answers',
      'longest',
    ],
    rows.map(({ method, cost }) => [
      ...[
        method,
        whole(cost.seconds),
        whole(cost.reused),
        whole(cost.promptTokens),
        whole(cost.outputTokens),
        whole(cost.trainedTokens),
      ],
      ...[cost.peakMiB === null ? '' : whole(cost.peakMiB), whole(cost.contextTokens), whole(cost.longestContext)],
    ]),
  );
}

/** Configurations of the plots by their names. */
function chartsOf({ summary, memories }: ReportContent, categories: readonly string[]) {
  const { rows, rowsWithAll, metric, summed } = summary;
  const plotted = (score = 0) => (summed ? 1 : 100) * score;
  const names = rows.map(({ method }) => method);
  const bars = (labels: readonly string[], datasets: readonly { label: string; data: readonly number[] }[]) => ({
    type: 'bar',
    data: { labels, datasets },
    options: { animation: false, scales: { y: { beginAtZero: true } } },
  });
  const contexts = names.flatMap((method) => {
    const found = memories.find((line) => line.method === method);
    if (!found || found.contexts.length === 0) return [];
    const every = Math.ceil(found.contexts.length / MOST_POINTS);
    const data = found.contexts.map((y, x) => ({ x, y })).filter((_, i) => i % every === 0);
    return [{ label: method, data, showLine: true, pointRadius: 0 }];
  });
  return {
    scores: bars(names, [{ label: metric, data: rows.map(({ scores }) => plotted(scores[metric])) }]),
    categories: bars(
      categories,
      (rowsWithAll ?? rows).map((row) => ({
        label: row.method,
        data: categories.map((name) => plotted(row.categories[name]?.score)),
      })),
    ),
    cost: bars(names, [
      { label: 'prompt', data: rows.map(({ cost }) => cost.promptTokens) },
      { label: 'generated', data: rows.map(({ cost }) => cost.outputTokens) },
      { label: 'trained', data: rows.map(({ cost }) => cost.trainedTokens) },
    ]),
    contexts: {
      type: 'scatter',
      data: { datasets: contexts },
      options: { animation: false, scales: { y: { beginAtZero: true } } },
    },
  };
}
