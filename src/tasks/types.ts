/** What the benchmarks have in common: streams of turns, questions on them, and how an answer is scored. */
import type { Embedder } from '../engine/types.ts';
import type { Turn } from '../memory/types.ts';
import type { Answer, Method, Question } from '../methods/types.ts';

/** One stream with its questions, such as a conversation. */
export interface Sample {
  readonly id: string;
  readonly turns: readonly Turn[];
  readonly questions: readonly BenchmarkQuestion[];
}

export interface BenchmarkQuestion {
  /** Unique in the file. */
  readonly id: string;
  readonly question: string;
  /** As it is put to the model. */
  readonly ask: Question;
  /** The right answer, in words. */
  readonly reference: string;
  /** By which scores are also reported. */
  readonly category: string;
  /** Indices of the turns that hold the answer, where the file marks them. */
  readonly evidence?: readonly number[] | undefined;
  /** What scoring needs beside that, of the benchmark's own kind. */
  readonly details?: unknown;
}

/** Says yes or no, as a language model that is asked. */
export interface Judge {
  /** Named in every result. */
  readonly name: string;
  /** The model's raw answer to the prompt, of at most `maxTokens`. */
  ask(prompt: string, maxTokens: number, signal?: AbortSignal): Promise<string>;
}

/**
 * By name of the metric. From 0 to 1, but for `search`: its scores are sums over the questions that were merged, as
 * MEM1 reports them.
 */
export type Scores = Readonly<Record<string, number>>;

/** What may be told beside the file; a benchmark takes what it has use for. */
export interface ReadOptions {
  /** Only the first so many samples. Default: all. */
  readonly samples?: number | undefined;
  /** Of what is shuffled. Default 0. */
  readonly seed?: number | undefined;
  /** `locomo`: only the first so many sessions, and the questions whose marked evidence lies in them. Default: all. */
  readonly sessions?: number | undefined;
  /** `search`: questions that are merged into one. Default 2. */
  readonly objectives?: number | undefined;
  /** `search`: the documents that are searched. Default: `corpus.jsonl` in the folder of the questions. */
  readonly corpus?: string | undefined;
}

export interface PlayOptions {
  /** For an environment that searches by embeddings, too. */
  readonly embedder?: Embedder | undefined;
  readonly signal?: AbortSignal | undefined;
}

export interface Benchmark {
  readonly name: string;
  readonly description: string;
  /** The metric that comes first in a report. */
  readonly metric: string;
  /** Scores are sums, which a report shows as they are instead of in percent. */
  readonly summed?: boolean;
  /** What it says to a model beside a question itself. */
  readonly prompts: Readonly<Record<string, unknown>>;
  readonly needsJudge: boolean;
  /** Categories that are not counted in the first table of a report, but only in one of their own beside the others. */
  readonly apart?: readonly string[];
  /** @throws TmemError `usage` naming what in the file is not as published, `missing` when it cannot be read. */
  read(file: string, options?: ReadOptions): Promise<readonly Sample[]>;
  /** Where the stream depends on what the method does, instead of asking `question.ask`. Resolves to what is scored. */
  play?(method: Method, sample: Sample, question: BenchmarkQuestion, options: PlayOptions): Promise<Answer>;
  score(question: BenchmarkQuestion, answer: string, judge: Judge | undefined, signal?: AbortSignal): Promise<Scores>;
}
