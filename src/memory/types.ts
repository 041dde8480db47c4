/** What a memory is made of. The ledger (`writes`) is the truth; the fast weights are a view of it. */
import { z } from 'zod';
import type { FastWeights, TrainEvent } from '../engine/types.ts';

export const originSchema = z.enum(['user', 'assistant', 'tool', 'document']);
/** Who a text comes from; decides whether it may be trained on. */
export type Origin = z.infer<typeof originSchema>;

/** One thing that was said, read or returned. */
export const turnSchema = z.strictObject({
  role: z.enum(['user', 'assistant', 'tool']),
  content: z.string().min(1),
  /** Name of the person who speaks. */
  speaker: z.string().min(1).max(80).optional(),
  /** When it was said; ISO dates are spelled out for the model. */
  time: z.string().min(1).max(80).optional(),
  /** Where it comes from if the role does not say it (`document` for a text that was read). */
  origin: originSchema.optional(),
});
export type Turn = z.infer<typeof turnSchema>;

export function originOf(turn: Turn): Origin {
  return turn.origin ?? turn.role;
}

/** A question and its answer. */
export const wordingSchema = z.strictObject({ instruction: z.string().min(1), output: z.string().min(1) });
export type Wording = z.infer<typeof wordingSchema>;

/** One fact as it is trained: a question, its answer, and where it was said. */
export const pairSchema = z.strictObject({
  id: z.string().min(1),
  instruction: z.string().min(1),
  output: z.string().min(1),
  /** Verbatim quote. */
  source: z.string().min(1),
  /** Index of the turn that the quote is in, counted over the life of the memory. */
  turn: z.int().nonnegative(),
  time: z.string().optional(),
  origin: originSchema,
  /** Other ways of saying it that were trained beside it. */
  also: z.array(wordingSchema).optional(),
});
export type Pair = z.infer<typeof pairSchema>;

export const quizSchema = z.strictObject({
  /** A pair of the write, the same in other words, or a pair of an earlier write. */
  kind: z.enum(['pair', 'paraphrase', 'earlier']),
  /** Its id. */
  pair: z.string(),
  question: z.string(),
  answer: z.string(),
  ok: z.boolean(),
});
export type QuizResult = z.infer<typeof quizSchema>;

export const writeRecordSchema = z.strictObject({
  id: z.string().min(1),
  /** ISO time of the write. */
  time: z.string(),
  pairs: z.array(pairSchema),
  /** Name of the recipe, and how many last layers it trained. */
  recipe: z.string(),
  layers: z.int().positive().optional(),
  verdict: z.enum(['committed', 'refused', 'empty']),
  /** Why it was refused. */
  reason: z.string().optional(),
  /** Earlier pairs that no longer hold, and the pair of this write that took their place. */
  superseded: z.array(z.strictObject({ pair: z.string(), by: z.string() })).optional(),
  /** The write trained these earlier pairs (ids) anew, together, on fresh weights of a rank that took the place of all others. */
  consolidated: z.strictObject({ rank: z.int().positive(), pairs: z.array(z.string()) }).optional(),
  /** What was asked after the training, and answered. */
  quiz: z.array(quizSchema).optional(),
  /** Loss before each step. A diverged one is not finite, which JSON writes as null. */
  loss: z.array(z.number().or(z.null().transform(() => Number.NaN))),
  /** Pairs whose answer is recalled after the write. */
  recalled: z.int().nonnegative(),
  ms: z.number().nonnegative(),
});
export type WriteRecord = z.infer<typeof writeRecordSchema>;

export interface MemoryState {
  readonly writes: readonly WriteRecord[];
  /** m: the explicit memory, lines of text. */
  readonly explicit: string;
  /** Delta; null is the base model. */
  readonly weights: FastWeights | null;
  /** `ModelInfo.fingerprint` of the model that the weights belong to. */
  readonly baseFingerprint: string;
}

/** A memory with nothing in it. */
export function emptyMemory(baseFingerprint: string): MemoryState {
  return { writes: [], explicit: '', weights: null, baseFingerprint };
}

/** What a write reports while it runs. */
export type WriteEvent =
  | { readonly type: 'write-start'; readonly pairs: number; readonly anchors: number }
  /** Earlier pairs that are trained again beside the new ones. */
  | { readonly type: 'replay'; readonly pairs: number }
  | { readonly type: 'train'; readonly event: TrainEvent; readonly totalSteps?: number }
  | {
      readonly type: 'quiz';
      readonly kind: QuizResult['kind'] | 'anchor';
      readonly question: string;
      readonly answer: string;
      readonly ok: boolean;
    }
  | { readonly type: 'verdict'; readonly record: WriteRecord };

/** `writePairs` with its engine and recipe bound: how an episode writes. */
export type Writer = (
  state: MemoryState,
  pairs: Pair[],
  options: { readonly signal?: AbortSignal; readonly onEvent?: (event: WriteEvent) => void },
) => Promise<{ state: MemoryState; record: WriteRecord }>;
