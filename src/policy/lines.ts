/**
 * Extractions as plain lines, a fact each, instead of JSON: a third of the tokens, and no syntax that a tiny model loses when it is sampled. The
 * agent is given the pairs that it expects: of a fact, the question leaves out its last word.
 */
import { parseExtraction } from '../agent/parse.ts';
import type { ChatMessage } from '../engine/types.ts';

const SYSTEM = `You write down facts of a message for someone who will never see it. Write a line for each: one fact that the message states, in one short full sentence.
Facts are names, numbers, dates, places, jobs, things, plans, preferences. "I" and "my" mean the one who speaks: write the name instead. Never "he", "she", "it" or "you"; real dates, never "yesterday". Greetings, questions and remarks on what others said give no line.`;
/** What an example without facts answers. */
const NONE = '-';

/** The context of an extraction (see agent/context.ts) that asks for lines. */
export function asLines(context: readonly ChatMessage[]): ChatMessage[] {
  return context.map((message) => {
    if (message.role === 'system') return { ...message, content: SYSTEM };
    if (message.role !== 'assistant') return message;
    const facts = parseExtraction(message.content)?.pairs.map(({ output }) => output) ?? [];
    return { ...message, content: facts.join('\n') || NONE };
  });
}

/** The extraction as JSON; a line of one word is no fact. */
export function linesToJson(text: string): string {
  const pairs = text.split('\n').flatMap((line) => {
    const output = line.trim();
    const [beginning] = /^.*\S(?=\s+\S+$)/.exec(output) ?? [];
    return beginning ? [{ output, instruction: `${beginning} what?` }] : [];
  });
  return JSON.stringify({ pairs });
}
