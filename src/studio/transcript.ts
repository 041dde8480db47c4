/** The conversation on the screen: questions, answers, and what the memory did meanwhile. */
import type { ChatMessage } from './api.ts';
import type { AskResult, CompletionMemory, SessionState, WhyResult } from './types.ts';

export type Progress = 'running' | 'done' | 'stopped' | 'failed';

export interface Exchange {
  readonly kind: 'exchange';
  readonly id: number;
  readonly question: string;
  readonly answer: string;
  readonly state: Progress;
  /** What the server does before it answers. */
  readonly status: string;
  readonly writes: CompletionMemory['writes'];
  readonly why: WhyResult | null;
}

/** One question, asked with an empty context with the memory and without it. */
export interface Comparison {
  readonly kind: 'comparison';
  readonly id: number;
  readonly question: string;
  readonly state: Progress;
  readonly with: AskResult | null;
  readonly without: AskResult | null;
}

export type Entry = Exchange | Comparison;

export type TranscriptAction =
  | { readonly type: 'load'; readonly entries: readonly Entry[] }
  | { readonly type: 'begin'; readonly id: number; readonly kind: Entry['kind']; readonly question: string }
  | { readonly type: 'text'; readonly id: number; readonly text: string }
  | { readonly type: 'status'; readonly id: number; readonly text: string }
  | { readonly type: 'memory'; readonly id: number; readonly memory: CompletionMemory }
  | { readonly type: 'side'; readonly id: number; readonly side: 'with' | 'without'; readonly result: AskResult }
  | { readonly type: 'why'; readonly id: number; readonly result: WhyResult }
  | { readonly type: 'end'; readonly id: number; readonly state: Exclude<Progress, 'running'> };

export function transcript(entries: readonly Entry[], action: TranscriptAction): readonly Entry[] {
  if (action.type === 'load') return action.entries;
  if (action.type === 'begin') {
    const begun = { id: action.id, question: action.question, state: 'running' as const };
    // What is tried again moves to the end.
    const others = entries.filter(({ id }) => id !== action.id);
    return action.kind === 'exchange'
      ? [...others, { kind: 'exchange', ...begun, answer: '', status: '', writes: [], why: null }]
      : [...others, { kind: 'comparison', ...begun, with: null, without: null }];
  }
  return entries.map((entry) => (entry.id === action.id ? changed(entry, action) : entry));
}

function changed(entry: Entry, action: Exclude<TranscriptAction, { type: 'load' | 'begin' }>): Entry {
  if (action.type === 'end') return { ...entry, state: action.state };
  if (entry.kind === 'comparison') return action.type === 'side' ? { ...entry, [action.side]: action.result } : entry;
  switch (action.type) {
    case 'text':
      return { ...entry, answer: entry.answer + action.text, status: '' };
    case 'status':
      return { ...entry, status: action.text };
    case 'memory':
      return { ...entry, writes: action.memory.writes };
    case 'why':
      return { ...entry, why: action.result };
    default:
      return entry;
  }
}

/** What is sent: every exchange that has an answer, in order. */
export function messagesOf(entries: readonly Entry[]): ChatMessage[] {
  return entries.flatMap((entry): ChatMessage[] => {
    if (entry.kind === 'comparison' || (entry.state === 'failed' && entry.answer === '')) return [];
    const said = [
      { role: 'user' as const, content: entry.question },
      { role: 'assistant' as const, content: entry.answer },
    ];
    return said.filter(({ content }) => content !== '');
  });
}

/** The turns that a session still has in its context, as a conversation to go on with. */
export function fromWorking(working: SessionState['working']): Entry[] {
  const entries: Exchange[] = [];
  for (const { role, content, index } of working) {
    const last = entries.at(-1);
    if (role === 'user' || !last || last.answer !== '')
      entries.push({
        ...{ kind: 'exchange', id: -1 - index, state: 'done', status: '', writes: [], why: null },
        ...(role === 'user' ? { question: content, answer: '' } : { question: '', answer: content }),
      });
    else entries[entries.length - 1] = { ...last, answer: content };
  }
  return entries;
}

/** What was kept of an earlier visit: whatever was running then has stopped. @returns [] for what cannot be read. */
export function fromStored(text: string | null): Entry[] {
  try {
    const entries = JSON.parse(text ?? '[]') as Entry[];
    return entries.map((entry) => (entry.state === 'running' ? { ...entry, state: 'stopped' } : entry));
  } catch {
    return [];
  }
}
