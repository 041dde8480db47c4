/** `tmem bench`: methods of memory side by side on a benchmark. */
import { fileURLToPath } from 'node:url';
import type { Command } from 'commander';
import { contextFor } from '../../agent/context-size.ts';
import type { RunEvent } from '../../benchmarks/run.ts';
import type { Row, shownScore as ShowScore, Summary } from '../../benchmarks/summary.ts';
import { TmemError } from '../../engine/errors.ts';
import type { Embedder, Engine } from '../../engine/types.ts';
import { trainingOf } from '../../memory/recipe.ts';
import type { MethodSpec } from '../../methods/types.ts';
import type { BenchmarkQuestion, Judge, Sample } from '../../tasks/types.ts';
import { type CliIo, numberOption } from '../io.ts';
import { table } from '../table.ts';

interface BenchOptions {
  readonly data?: string;
  readonly small?: boolean;
  readonly methods: string;
  readonly ablation?: string;
  readonly model?: string;
  readonly embedder: string;
  readonly budget: number;
  readonly conversations?: string;
  readonly samples?: number;
  readonly sessions?: number;
  readonly limit?: number;
  readonly corpus?: string;
  readonly objectives?: number;
  readonly runs: number;
  readonly seed: number;
  readonly temperature: number;
  readonly parallel: number;
  readonly judge?: string;
  readonly judgeModel?: string;
  readonly out?: string;
}

/** Characters of a stream that make at least one token, and tokens beside it. */
const LEAST_CHARACTERS = 3;
const BESIDE_STREAM = 1024;
const MOST_CONTEXT = 32_768;

export function register(program: Command, io: CliIo): void {
  const whole = (name: string, min = 1) => numberOption(name, { integer: true, min });
  program
    .command('bench')
    .description(
      'Let methods of memory read a benchmark and answer its questions, side by side; a run that was broken off goes on.',
    )
    .argument('<name>', 'locomo, longmemeval, search or clbench')
    .option('--data <file>', 'the published data (default: fetched from its home)')
    .option('--small', 'the few samples that come with tmem, of the same format, for a first try')
    .option('--methods <names>', 'separated by commas', 'tmem,none,rag')
    .option('--ablation <name>', 'instead of --methods: supervision, init, a, budget, rank, layers or epochs')
    .option('--model <model>', 'catalogue name, hf: URI or path of a GGUF')
    .option('--embedder <model>', 'embedding model of methods that retrieve by it', 'all-minilm-l6-v2')
    .option('--budget <tokens>', 'length of the working context', whole('--budget'), 2048)
    .option('--conversations <ids>', 'only these samples, separated by commas')
    .option('--samples <n>', 'only the first so many samples', whole('--samples'))
    .option('--sessions <n>', 'locomo: only the first so many sessions, and the questions on them', whole('--sessions'))
    .option('--limit <n>', 'at most so many questions of each sample, spread over all', whole('--limit'))
    .option('--runs <n>', 'repeat everything, sampled, for mean and deviation', whole('--runs'), 1)
    .option('--seed <n>', 'of sampling and of shuffled choices', whole('--seed', 0), 1)
    .option('--temperature <t>', 'of sampling; 0 is greedy', numberOption('--temperature'), 0)
    .option('--parallel <n>', 'questions answered at once', whole('--parallel'), 8)
    .option('--corpus <file>', 'search: JSONL of the documents {title?, text} that are searched')
    .option('--objectives <n>', 'search: questions merged into one (default 2)', whole('--objectives'))
    .option('--judge <judge>', '"local" (the model itself) or the URL of an OpenAI-compatible API')
    .option('--judge-model <model>', 'model of that API; its key comes from TMEM_JUDGE_KEY')
    .option('--out <folder>', 'where answers and report are kept')
    .action((name: string, options: BenchOptions) => bench(io, name, options));
}

