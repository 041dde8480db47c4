/**
 * Questions about long conversations: LoCoMo and LongMemEval from their published files. An episode reads one conversation and answers
 * some of its questions; the reward is their mean F1, as the TMEM paper reports it.
 *
 * - Question-agnostic by default. `aware` shows the extraction the question, as in the paper, and asks that one only.
 * - A stretch of `turns` turns instead of the whole conversation makes an episode that a small machine can play: what is asked is what stands
 *   in it.
 * - The last fifth of the conversations is held out.
 */
import { TmemError } from '../../engine/errors.ts';
import { randomSource } from '../../engine/training/random.ts';
import { exactMatch, f1 } from '../../tasks/scoring/text.ts';
import type { Benchmark, BenchmarkQuestion, Sample } from '../../tasks/types.ts';
import { mean } from '../advantages.ts';
import type { Environment } from '../environment.ts';
import { seedOf } from '../seeds.ts';

export interface ConversationOptions {
  readonly data: string;
  /** Questions of an episode. Default 4. */
  readonly questions?: number | undefined;
  readonly aware?: boolean | undefined;
  /** Turns of an episode. Default: all of the conversation. */
  readonly turns?: number | undefined;
}

const HELD_OUT = 0.2;

/** @throws TmemError `usage` when there are not at least two conversations; as the benchmark's reader does. */
export async function conversationEnvironment(
  benchmark: Pick<Benchmark, 'name' | 'read' | 'apart'>,
  { data, questions: most = 4, aware = false, turns: length }: ConversationOptions,
): Promise<Environment> {
  const read = await benchmark.read(data);
  const samples = read.map(({ id, turns, questions }): Sample => {
    const asked = questions.filter((question) => {
      return !benchmark.apart?.includes(question.category) && (length === undefined || spanOf(question) <= length);
    });
    return { id, turns, questions: asked };
  });
  const bare = samples.find(({ questions }) => questions.length === 0);
  if (length !== undefined && bare)
    throw new TmemError(
      'usage',
      `No question on ${bare.id} in ${data} can be answered from ${length} turns of it; give more.`,
    );
  const train = splitAt(samples, data);
  const count = aware ? 1 : most;
  return {
    name: benchmark.name,
    episode(seed, split) {
      const random = randomSource(seedOf(benchmark.name, split, seed));
      const sample = oneOf(split === 'train' ? samples.slice(0, train) : samples.slice(train), random);
      const { turns, questions } = length === undefined ? sample : stretchOf(sample, length, random);
      const open = [...questions];
      const asked: typeof open = [];
      while (asked.length < count && open.length > 0) asked.push(...open.splice(Math.floor(random() * open.length), 1));
      const over = (score: typeof f1) => (answers: readonly string[]) =>
        mean(asked.map(({ reference }, i) => score(answers[i] ?? '', reference)));
      return {
        id: `${sample.id}-${split}-${seed}`,
        ...(aware && { task: asked[0]!.question }),
        turns,
        questions: asked.map(({ ask, reference }) => ({ text: ask.text, gold: reference, maxTokens: ask.maxTokens })),
        reward: over(f1),
        figures: (answers) => ({ exact: over(exactMatch)(answers) }),
      };
    },
  };
}

/** `length` turns around the evidence of a random question, and all questions whose evidence stands in them. */
function stretchOf(
  { turns, questions }: Sample,
  length: number,
  random: () => number,
): Pick<Sample, 'turns' | 'questions'> {
  const { evidence } = oneOf(questions, random);
  const [first, last] = [evidence![0]!, evidence!.at(-1)!];
  const [low, high] = [Math.max(0, last - length + 1), Math.max(0, Math.min(first, turns.length - length))];
  const start = low + Math.floor(random() * (high - low + 1));
  const within = (i: number) => i >= start && i < start + length;
  return {
    turns: turns.slice(start, start + length),
    questions: questions.filter((question) => question.evidence!.every(within)),
  };
}

/** Turns from the first one that holds a part of the answer to the last; infinite where none is marked. */
function spanOf({ evidence = [] }: BenchmarkQuestion): number {
  return evidence.length === 0 ? Number.POSITIVE_INFINITY : evidence.at(-1)! - evidence[0]! + 1;
}

/** Samples that are trained on: the first ones. */
export function splitAt(samples: readonly unknown[], data: string): number {
  if (samples.length < 2)
    throw new TmemError('usage', `${data} holds ${samples.length} episode; give two at least, as some are held out.`);
  return Math.min(samples.length - 1, Math.ceil(samples.length * (1 - HELD_OUT)));
}

export function oneOf<T>(items: readonly T[], random: () => number): T {
  return items[Math.floor(random() * items.length)]!;
}
