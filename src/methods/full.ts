/**
 * Full context: every turn is in the context of every question. The budget does not hold for it; what bounds it is the context of the
 * engine (`engine.model.contextSize`). When the turns are longer than that, the oldest go. A turn that is longer than half of that
 * context is cut into pieces.
 *
 * The turns come before the question and their first one is the same for all questions, so that their KV cache serves all of them; a
 * question that is longer than the room that is left for one loses it more of the oldest turns.
 */
import { countTokens, transcriptLine } from '../agent/context.ts';
import { throwIfAborted } from '../engine/errors.ts';
import { ANSWER_TOKENS, answerFrom, piecesOf } from './common.ts';
import { answerPrompt } from './prompts.ts';
import type { MethodOptions, MethodSpec, Question } from './types.ts';

/** Tokens of question and answer that room is left for, but no more than this share of the context. */
const QUESTION_ROOM = { tokens: 512, share: 1 / 4 };

export const full: MethodSpec = {
  name: 'full',
  description: 'Full context: all turns before every question, as many as the context of the engine holds.',
  source: 'baseline',
  aware: false,
  wholeStream: true,
  async open(options) {
    const { engine, signal } = options;
    const { contextSize } = engine.model;
    const room = Math.min(QUESTION_ROOM.tokens, Math.floor(contextSize * QUESTION_ROOM.share));
    const lines: string[] = [];
    /** The lines that are shown when the question is no longer than usual; undefined: not known since the last turn. */
    let usual: Promise<string> | undefined;
    const shown = async (question: Question): Promise<string> => {
      usual ??= newest(options, lines, '', room);
      const text = await usual;
      const answer = question.maxTokens ?? ANSWER_TOKENS;
      const length = (await countTokens(engine, answerPrompt(text, question.text))) + answer;
      return length <= contextSize ? text : newest(options, lines, question.text, answer);
    };
    return {
      async observe(turn) {
        throwIfAborted(signal);
        const pieces = await piecesOf(engine, turn, Math.floor(contextSize / 2));
        lines.push(...pieces.map(transcriptLine));
        usual = undefined;
      },
      settle: async () => throwIfAborted(signal),
      answer: async (question) => answerFrom(options, await shown(question), question),
      kept: async () => ({ text: lines.join('\n'), items: lines.length, weights: 0 }),
    };
  },
};

/** The longest end of the lines that fits into the engine's context with a question and so many tokens more. */
async function newest(
  { engine }: MethodOptions,
  lines: readonly string[],
  question: string,
  room: number,
): Promise<string> {
  const from = (start: number) => lines.slice(start).join('\n');
  const fits = async (start: number) =>
    (await countTokens(engine, answerPrompt(from(start), question))) + room <= engine.model.contextSize;
  let [low, high] = [0, lines.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (await fits(middle)) high = middle;
    else low = middle + 1;
  }
  return from(low);
}