async function bench(io: CliIo, name: string, options: BenchOptions): Promise<void> {
  const { getBenchmark } = await import('../../tasks/registry.ts');
  const { runBench } = await import('../../benchmarks/bench.ts');
  const { shownScore } = await import('../../benchmarks/summary.ts');
  const { fetchData, hashOfFile } = await import('../../tasks/fetch-data.ts');
  const { ablation } = await import('../../methods/ablations.ts');
  const { getMethod } = await import('../../methods/registry.ts');

  const benchmark = getBenchmark(name);
  const names = options.ablation === undefined ? listOf(options.methods) : ablation(options.ablation);
  if (names.length === 0) throw new TmemError('usage', '--methods names no method; see tmem bench --help.');
  const methods = [...new Set(names)].map(getMethod);
  const { runs, seed, temperature, budget, parallel, sessions, corpus, objectives, embedder: embedderName } = options;
  if (runs > 1 && temperature === 0)
    throw new TmemError('usage', `${runs} greedy runs would all be the same; give --temperature, or leave --runs out.`);
  if (benchmark.needsJudge && !options.judge)
    throw new TmemError(
      'usage',
      `${name} is scored by a judge; give --judge local, or --judge with the URL of an API.`,
    );
  if (options.small && options.data !== undefined) throw new TmemError('usage', 'Give either --small or --data.');
  const judgeOf = judgeFrom(options);

  const { signal } = io;
  const data = options.small ? smallSet(name) : (options.data ?? (await fetchData(name, { signal, onNote: io.note })));
  const samples = select(
    await benchmark.read(data, { samples: options.samples, seed, sessions, corpus, objectives }),
    options,
  );
  const contextSize = await contextOf(samples, budget, methods);
  const engine = await io.openEngine({ model: options.model, contextSize, training: trainingOf('default') });
  const embedder = methods.some(({ embeds }) => embeds) ? await openEmbedder(io, embedderName) : undefined;
  const progress = io.progress(name);
  try {
    const judge = await judgeOf(engine);
    const { settings, summary, ...files } = await runBench({
      ...{ benchmark, samples, data, out: options.out, engine, embedder, judge, methods },
      ...{ budget, runs, seed, temperature, parallel, signal },
      settings: {
        embedder: embedderName,
        ...(sessions !== undefined && { sessions }),
        ...(objectives !== undefined && { objectives }),
        ...(corpus !== undefined && { corpus: await hashOfFile(corpus) }),
      },
      onEvent: (event) => progress.update(...shown(event)),
    });
    progress.done(`answers in ${files.answers}`);
    const { metric, rowsWithAll, differences } = summary;
    const rows = (list: readonly Row[]) =>
      list.map(({ scores, ci, ...row }) => ({ ...row, ...scores, ci: [ci.low, ci.high] }));
    io.result(
      {
        ...{ ...settings, metric, rows: rows(summary.rows) },
        ...(rowsWithAll && { rowsWithAll: rows(rowsWithAll) }),
        ...{ differences, ...files },
      },
      () => show(summary, shownScore, files.report),
    );
  } finally {
    progress.done();
    await embedder?.close();
  }
}

/** Tokens that the engine's context is to hold; undefined leaves it to the engine. */
async function contextOf(samples: readonly Sample[], budget: number, methods: readonly MethodSpec[]) {
  const { DEFAULT_CONTEXT } = await import('../../engine/footprint.ts');
  const least = contextFor(budget);
  if (!methods.some(({ wholeStream }) => wholeStream)) return least;
  const longest = Math.max(...samples.map(lengthOf));
  const stream = Math.min(MOST_CONTEXT, Math.ceil(longest / LEAST_CHARACTERS) + BESIDE_STREAM);
  return Math.max(least ?? DEFAULT_CONTEXT, stream);
}

function smallSet(benchmark: string): string {
  const lines = benchmark === 'search' || benchmark === 'clbench';
  return fileURLToPath(new URL(`../../../assets/benchmarks/${benchmark}.json${lines ? 'l' : ''}`, import.meta.url));
}

async function openEmbedder({ signal, note: onNote }: CliIo, model: string): Promise<Embedder> {
  const { openEmbeddingModel } = await import('../../engine/models/open-embedder.ts');
  return openEmbeddingModel(model, { signal, onNote });
}

