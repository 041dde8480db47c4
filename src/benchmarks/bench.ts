/** A benchmark from its data to its report: what `tmem bench` does, for any methods. */
import { createHash } from 'node:crypto';
import path from 'node:path';
import { writeFileAtomic } from '../engine/files.ts';
import { PROMPTS } from '../methods/prompts.ts';
import { setting } from '../report/setting.ts';
import { hashOfFile } from '../tasks/fetch-data.ts';
import type { Benchmark, Sample } from '../tasks/types.ts';
import { renderReport } from './report.ts';
import { Results } from './results.ts';
import { type RunOptions, runBenchmark } from './run.ts';
import { type Summary, summarise } from './summary.ts';

export interface BenchOptions extends RunOptions {
  readonly benchmark: Benchmark;
  /** What is asked: all samples of `data`, or some. */
  readonly samples: readonly Sample[];
  /** The file that they are from. */
  readonly data: string;
  /** Folder of answers and report. Default: `tmem-bench/` and the names of benchmark and model, in the working directory. */
  readonly out?: string | undefined;
  /** What else the answers depend on: a run in the same folder goes on only if it is the same. */
  readonly settings?: Readonly<Record<string, unknown>>;
}

export interface BenchOutcome {
  /** All that the answers depend on, and where and by which state of the code they were made. */
  readonly settings: Readonly<Record<string, unknown>>;
  readonly summary: Summary;
  /** Files. */
  readonly answers: string;
  readonly report: string;
}

/**
 * Asks what is not answered yet in the folder, and writes the report.
 * @throws TmemError `usage` when the folder holds a run with other settings; `aborted`, with all answers kept.
 */
export async function runBench(options: BenchOptions): Promise<BenchOutcome> {
  const { benchmark, samples, data, engine, methods, judge, runs, budget, seed, temperature } = options;
  const { name: model, fingerprint } = engine.model;
  const prompts = { ...PROMPTS, benchmark: benchmark.prompts };
  const settings = {
    ...{ benchmark: benchmark.name, data: await hashOfFile(data), model, fingerprint, judge: judge?.name ?? null },
    ...{ budget, seed, temperature, prompts: hashOf(prompts), ...options.settings },
  };
  const folder = options.out ?? path.join('tmem-bench', `${benchmark.name}-${model}`.replace(/[^\w.-]+/g, '_'));
  const results = await Results.open(folder, settings);
  await runBenchmark(benchmark, samples, results, options);

  const questions = new Set(samples.flatMap((sample) => sample.questions.map(({ id }) => id)));
  const ids = new Set(samples.map(({ id }) => id));
  // There may be more in the folder, of other calls.
  const answers = results.answers.filter(({ id, run }) => questions.has(id) && run <= runs);
  const memories = results.memories.filter(({ sample, run }) => ids.has(sample) && run <= runs);
  const names = methods.map(({ name }) => name);
  const summary = summarise(benchmark, names, answers, memories, runs);
  const stated = { ...settings, ...setting(), runs, samples: [...ids], questions: questions.size };
  const title = `${benchmark.name}, ${model}`;
  const report = path.join(folder, 'report.html');
  const html = renderReport({ title, settings: stated, prompts, summary, memories, methods });
  await writeFileAtomic(report, (chunk) => chunk(Buffer.from(html)));
  return { settings: stated, summary, answers: results.answersFile, report };
}

function hashOf(prompts: object): string {
  return createHash('sha256').update(JSON.stringify(prompts)).digest('hex').slice(0, 16);
}
