/** What is asked after a write, with an empty context. */
import { complete, type Engine } from '../engine/types.ts';
import { recalls } from './recall.ts';
import type { Pair, QuizResult, WriteEvent } from './types.ts';

export interface Question {
  readonly kind: QuizResult['kind'];
  readonly pair: Pair;
  /** Default the pair's own. */
  readonly question?: string;
}

export interface QuizOptions {
  readonly signal?: AbortSignal | undefined;
  readonly onEvent?: ((event: WriteEvent) => void) | undefined;
}

/** Asks all questions of the weights in force. */
export async function quiz(
  engine: Engine,
  questions: readonly Question[],
  { signal, onEvent = () => {} }: QuizOptions,
): Promise<QuizResult[]> {
  return Promise.all(
    questions.map(async ({ kind, pair, question = pair.instruction }) => {
      const { output } = pair;
      const prompt = [{ role: 'user' as const, content: question }];
      // Where every token of the output is the most probable one, it is what greedy decoding says: reading is faster than writing.
      const { tokens, greedy } = await engine.score({ prompt, answer: output, signal });
      const text = greedy.every(Boolean)
        ? output
        : (await complete(engine, { prompt, maxTokens: tokens.length + 12, signal })).text;
      const result = { kind, pair: pair.id, question, answer: text.trim(), ok: recalls(text, pair) };
      onEvent({ type: 'quiz', kind, question, answer: result.answer, ok: result.ok });
      return result;
    }),
  );
}

/** Tokens that an answer to a pair's question may have when it is asked at leisure. */
const ANSWER_TOKENS = 64;

/** What the weights in force say to a pair's question with an empty context, and whether that is its answer. */
export async function askPair(
  engine: Engine,
  pair: Pair,
  signal?: AbortSignal,
): Promise<{ readonly answer: string; readonly ok: boolean }> {
  const prompt = [{ role: 'user' as const, content: pair.instruction }];
  const answer = (await complete(engine, { prompt, maxTokens: ANSWER_TOKENS, signal })).text.trim();
  return { answer, ok: recalls(answer, pair) };
}

/** How many answers of a kind are right, and of how many. */
export function score(results: readonly QuizResult[], kind: QuizResult['kind']): { right: number; asked: number } {
  const of = results.filter((result) => result.kind === kind);
  return { right: of.filter((result) => result.ok).length, asked: of.length };
}
