/** What the methods share: the answer, room in contexts, and long turns cut into pieces. */
import { countTokens } from '../agent/context.ts';
import { chunk } from '../agent/extract.ts';
import { TmemError } from '../engine/errors.ts';
import { complete, type Engine, type FastWeights } from '../engine/types.ts';
import type { Turn } from '../memory/types.ts';
import { answerPrompt, GENERAL_TASK } from './prompts.ts';
import type { Answer, MethodOptions, Question } from './types.ts';

/** Tokens of an answer when the question names none. */
export const ANSWER_TOKENS = 64;
/** Tokens that a budget must leave for what is read. */
const LEAST_ROOM = 64;

/** What is read for: the question itself where it is known. @throws TmemError `usage` when it is to be known and is not. */
export function taskOf(aware: boolean, { task }: MethodOptions): string {
  if (!aware) return GENERAL_TASK;
  if (!task) throw new TmemError('usage', 'This method reads for a question; give the question as its task.');
  return task;
}

/**
 * Answers from what was kept, and from nothing else: greedy, trimmed, nothing remembered.
 * @param fastWeights whether those in force take part. Default false.
 */
export async function answerFrom(
  { engine, signal }: MethodOptions,
  kept: string,
  { text, maxTokens = ANSWER_TOKENS }: Question,
  { fastWeights = false }: { readonly fastWeights?: boolean } = {},
): Promise<Answer> {
  const done = await complete(engine, { prompt: answerPrompt(kept, text), maxTokens, fastWeights, signal });
  return { text: done.text.trim(), contextTokens: done.promptTokens };
}

/** Whether the context of a question has room for a kept text. */
export async function fitsAnswer(
  { engine, budget }: MethodOptions,
  kept: string,
  question: Question,
): Promise<boolean> {
  return (await countTokens(engine, answerPrompt(kept, question.text))) <= budget;
}

/**
 * @param needed tokens of a working context before anything is read into it
 * @throws TmemError `usage` for a budget that leaves no room to read, or that the engine's context does not hold
 */
export function checkBudget({ engine, budget }: MethodOptions, needed: number): void {
  const least = needed + LEAST_ROOM;
  const { contextSize } = engine.model;
  if (!Number.isInteger(budget) || budget < least || budget > contextSize)
    throw new TmemError(
      'usage',
      `A budget of ${budget} tokens does not do for this method; give a whole number from ${least} to ${contextSize}.`,
    );
}

/** A turn in pieces of at most so many tokens each, cut behind a sentence where one fits. Nothing but blanks is lost. */
export async function piecesOf(engine: Engine, turn: Turn, tokens: number): Promise<Turn[]> {
  const parts = await chunk(engine, [{ turn, index: 0 }], { chunkTurns: 1, chunkTokens: tokens });
  return parts.flat().map((part) => part.turn);
}

/** Bytes of A and B. */
export function bytesOf(weights: FastWeights | null): number {
  return (weights?.tensors ?? []).reduce((sum, { a, b }) => sum + a.byteLength + b.byteLength, 0);
}

const CHUNK = { tokens: 256, share: 1 / 4 };

/** Tokens of a piece of text that is kept as it is: no more than a quarter of the budget. */
export function chunkTokens({ budget }: MethodOptions): number {
  return Math.min(CHUNK.tokens, Math.floor(budget * CHUNK.share));
}

/** The first of the items, best first, laid out: as many as the context of the question has room for. */
export async function mostThatFit<T>(
  options: MethodOptions,
  question: Question,
  items: readonly T[],
  layOut: (items: readonly T[]) => string,
): Promise<string> {
  for (let n = items.length; n > 0; n--) {
    const text = layOut(items.slice(0, n));
    if (await fitsAnswer(options, text, question)) return text;
  }
  return '';
}
