/** A benchmark: every method reads every sample and answers its questions, as far as that is not done yet. */
import pLimit from 'p-limit';
import { throwIfAborted } from '../engine/errors.ts';
import type { Embedder, Engine } from '../engine/types.ts';
import { metered } from '../methods/metered.ts';
import type { Method, MethodSpec } from '../methods/types.ts';
import type { Benchmark, BenchmarkQuestion, Judge, Sample } from '../tasks/types.ts';
import { watchMemory } from './peak-memory.ts';
import type { MemoryLine, Results } from './results.ts';
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
      const open: Open[] = options.methods
        .map((spec) => ({ spec, questions: sample.questions.filter(({ id }) => !done.has(key(run, spec.name, id))) }))
        .filter(({ questions }) => questions.length > 0);
      const place: Place = { benchmark, sample, run, engine, results, all, options };
      while (open.length > 0) {
        const { spec, questions } = open.shift()!;
        if (spec.aware || benchmark.play) for (const question of questions) await remember(place, spec, [question], []);
        else for (const other of await remember(place, spec, questions, open)) open.splice(open.indexOf(other), 1);
      }
    }
  }
}

/** A method and the questions that it has not answered yet. */
interface Open {
  readonly spec: MethodSpec;
  readonly questions: readonly BenchmarkQuestion[];
}

interface Place {
  readonly benchmark: Benchmark;
  readonly sample: Sample;
  readonly run: number;
  readonly engine: Engine;
  readonly results: Results;
  readonly all: number;
  readonly options: RunOptions;
}

/** One memory and the questions that it answers. @returns those of the others that have answered theirs from it, too */
async function remember(
  place: Place,
  spec: MethodSpec,
  questions: readonly BenchmarkQuestion[],
  others: readonly Open[],
): Promise<readonly Open[]> {
  const { benchmark, sample, run, engine, results, options } = place;
  const { budget, embedder, signal, onEvent } = options;
  const where = { run, method: spec.name, sample: sample.id };
  const work = { turn: 0, turns: sample.turns.length, generations: 0, steps: 0 };
  const grow = (what: 'turn' | 'generations' | 'steps') => {
    work[what]++;
    onEvent?.({ type: 'work', ...where, ...work });
  };
  const meter = metered(engine, grow);
  const memory = watchMemory();
  const reusedBefore = results.generations.reused;
  let start = performance.now();
  try {
    await engine.setFastWeights(null);
    const alone = spec.aware || benchmark.play ? questions[0]! : undefined;
    const task = spec.aware ? alone?.question : undefined;
    const first = await spec.open({ engine: meter.engine, budget, task, embedder, signal });
    for (const turn of sample.turns) {
      throwIfAborted(signal);
      await first.observe(turn);
      grow('turn');
    }
    await first.settle();
    const reading = meter.cost();

    const lines: MemoryLine[] = [];
    const answerAll = async (method: Method, { name }: MethodSpec, asked: readonly BenchmarkQuestion[]) => {
      const before = meter.cost();
      await answerEach(place, method, name, asked);
      const after = meter.cost();
      const cost = (what: 'promptTokens' | 'outputTokens' | 'trainedTokens') =>
        reading[what] + after[what] - before[what];
      lines.push({
        ...{ ...where, method: name, ...(alone && { question: alone.id }), ...(await method.kept()) },
        ...{ seconds: (performance.now() - start) / 1000, peakMiB: memory.peakMiB() },
        ...{ promptTokens: cost('promptTokens'), outputTokens: cost('outputTokens') },
        trainedTokens: cost('trainedTokens'),
        contexts: [...reading.contexts, ...after.contexts.slice(before.contexts.length)],
        reused: results.generations.reused - reusedBefore,
      });
      start = performance.now();
    };
    await answerAll(first, spec, questions);
    const joined: Open[] = [];
    for (const other of others) {
      const method = await first.as?.(other.spec.name);
      if (!method) continue;
      await answerAll(method, other.spec, other.questions);
      joined.push(other);
    }
    results.addMemories(lines);
    return joined;
  } finally {
    memory.stop();
    await engine.setFastWeights(null);
  }
}

async function answerEach(
  { benchmark, sample, run, results, all, options }: Place,
  method: Method,
  name: string,
  questions: readonly BenchmarkQuestion[],
): Promise<void> {
  const { judge, signal, onEvent, parallel } = options;
  const where = { run, method: name, sample: sample.id };
  const limit = pLimit(parallel);
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