/** @throws TmemError `usage` for what is neither "local" nor a URL with a model. */
function judgeFrom({ judge, judgeModel }: BenchOptions): (engine: Engine) => Promise<Judge | undefined> {
  if (judge !== undefined && judge !== 'local') {
    if (!URL.canParse(judge)) throw new TmemError('usage', `--judge must be "local" or a URL, but it is '${judge}'.`);
    if (!judgeModel) throw new TmemError('usage', '--judge with a URL needs --judge-model, the name of a model there.');
  }
  return async (engine) => {
    if (judge === undefined) return undefined;
    const { localJudge, remoteJudge } = await import('../../benchmarks/judge.ts');
    return judge === 'local' ? localJudge(engine) : remoteJudge(judge, judgeModel!, process.env.TMEM_JUDGE_KEY);
  };
}

function listOf(names: string): string[] {
  return names
    .split(',')
    .map((name) => name.trim())
    .filter(Boolean);
}

/** @throws TmemError `usage` naming the samples there are. */
function select(samples: readonly Sample[], { conversations, limit }: BenchOptions): Sample[] {
  const wanted = conversations === undefined ? undefined : listOf(conversations);
  const unknown = wanted?.find((id) => !samples.some((sample) => sample.id === id));
  if (unknown !== undefined) {
    const some = samples.slice(0, 20).map(({ id }) => id);
    throw new TmemError(
      'usage',
      `The data has no "${unknown}"; it has ${some.join(', ')}${samples.length > some.length ? ', ...' : ''}.`,
    );
  }
  const selected = samples
    .filter(({ id }) => wanted === undefined || wanted.includes(id))
    .map((sample) => ({ ...sample, questions: spread(sample.questions, limit) }));
  if (selected.every(({ questions }) => questions.length === 0))
    throw new TmemError('usage', 'Nothing is asked about what is read; give more --sessions or other --conversations.');
  return selected;
}

function spread(questions: readonly BenchmarkQuestion[], limit = questions.length): BenchmarkQuestion[] {
  if (questions.length <= limit) return [...questions];
  return Array.from({ length: limit }, (_, i) => questions[Math.floor((i * questions.length) / limit)]!);
}

function lengthOf({ turns }: Sample): number {
  // A line of the transcript has a name and a date, too.
  return turns.reduce((sum, { content, speaker = '' }) => sum + content.length + speaker.length + 40, 0);
}

function shown(event: RunEvent): [number | null, string] {
  const where = `${event.method} on ${event.sample}`;
  if (event.type === 'answered') return [event.done / event.of, `${where}: ${event.done} of ${event.of} answers`];
  const { turn, turns, generations, steps } = event;
  return [null, `${where}: ${turn} of ${turns} turns read, ${generations} texts generated, ${steps} steps trained`];
}

function show(summary: Summary, showScore: typeof ShowScore, report: string): string {
  const { metrics: names, rows, rowsWithAll, differences } = summary;
  const shown = (score: number) => showScore(score, summary);
  const scores = (list: readonly Row[]) =>
    table(
      [
        ['method', 'n', ...names, '95 %', 'seconds', 'prompt', 'generated', 'trained', 'context'],
        ...list.map((row) => [
          ...[row.method, String(row.n), ...names.map((name) => shown(row.scores[name] ?? 0))],
          `${shown(row.ci.low)} to ${shown(row.ci.high)}`,
          ...[row.cost.seconds, row.cost.promptTokens, row.cost.outputTokens, row.cost.trainedTokens].map((x) =>
            x.toFixed(0),
          ),
          row.cost.contextTokens.toFixed(0),
        ]),
      ],
      Array.from({ length: names.length + 8 }, (_, i) => i + 1),
    );
  const compared = differences.map(
    (d) => `${d.method} over ${d.over}: ${shown(d.difference)} (${shown(d.low)} to ${shown(d.high)})`,
  );
  return [
    scores(rows),
    ...(rowsWithAll ? ['', 'With the categories that are reported apart:', scores(rowsWithAll)] : []),
    ...['', ...compared, `Report: ${report}`],
  ].join('\n');
}
