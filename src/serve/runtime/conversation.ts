/** Clients send their whole conversation every time: which of its messages a session has not taken in yet. */
import { createHash } from 'node:crypto';
import { TOOLS } from '../../agent/prompts.ts';
import type { Seen, Snapshot } from '../../memory/session.ts';
import type { Turn } from '../../memory/types.ts';
import type { ConversationMessage } from '../types.ts';

/** Messages of the past that are still recognised. */
const MOST_SEEN = 4096;

export interface Message {
  readonly turn: Turn;
  /** Of the message and of all before it in its conversation. */
  readonly hash: string;
}

/** Characters of a hash that name its conversation: those of its first message. */
const ROOT = 8;

/** The messages but those of the system, as turns. */
export function messagesOf(conversation: readonly ConversationMessage[], time?: string): Message[] {
  const names = new Map<string, string>();
  let before = '';
  const messages: Message[] = [];
  for (const message of conversation) {
    if (message.role === 'system') continue;
    if (message.role === 'assistant') for (const call of message.toolCalls ?? []) names.set(call.id, call.name);
    const turn = turnOf(message, names);
    before = chain(before, turn);
    if (turn.content !== '') messages.push({ hash: before, turn: { ...turn, ...(time && { time }) } });
  }
  return messages;
}

/** The hash of what comes after a conversation that ends with `before` ('' is its beginning). */
export function chain(before: string, { role, content }: Turn): string {
  const hash = createHash('sha256')
    .update(JSON.stringify([before, role, content.trim()]))
    .digest('hex')
    .slice(0, 32);
  return (before || hash).slice(0, ROOT) + hash;
}

/** A call as the model writes it, so that it reads its own words. */
export const callText = (name: string, args: string) => `{"tool": ${JSON.stringify(name)}, "arguments": ${args}}`;

function turnOf(message: Exclude<ConversationMessage, { role: 'system' }>, names: ReadonlyMap<string, string>): Turn {
  switch (message.role) {
    case 'user':
      return { role: 'user', content: message.content };
    case 'assistant': {
      const calls = (message.toolCalls ?? []).map((call) => callText(call.name, call.arguments));
      return { role: 'assistant', content: [message.content, ...calls].filter(Boolean).join('\n') };
    }
    case 'tool': {
      const name = message.name ?? names.get(message.callId) ?? 'tool';
      return { role: 'tool', content: `${TOOLS.result.replace('{name}', () => name)}\n${message.content}` };
    }
  }
}

export interface Reconciled {
  /** The session without turns that the client has taken back: an answer that is asked for again, a message that was edited. */
  readonly snapshot: Snapshot;
  readonly isChanged: boolean;
  /** What has not been taken in yet, in order. */
  readonly added: readonly Message[];
}

/**
 * Compares a conversation with what the session has seen. What was written into the weights stays there. A conversation that goes another
 * way than before takes back what it had said there; one that only ends earlier may be a new one that begins alike, so then only the
 * model's own last turns are taken back.
 */
export function reconcile(snapshot: Snapshot, messages: readonly Message[]): Reconciled {
  const { seen = [], working } = snapshot;
  const known = new Map(seen.map(({ hash, turn }) => [hash, turn]));
  const fresh = messages.filter(({ hash }) => !known.has(hash));
  // What is to be answered is said once more where something else was said, or written, since.
  const asked = messages.slice(-1);
  const addedTo = (turns: Snapshot['working']) =>
    fresh.length > 0 || turns.at(-1)?.turn.content === asked[0]?.turn.content ? fresh : asked;
  const shared = messages.map(({ hash }) => known.get(hash)).filter((turn) => turn !== undefined);
  const unchanged: Reconciled = { snapshot, isChanged: false, added: addedTo(working) };
  if (shared.length === 0) return unchanged;
  const last = Math.max(...shared);
  const root = messages[0]!.hash.slice(0, ROOT);
  const here = new Set(messages.map(({ hash }) => hash));
  const isGone = ({ hash, turn }: Seen) => turn > last && hash.startsWith(root) && !here.has(hash);
  const gone = new Set(seen.filter(isGone).map(({ turn }) => turn));
  const unwritten = working.filter(({ index }) => gone.has(index));
  if (unwritten.length === 0) return unchanged;
  if (fresh.length === 0 && unwritten.some(({ turn }) => turn.role === 'user')) return unchanged;
  const left = working.filter(({ index }) => !gone.has(index));
  return {
    ...{ isChanged: true, added: addedTo(left) },
    snapshot: {
      ...snapshot,
      working: left,
      seen: seen.filter(({ turn }) => !gone.has(turn)),
    },
  };
}

/** What has been seen, with one more. */
export function withSeen(seen: readonly Seen[] = [], hash: string, turn: number): Seen[] {
  return [...seen, { hash, turn }].slice(-MOST_SEEN);
}
