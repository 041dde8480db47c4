/** A benchmark: every method reads every sample and answers its questions, as far as that is not done yet. */
import pLimit from 'p-limit';
import { throwIfAborted } from '../engine/errors.ts';
import type { Embedder, Engine } from '../engine/types.ts';
import { metered } from '../methods/metered.ts';
import type { Method, MethodSpec } from '../methods/types.ts';
import type { Benchmark, BenchmarkQuestion, Judge, Sample } from '../tasks/types.ts';
import { watchMemory } from './peak-memory.ts';
import type { Results } from './results.ts';
import { sampled } from './sampled.ts';

export interface RunOptions {
  readonly engine: Engine;
  readonly embedder?: Embedder | undefined;
  readonly judge?: Judge | undefined;
  readonly methods: readonly MethodSpec[];
  /** L_max in tokens. */
  readonly budget: number;
  readonly runs: number;
  readonly seed: number;
  /** Of everything that is generated; 0 is greedy, and all runs are then the same. */
  readonly temperature: number;
  /** Questions that are answered at once. */
  readonly parallel: number;
  readonly signal?: AbortSignal | undefined;
  readonly onEvent?: ((event: RunEvent) => void) | undefined;
}

export type RunEvent = {
  readonly run: number;
  readonly method: string;
  readonly sample: string;
} /** Turns that are read, and what has been done for this memory so far; told whenever one of these grows. */ & (
  | {
      readonly type: 'work';
      readonly turn: number;
      readonly turns: number;
      readonly generations: number;
      readonly steps: number;
    }
  /** All answers of the run so far, and how many there will be. */
  | { readonly type: 'answered'; readonly done: number; readonly of: number }
);

/** @throws TmemError `aborted` when the signal fires; what is answered by then is in the results. */
export async function runBenchmark(
  benchmark: Benchmark,
  samples: readonly Sample[],
  results: Results,
  options: RunOptions,
): Promise<void> {
  const key = (run: number, method: string, question: string) => JSON.stringify([run, method, question]);
  const done = new Set(results.answers.map(({ run, method, id }) => key(run, method, id)));
  const all = options.runs * options.methods.length * samples.reduce((n, { questions }) => n + questions.length, 0);
  for (let run = 1; run <= options.runs; run++) {
    const kept = results.trainings.around(results.generations.around(options.engine));
    const engine = sampled(kept, options.temperature, options.seed + run - 1);
    for (const sample of samples) {
      for (const spec of options.methods) {
        const open = sample.questions.filter(({ id }) => !done.has(key(run, spec.name, id)));
        const apart = spec.aware || benchmark.play ? open.map((question) => [question]) : open.length > 0 ? [open] : [];
        for (const questions of apart)
          await remember(benchmark, sample, questions, { spec, run, engine, results, all, options });
      }
    }
  }
}

interface Place {
  readonly spec: MethodSpec;
  readonly run: number;
  readonly engine: Engine;
  readonly results: Results;
  readonly all: number;
  readonly options: RunOptions;
}

/** One memory and the questions that it answers. */
async function remember(
  benchmark: Benchmark,
  sample: Sample,
  questions: readonly BenchmarkQuestion[],
  { spec, run, engine, results, all, options }: Place,
): Promise<void> {
  const { budget, embedder, judge, signal, onEvent } = options;
  const where = { run, method: spec.name, sample: sample.id };
  const work = { turn: 0, turns: sample.turns.length, generations: 0, steps: 0 };
  const grow = (what: 'turn' | 'generations' | 'steps') => {
    work[what]++;
    onEvent?.({ type: 'work', ...where, ...work });
  };
  const meter = metered(engine, grow);
  const memory = watchMemory();
  const start = performance.now();
  const reusedBefore = results.generations.reused;
  try {
    await engine.setFastWeights(null);
    const alone = spec.aware || benchmark.play ? questions[0]! : undefined;
    const task = spec.aware ? alone?.question : undefined;
    const method = await spec.open({ engine: meter.engine, budget, task, embedder, signal });
    for (const turn of sample.turns) {
      throwIfAborted(signal);
      await method.observe(turn);
      grow('turn');
    }
    await method.settle();
    const limit = pLimit(options.parallel);
    const answered = questions.map((question) =>
      limit(async () => {
        throwIfAborted(signal);
        const began = performance.now();
        const { text, contextTokens } = await answer(benchmark, method, sample, question, options);
        const ms = Math.round(performance.now() - began);
        const scores = await benchmark.score(question, text, judge, signal);
        const { id, category, reference } = question;
        const asked = { id, category, question: question.question, reference };
        results.addAnswer({ ...where, ...asked, answer: text, scores, contextTokens, ms });
        onEvent?.({ type: 'answered', ...where, done: results.answers.length, of: all });
      }),
    );
    // All of them, so that none is still under way when the method is left.
    const failed = (await Promise.allSettled(answered)).find((outcome) => outcome.status === 'rejected');
    if (failed) throw failed.reason;
    const { text, items, weights } = await method.kept();
    const { promptTokens, outputTokens, trainedTokens, contexts } = meter.cost();
    results.addMemory({
      ...where,
      ...(alone && { question: alone.id }),
      ...{ text, items, weights, seconds: (performance.now() - start) / 1000, peakMiB: memory.peakMiB() },
      ...{ promptTokens, outputTokens, trainedTokens, contexts: [...contexts] },
      reused: results.generations.reused - reusedBefore,
    });
  } finally {
    memory.stop();
    await engine.setFastWeights(null);
  }
}

async function answer(
  benchmark: Benchmark,
  method: Method,
  sample: Sample,
  question: BenchmarkQuestion,
  { embedder, signal }: RunOptions,
) {
  return benchmark.play ? benchmark.play(method, sample, question, { embedder, signal }) : method.answer(question.ask);
}
