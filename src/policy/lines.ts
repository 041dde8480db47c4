/**
 * Extractions as plain lines, `fact | question`, instead of JSON: less than half of the tokens, and no syntax that a tiny model loses when it
 * is sampled. The agent is given the pairs that it expects.
 */
import { parseExtraction, type RawPair } from '../agent/parse.ts';
import { EXTRACTION } from '../agent/prompts.ts';
import type { ChatMessage } from '../engine/types.ts';

const [task, rules] = EXTRACTION.system.split(/ Answer with JSON:.*\n/s) as [string, string];
const SYSTEM = `${task} Write a line for each: one fact that the message states, in one short full sentence, then "|", then the question that this sentence answers.
${rules}`;
/** What an example without pairs answers. */
const NONE = '-';

/** The context of an extraction (see agent/context.ts) that asks for lines. */
export function asLines(context: readonly ChatMessage[]): ChatMessage[] {
  return context.map((message) => {
    if (message.role === 'system') return { ...message, content: SYSTEM };
    if (message.role !== 'assistant') return message;
    return { ...message, content: written(parseExtraction(message.content)?.pairs ?? []) };
  });
}

function written(pairs: readonly RawPair[]): string {
  return pairs.map(({ output, instruction }) => `${output} | ${instruction}`).join('\n') || NONE;
}

/** The extraction as JSON; a line without a question is no pair. */
export function linesToJson(text: string): string {
  const pairs = text.split('\n').flatMap((line) => {
    const [output = '', instruction = ''] = line.split('|').map((part) => part.trim());
    return output && instruction ? [{ output, instruction }] : [];
  });
  return JSON.stringify({ pairs });
}
