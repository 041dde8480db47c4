/** The contexts of the method as chat messages: (q, h, m), (q, h, m, d), and (q, m) for a question. */
import type { ChatMessage, Engine } from '../engine/types.ts';
import type { WorkingTurn } from '../memory/session.ts';
import type { Turn } from '../memory/types.ts';
import { EXTRACTION, MEMORY_HEADER, SYSTEM } from './prompts.ts';
import { SENTENCE_END } from './split.ts';

/** (q, h, m): what the policy sees while it works. */
export function workingContext(parts: {
  readonly task: string;
  readonly history: readonly WorkingTurn[];
  readonly memory: string;
  /** More for the system message, such as the tools. */
  readonly extra?: string;
}): ChatMessage[] {
  const system = [SYSTEM, parts.task, parts.extra ?? '', notes(parts.memory)].filter(Boolean).join('\n\n');
  return merge([{ role: 'system', content: system }, ...parts.history.map(({ turn }) => asMessage(turn))]);
}

/**
 * (q, m): a question with nothing else. Without explicit memory it is the bare question, rendered as the pairs were when
 * they were trained, so that the answer comes from the weights alone.
 */
export function answerContext(question: string, memory: string): ChatMessage[] {
  const user: ChatMessage = { role: 'user', content: question };
  return memory ? [{ role: 'system', content: `${SYSTEM}\n\n${notes(memory)}` }, user] : [user];
}

/** (q, h, m, d) for one part of h. `task` is given in question-aware extraction only. */
export function extractionContext(parts: {
  readonly task?: string;
  /** Turns before the part, to understand it by. */
  readonly earlier: readonly Turn[];
  readonly part: readonly Turn[];
}): ChatMessage[] {
  const aware = parts.task ? ` ${EXTRACTION.aware.replace('{task}', () => parts.task!)}` : '';
  const before = parts.earlier.length > 0 ? `${EXTRACTION.earlier}\n${layOut(parts.earlier).text}\n\n` : '';
  const ask = (part: string) => `${EXTRACTION.part}\n${part}\n\n${EXTRACTION.directive}`;
  return [
    { role: 'system', content: EXTRACTION.system },
    ...EXTRACTION.examples.flatMap(({ part, answer }): ChatMessage[] => [
      { role: 'user', content: ask(part) },
      { role: 'assistant', content: JSON.stringify(answer) },
    ]),
    { role: 'user', content: before + ask(layOut(parts.part).text) + aware },
  ];
}

/**
 * Turns as they are shown to the extraction: a line `Name: sentence` for each sentence, under the date when it changes.
 * `quotes` gives the sentence, as it was said, for each such line.
 */
export function layOut(turns: readonly Turn[]): {
  readonly text: string;
  readonly quotes: ReadonlyMap<string, string>;
} {
  const lines: string[] = [];
  const quotes = new Map<string, string>();
  let date = '';
  for (const turn of turns) {
    const spelled = turn.time === undefined ? date : spellTime(turn.time).replace(/, \d{2}:\d{2}$/, '');
    if (spelled !== date) lines.push(spelled);
    date = spelled;
    for (const sentence of turn.content.split(SENTENCE_END).map((s) => s.trim())) {
      const line = `${speakerOf(turn)}: ${sentence}`;
      if (sentence) lines.push(line);
      if (sentence) quotes.set(line, sentence);
    }
  }
  return { text: lines.join('\n'), quotes };
}

/** Length of a context in the model's own tokens. */
export async function countTokens(engine: Engine, messages: readonly ChatMessage[]): Promise<number> {
  return (await engine.tokenize(await engine.renderChat(messages))).length;
}

/** Turns as lines `[date] Name: text`. */
export function transcript(turns: readonly Turn[]): string {
  return turns.map(transcriptLine).join('\n');
}

const ROLE_NAMES = { user: 'User', assistant: 'Assistant', tool: 'Tool' } as const;

export function transcriptLine(turn: Turn): string {
  const time = turn.time ? `[${spellTime(turn.time)}] ` : '';
  return `${time}${speakerOf(turn)}: ${turn.content}`;
}

function speakerOf(turn: Turn): string {
  return turn.speaker ?? (turn.origin === 'document' ? 'Text' : ROLE_NAMES[turn.role]);
}

const MONTHS = 'January February March April May June July August September October November December'.split(' ');
const DAYS = 'Sunday Monday Tuesday Wednesday Thursday Friday Saturday'.split(' ');

/**
 * An ISO time as words with the day of the week ("Saturday 14 March 2026, 09:30"), which a model needs to resolve
 * "last Monday". The clock is the one it was written with. Anything else stays as it is.
 */
export function spellTime(time: string): string {
  const match = /^(\d{4})-(\d{2})-(\d{2})(?:[T ](\d{2}:\d{2}))?/.exec(time);
  const month = MONTHS[Number(match?.[2]) - 1];
  if (!match || !month) return time;
  const day = new Date(Date.UTC(Number(match[1]), Number(match[2]) - 1, Number(match[3]))).getUTCDay();
  return `${DAYS[day]} ${Number(match[3])} ${month} ${match[1]}${match[4] ? `, ${match[4]}` : ''}`;
}

function asMessage(turn: Turn): ChatMessage {
  // Chat templates know no third speaker and many know no tool role, so both are told in the user's turn.
  const named = turn.speaker || turn.origin === 'document';
  return { role: turn.role === 'tool' ? 'user' : turn.role, content: named ? transcriptLine(turn) : turn.content };
}

/** Neighbours of one role become one message: some templates insist on taking turns. */
function merge(messages: readonly ChatMessage[]): ChatMessage[] {
  const merged: ChatMessage[] = [];
  for (const message of messages) {
    const last = merged.at(-1);
    if (last?.role !== message.role) merged.push(message);
    else merged[merged.length - 1] = { role: last.role, content: `${last.content}\n${message.content}` };
  }
  return merged;
}

function notes(memory: string): string {
  return memory && `${MEMORY_HEADER}\n${memory}`;
}
