/**
 * Questions about long conversations: LoCoMo and LongMemEval from their published files. An episode reads one conversation and answers
 * some of its questions; the reward is their mean F1, as the TMEM paper reports it.
 *
 * - Question-agnostic by default. `aware` shows the extraction the question, as in the paper, and asks that one only.
 * - The last fifth of the conversations is held out.
 */
import { exactMatch, f1 } from '../../benchmarks/scoring/text.ts';
import type { Benchmark } from '../../benchmarks/types.ts';
import { TmemError } from '../../engine/errors.ts';
import { randomSource } from '../../engine/training/random.ts';
import { mean } from '../advantages.ts';
import type { Environment } from '../environment.ts';
import { seedOf } from '../seeds.ts';

export interface ConversationOptions {
  readonly data: string;
  /** Questions of an episode. Default 4. */
  readonly questions?: number | undefined;
  readonly aware?: boolean | undefined;
}

const HELD_OUT = 0.2;

/** @throws TmemError `usage` when there are not at least two conversations; as the benchmark's reader does. */
export async function conversationEnvironment(
  benchmark: Pick<Benchmark, 'name' | 'read' | 'apart'>,
  { data, questions: most = 4, aware = false }: ConversationOptions,
): Promise<Environment> {
  const samples = await benchmark.read(data);
  const train = splitAt(samples, data);
  const count = aware ? 1 : most;
  return {
    name: benchmark.name,
    episode(seed, split) {
      const random = randomSource(seedOf(benchmark.name, split, seed));
      const sample = oneOf(split === 'train' ? samples.slice(0, train) : samples.slice(train), random);
      const open = sample.questions.filter(({ category }) => !benchmark.apart?.includes(category));
      const asked: typeof open = [];
      while (asked.length < count && open.length > 0) asked.push(...open.splice(Math.floor(random() * open.length), 1));
      const over = (score: typeof f1) => (answers: readonly string[]) =>
        mean(asked.map(({ reference }, i) => score(answers[i] ?? '', reference)));
      return {
        id: `${sample.id}-${split}-${seed}`,
        ...(aware && { task: asked[0]!.question }),
        turns: sample.turns,
        questions: asked.map(({ ask, reference }) => ({ text: ask.text, gold: reference, maxTokens: ask.maxTokens })),
        reward: over(f1),
        figures: (answers) => ({ exact: over(exactMatch)(answers) }),
      };
    },
  };
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
