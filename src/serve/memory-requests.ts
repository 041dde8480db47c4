/** Bodies of the memory API. Fields that are not known are refused: a wrong name must not be a change of somebody's memory. */
import { z } from 'zod';
import { wordingSchema } from '../memory/types.ts';

const text = z.string().min(1);
const id = z.string().min(1).describe('Id of a pair.');

export const emptySchema = z.strictObject({});
export const askSchema = z.strictObject({
  question: text,
  memory: z.boolean().optional().describe('false: the base model answers. Default true.'),
  retrieve: z.int().min(0).max(64).optional().describe('Nearest pairs that are shown beside the question.'),
  abstain: z.number().min(0).max(1).optional().describe('An answer of a lower confidence is withheld.'),
  tries: z.int().min(1).max(64).optional().describe('Answers at the most when it is not sure; the surest is given.'),
});
export const branchSchema = z.strictObject({ to: text.describe('Name of the new session.') });
export const forgetSchema = z.strictObject({
  query: text.describe('Id of a pair, or words that it holds.'),
  dryRun: z.boolean().optional().describe('Only say what would be forgotten.'),
});
export const recallSchema = z.strictObject({ pairs: z.array(id).min(1).max(1000) });
export const editSchema = z.strictObject({ pair: id, output: text });
export const whySchema = z.strictObject({ question: text });
export const importSchema = z.strictObject({ pairs: z.array(wordingSchema).min(1).max(10_000) });
