/** The contexts of the method as chat messages: (q, h, m), (q, h, m, d), and (q, m) for a question. */
import type { ChatMessage, Engine } from '../engine/types.ts';
import type { WorkingTurn } from '../memory/session.ts';
import { spellDay, spellTime } from '../memory/spell-time.ts';
import type { Pair, Turn } from '../memory/types.ts';
import { EXTRACTION, MEMORY_HEADER, NOTE, RETRIEVED, SYSTEM } from './prompts.ts';

/** (q, h, m): what the policy sees while it works. */
export function workingContext(parts: {
  readonly task: string;
  readonly history: readonly WorkingTurn[];
  readonly memory: string;
  /** More for the system message, such as the tools. */
  readonly extra?: string;
  /** Pairs to show beside them, oldest first. */
  readonly retrieved?: readonly Pair[];
}): ChatMessage[] {
  const { task, extra = '', memory, retrieved = [] } = parts;
  const shown = retrieved.length > 0 ? facts(retrieved) : '';
  const system = [SYSTEM, task, extra, notes(memory), shown].filter(Boolean).join('\n\n');
  return merge([{ role: 'system', content: system }, ...parts.history.map(({ turn }) => asMessage(turn))]);
}

/**
 * (q, m): a question with nothing else. Without explicit memory and retrieved pairs it is the bare question, rendered as the pairs
 * were when they were trained, so that the answer comes from the weights alone.
 * @param retrieved pairs to show beside it, oldest first
 */
export function answerContext(question: string, memory: string, retrieved: readonly Pair[] = []): ChatMessage[] {
  const user: ChatMessage = { role: 'user', content: question };
  if (!memory && retrieved.length === 0) return [user];
  const system = [SYSTEM, notes(memory), retrieved.length > 0 ? facts(retrieved) : ''].filter(Boolean).join('\n\n');
  return [{ role: 'system', content: system }, user];
}

/** (q, h, m, d) for one part of h. `task` is given in question-aware extraction only. */
export function extractionContext(parts: {
  readonly task?: string;
  /** Turns before the part, to understand it by. */
  readonly earlier: readonly Turn[];
  readonly part: readonly Turn[];
  /** Names and numbers of the part that the pairs shall be about. */
  readonly about?: readonly string[] | undefined;
}): ChatMessage[] {
  const aware = parts.task ? `\n${EXTRACTION.aware.replace('{task}', () => parts.task!)}` : '';
  const before = parts.earlier
    .map((turn) => `${EXTRACTION.earlier}${transcriptLine({ ...turn, time: undefined })}\n`)
    .join('');
  const ask = (part: string, about?: readonly string[]) =>
    `${EXTRACTION.part}\n${part}${about ? `\n${EXTRACTION.about.replace('{words}', () => about.join(', '))}` : ''}`;
  return [
    { role: 'system', content: EXTRACTION.system },
    ...EXTRACTION.examples.flatMap(({ part, about, pairs }): ChatMessage[] => [
      { role: 'user', content: ask(part, about) },
      { role: 'assistant', content: JSON.stringify({ pairs }) },
    ]),
    { role: 'user', content: before + ask(layOut(parts.part), parts.about) + aware },
  ];
}

/** A note on the whole of h, for m. */
export function noteContext(session: readonly Turn[]): [ChatMessage, ChatMessage] {
  return [
    { role: 'system', content: NOTE.system },
    { role: 'user', content: layOut(session) },
  ];
}

/** Turns as they are shown to the extraction: lines `Name: text`, under the date when it changes. */
function layOut(turns: readonly Turn[]): string {
  const lines: string[] = [];
  let date = '';
  for (const turn of turns) {
    const spelled = turn.time === undefined ? date : spellDay(turn.time);
    if (spelled !== date) lines.push(spelled);
    date = spelled;
    lines.push(transcriptLine({ ...turn, time: undefined }));
  }
  return lines.join('\n');
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

/** ISO time on the clock of this machine: "tomorrow" means its user's. */
export function localTime(date: Date): string {
  return new Date(date.getTime() - date.getTimezoneOffset() * 60_000).toISOString().slice(0, 16);
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

function facts(pairs: readonly Pair[]): string {
  const lines = pairs.map(({ instruction, output, time }) => {
    const line = RETRIEVED.line.replace('{question}', () => instruction).replace('{answer}', () => output);
    return time ? `[${spellTime(time)}] ${line}` : line;
  });
  return [RETRIEVED.header, ...lines].join('\n');
}
