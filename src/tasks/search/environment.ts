/**
 * Searching for the answers to several questions at once, turn by turn. Source: MEM1 (arXiv 2506.15841; MIT-MI/MEM1,
 * Mem1/inference/data_pipelines.py): three documents a search, a hint how many turns are left, and at the end one
 * answer block.
 *
 * What differs, and why:
 * - Any method plays, and none keeps a state of its own in the prompt: what it did and found is observed as turns and
 *   settled, and each turn it is asked anew, as a question, from what it kept of them.
 * - Ten turns instead of six, as MEM1's evaluation allows for that many.
 * - A reply that holds neither search nor answer costs a turn and is told, as in Search-R1 (arXiv 2503.09516); MEM1
 *   gives up there.
 * - What stands behind the first action is cut off, as the stop words of the original do, and an action that is not
 *   closed counts as one.
 * - The words are our own.
 */
import { throwIfAborted } from '../../engine/errors.ts';
import type { Answer, Method } from '../../methods/types.ts';
import type { PlayOptions } from '../types.ts';
import type { Corpus, SearchedDocument } from './corpus.ts';
import type { MergedQuestion } from './merge.ts';

export const PROMPTS = {
  rules: `You find the answers to several questions with a search engine, over several turns. In every turn you do one of two things:
<search>words to search for</search> finds documents. Search for one question at a time, and do not repeat a search.
<answer>answer 1; answer 2</answer> ends your work. Give a short answer to each question, in the order of the questions, with semicolons between them and no explanations.`,
  questions: 'The questions:',
  left: 'You have {n} turns left. What do you do next?',
  last: 'This is your last turn: give your answers now.',
  found: 'Found by searching for "{query}":',
  document: 'Document {n}: {text}',
  nothing: 'Nothing was found by searching for "{query}".',
  invalid: 'This was neither a search nor an answer: write <search>...</search> or <answer>...</answer>.',
} as const;

const TURNS = 10;
const DOCUMENTS = 3;
const MAX_TOKENS = 128;

export type Action = { readonly type: 'search' | 'answer'; readonly text: string };

/** The first search or answer of a reply, and the reply up to its end. */
export function actionOf(reply: string): { action: Action | null; said: string } {
  const match = /<(search|answer)>(?:(.*?)<\/\1>|([^<]*))/is.exec(reply);
  const text = (match?.[2] ?? match?.[3])?.trim();
  if (!match || !text) return { action: null, said: reply };
  const type = match[1]!.toLowerCase() as Action['type'];
  return { action: { type, text }, said: `${reply.slice(0, match.index)}<${type}>${text}</${type}>` };
}

/** The questions as they are put. */
export function laidOut({ parts }: MergedQuestion): string {
  return parts.map(({ question }, i) => `${i + 1}. ${question}`).join('\n');
}

/** How the method is asked for its next action. */
export function nextAction(merged: MergedQuestion, left: number) {
  const questions = laidOut(merged);
  const turn = left > 1 ? PROMPTS.left.replace('{n}', String(left)) : PROMPTS.last;
  const text = `${PROMPTS.rules}\n\n${PROMPTS.questions}\n${questions}\n\n${turn}`;
  return { text, query: questions, maxTokens: MAX_TOKENS };
}

/**
 * Lets a method search until it answers or has no turn left.
 * @returns its last reply, which holds the answer block if it answered, and the longest of its contexts
 */
export async function playSearch(
  method: Pick<Method, 'observe' | 'settle' | 'answer'>,
  merged: MergedQuestion,
  corpus: Corpus,
  options: PlayOptions,
): Promise<Answer> {
  let contextTokens = 0;
  for (let left = TURNS; ; left--) {
    throwIfAborted(options.signal);
    const reply = await method.answer(nextAction(merged, left));
    contextTokens = Math.max(contextTokens, reply.contextTokens);
    const { action, said } = actionOf(reply.text);
    if (action?.type === 'answer' || left === 1) return { text: said, contextTokens };
    if (said.trim()) await method.observe({ role: 'assistant', content: said });
    if (action) {
      const found = await corpus.search(action.text, DOCUMENTS, options);
      // What was found is text of the user's corpus, so that it may be learned.
      await method.observe({ role: 'tool', content: results(action.text, found), origin: 'document' });
    } else await method.observe({ role: 'tool', content: PROMPTS.invalid });
    await method.settle();
  }
}

function results(query: string, found: readonly SearchedDocument[]): string {
  const about = (template: string) => template.replace('{query}', () => query);
  if (found.length === 0) return about(PROMPTS.nothing);
  const documents = found.map(({ title, text }, i) => {
    const whole = title ? `(${title}) ${text}` : text;
    return PROMPTS.document.replace('{n}', String(i + 1)).replace('{text}', () => whole);
  });
  return [about(PROMPTS.found), ...documents].join('\n');
}
