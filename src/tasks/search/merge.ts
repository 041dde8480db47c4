/**
 * Several single questions as one, as MEM1 builds its multi-objective tasks (arXiv 2506.15841, section 4;
 * github.com/MIT-MI/MEM1).
 */
import { z } from 'zod';
import { readJsonl } from '../../agent/jsonl.ts';
import { TmemError } from '../../engine/errors.ts';
import { randomSource } from '../../engine/training/random.ts';

export interface SingleQuestion {
  readonly id: string;
  readonly question: string;
  /** All answers that are right. */
  readonly answers: readonly string[];
}

export interface MergedQuestion {
  readonly parts: readonly SingleQuestion[];
}

const answersSchema = z.union([
  z
    .string()
    .min(1)
    .transform((answer) => [answer]),
  z.array(z.string().min(1)).min(1),
]);
/** HotpotQA, NQ-open, and both as in FlashRAG's collection. */
const questionSchema = z
  .object({
    id: z.union([z.string(), z.number()]).optional(),
    _id: z.string().optional(),
    question: z.string().trim().min(1),
    answer: answersSchema.optional(),
    golden_answers: answersSchema.optional(),
  })
  .refine(({ answer, golden_answers }) => answer ?? golden_answers, 'there is neither answer nor golden_answers');

/** @throws TmemError `missing` when the file cannot be read, `usage` naming the line that is wrong. */
export async function readQuestions(file: string): Promise<SingleQuestion[]> {
  const lines = await readJsonl(file, questionSchema, 'questions');
  return lines.map(({ id, _id, question, answer, golden_answers }, i) => ({
    id: String(id ?? _id ?? i + 1),
    question,
    answers: (golden_answers ?? answer)!,
  }));
}

/**
 * Shuffles the questions and takes `objectives` of them at a time; what is left over at the end is not used. The same
 * seed gives the same tasks.
 * @throws TmemError `usage` when there are too few.
 */
export function mergeQuestions(
  singles: readonly SingleQuestion[],
  { objectives, seed }: { readonly objectives: number; readonly seed: number },
): MergedQuestion[] {
  if (!Number.isInteger(objectives) || objectives < 1)
    throw new TmemError('usage', `${objectives} questions cannot be merged into one; give a whole number from 1 on.`);
  if (singles.length < objectives)
    throw new TmemError(
      'usage',
      `${objectives} questions are to be merged into one, but there are ${singles.length} in all.`,
    );
  const random = randomSource(seed);
  const shuffled = [...singles];
  for (let i = shuffled.length - 1; i > 0; i--) {
    const j = Math.floor(random() * (i + 1));
    [shuffled[i], shuffled[j]] = [shuffled[j]!, shuffled[i]!];
  }
  return Array.from({ length: Math.floor(shuffled.length / objectives) }, (_, i) => ({
    parts: shuffled.slice(i * objectives, (i + 1) * objectives),
  }));
}
