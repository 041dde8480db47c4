/**
 * Several questions answered at once, as in MEM1: the answers stand in one block, between semicolons, in the questions'
 * order.
 * Source of the rules: MIT-MI/MEM1, Mem1/inference/eval.py, from which the paper's figures come. It is not Search-R1's
 * exact match, with which MEM1 is trained (train/verl/utils/reward_score/qa_multiple.py): there articles are dropped
 * and a wrong number of answers costs only those that are missing; here articles stay, punctuation parts words, F1 is
 * that of the sets of words, and a wrong number of answers, a semicolon at the end included, scores 0 on all of them.
 */
import { PUNCTUATION, words } from './text.ts';

/** What stands in the last `<answer>` block; null where there is none, or a tag too many of either kind. */
export function answerBlock(text: string): string | null {
  const opened = [...text.matchAll(/<answer>/gi)];
  const closed = [...text.matchAll(/<\/answer>/gi)];
  if (opened.length === 0 || opened.length !== closed.length || opened.at(-1)!.index > closed.at(-1)!.index)
    return null;
  return [...text.matchAll(/<answer>(.*?)<\/answer>/gis)].at(-1)![1]!.trim();
}

/** One answer for each semicolon, and one more. */
export function splitAnswers(block: string): string[] {
  return block.split(';').map((answer) => answer.trim());
}

const searchWords = (text: string) => words(text.toLowerCase().replace(PUNCTUATION, ' '));

function setF1(answer: ReadonlySet<string>, reference: ReadonlySet<string>): number {
  const shared = [...answer].filter((word) => reference.has(word)).length;
  return shared === 0 ? 0 : (2 * shared) / (answer.size + reference.size);
}

/**
 * Exact matches, and F1 with the reference that is met best, summed over the questions: from 0 to their number.
 * @param text all that the model said
 * @param references for every question, the answers that are right
 */
export function scoreAnswers(text: string, references: readonly (readonly string[])[]): { em: number; f1: number } {
  const block = answerBlock(text);
  const answers = block === null ? [] : splitAnswers(block);
  const sum = { em: 0, f1: 0 };
  if (answers.length !== references.length) return sum;
  for (const [i, answer] of answers.entries()) {
    const given = searchWords(answer);
    const wanted = references[i]!.map(searchWords);
    if (wanted.some((reference) => reference.join(' ') === given.join(' '))) sum.em++;
    sum.f1 += Math.max(0, ...wanted.map((reference) => setF1(new Set(given), new Set(reference))));
  }
  return sum;
}
