/** The figures of a run: per method, per category, and how methods differ on the same questions. */
import type { Benchmark } from '../tasks/types.ts';
import type { AnswerLine, MemoryLine } from './results.ts';
import { bootstrapInterval, deviation, type Interval, mean, pairedDifference } from './statistics.ts';

export interface Row {
  readonly method: string;
  /** Questions; every one is answered once in each run. */
  readonly n: number;
  /** Mean over questions and runs, by metric. */
  readonly scores: Readonly<Record<string, number>>;
  /** Of the first metric: standard deviation of the runs' means, and the interval of the mean over questions. */
  readonly deviation: number;
  readonly ci: Interval;
  /** Of the first metric, by category, with the number of questions. */
  readonly categories: Readonly<Record<string, { readonly n: number; readonly score: number }>>;
  readonly cost: Cost;
}

interface Cost {
  readonly seconds: number;
  /** Generations that are not in the seconds, as they were taken over from an earlier run or another method. */
  readonly reused: number;
  readonly promptTokens: number;
  readonly outputTokens: number;
  readonly trainedTokens: number;
  readonly peakMiB: number | null;
  /** Mean length of the context that answers were read from. */
  readonly contextTokens: number;
  /** Longest prompt of all calls. */
  readonly longestContext: number;
}

export interface Difference extends Interval {
  readonly method: string;
  readonly over: string;
  readonly difference: number;
}

export interface Summary {
  readonly metric: string;
  /** Scores are sums. */
  readonly summed: boolean;
  /** All of them, `metric` first. */
  readonly metrics: readonly string[];
  readonly rows: readonly Row[];
  /** The same with the categories that are reported apart, if there are any. */
  readonly rowsWithAll?: readonly Row[];
  /** Of the first metric, every method against the first one, on the questions of `rows`. */
  readonly differences: readonly Difference[];
}

/**
 * @param methods in the order of the report
 * @param answers of questions that every one of the methods has answered in every run; others are left out
 */
export function summarise(
  benchmark: Pick<Benchmark, 'metric' | 'apart' | 'summed'>,
  methods: readonly string[],
  answers: readonly AnswerLine[],
  memories: readonly MemoryLine[],
  runs: number,
): Summary {
  const { metric, apart = [], summed = false } = benchmark;
  const common = answeredByAll(methods, answers, runs);
  const counted = common.filter(({ category }) => !apart.includes(category));
  const rowsOf = (lines: readonly AnswerLine[]) =>
    methods.map((method) => rowOf(method, ofMethod(lines, method), ofMethod(memories, method), metric));
  const [first] = methods;
  const means = (method: string) => meansOfQuestions(ofMethod(counted, method), metric);
  return {
    ...{ metric, summed },
    metrics: [...new Set([metric, ...common.flatMap(({ scores }) => Object.keys(scores))])],
    rows: rowsOf(counted),
    ...(counted.length < common.length && { rowsWithAll: rowsOf(common) }),
    differences:
      counted.length === 0
        ? []
        : methods
            .slice(1)
            .map((method) => ({ method: first!, over: method, ...pairedDifference(means(first!), means(method)) })),
  };
}

function ofMethod<T extends { readonly method: string }>(lines: readonly T[], method: string): T[] {
  return lines.filter((line) => line.method === method);
}

function answeredByAll(methods: readonly string[], answers: readonly AnswerLine[], runs: number): AnswerLine[] {
  const counts = new Map<string, number>();
  for (const { method, id } of answers) if (methods.includes(method)) counts.set(id, (counts.get(id) ?? 0) + 1);
  return answers.filter(({ method, id }) => methods.includes(method) && counts.get(id) === methods.length * runs);
}

/** Mean over runs for every question, in the order of their ids. */
function meansOfQuestions(lines: readonly AnswerLine[], metric: string): number[] {
  const byQuestion = Map.groupBy(lines, ({ id }) => id);
  return [...byQuestion.keys()].sort().map((id) => mean(byQuestion.get(id)!.map(({ scores }) => scores[metric] ?? 0)));
}

function rowOf(method: string, lines: readonly AnswerLine[], memories: readonly MemoryLine[], metric: string): Row {
  const questions = meansOfQuestions(lines, metric);
  const byRun = [...Map.groupBy(lines, ({ run }) => run).values()];
  const metrics = [...new Set(lines.flatMap(({ scores }) => Object.keys(scores)))];
  const byCategory = [...Map.groupBy(lines, ({ category }) => category)].sort(([a], [b]) => a.localeCompare(b));
  const sum = (value: (line: MemoryLine) => number) => memories.reduce((all, line) => all + value(line), 0);
  const peaks = memories.flatMap(({ peakMiB }) => (peakMiB === null ? [] : [peakMiB]));
  const none = { low: 0, high: 0 };
  return {
    method,
    n: questions.length,
    scores: Object.fromEntries(metrics.map((name) => [name, mean(lines.map(({ scores }) => scores[name] ?? 0))])),
    deviation: deviation(byRun.map((run) => mean(run.map(({ scores }) => scores[metric] ?? 0)))),
    ci: questions.length > 0 ? bootstrapInterval(questions) : none,
    categories: Object.fromEntries(
      byCategory.map(([category, of]) => {
        const means = meansOfQuestions(of, metric);
        return [category, { n: means.length, score: mean(means) }];
      }),
    ),
    cost: {
      seconds: sum(({ seconds }) => seconds),
      reused: sum(({ reused }) => reused),
      promptTokens: sum(({ promptTokens }) => promptTokens),
      outputTokens: sum(({ outputTokens }) => outputTokens),
      trainedTokens: sum(({ trainedTokens }) => trainedTokens),
      peakMiB: peaks.length > 0 ? Math.max(...peaks) : null,
      contextTokens: lines.length > 0 ? mean(lines.map(({ contextTokens }) => contextTokens)) : 0,
      longestContext: memories.reduce((most, { contexts }) => contexts.reduce((a, b) => Math.max(a, b), most), 0),
    },
  };
}

/** A score as it is shown: in percent, a sum as it is. */
export function shownScore(score: number, { summed }: Pick<Summary, 'summed'>): string {
  return summed ? score.toFixed(2) : (100 * score).toFixed(1);
}
