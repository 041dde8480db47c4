/** The conversation, and one question asked with the memory and without it. */
import type { VNode } from 'preact';
import { useEffect, useLayoutEffect, useReducer, useRef, useState } from 'preact/hooks';
import type { ChatEvent } from './api.ts';
import { useStudio } from './context.ts';
import { EntryView } from './entry.ts';
import { type Entry, fromStored, fromWorking, messagesOf, transcript } from './transcript.ts';
import { html, useDraft } from './ui.ts';

/** Pixels from the end within which the reader follows the answer. */
const NEAR_END = 80;

/** What a session's conversation is kept under while the tab is open. */
export const conversationKey = (session: string) => `tmem.chat.${session}`;

export function Chat(): VNode {
  const { api, session, state, fail, refresh } = useStudio();
  const stored = conversationKey(session);
  const [entries, dispatch] = useReducer(transcript, stored, (key) => fromStored(sessionStorage.getItem(key)));
  const [draft, setDraft] = useDraft(`tmem.draft.${session}`);
  const [comparing, setComparing] = useState(false);
  const [said, setSaid] = useState('');
  const running = useRef<AbortController | null>(null);
  const isRunning = entries.some((entry) => entry.state === 'running');

  useEffect(() => () => running.current?.abort(), []);
  useEffect(() => {
    if (entries.length > 0 || sessionStorage.getItem(stored) !== null)
      sessionStorage.setItem(stored, JSON.stringify(entries));
  }, [stored, entries]);
  // A conversation that was begun elsewhere goes on here.
  const working = state?.working;
  useEffect(() => {
    if (working && working.length > 0 && entries.length === 0 && sessionStorage.getItem(stored) === null)
      dispatch({ type: 'load', entries: fromWorking(working) });
  }, [working, entries, stored]);

  const ask = async (kind: Entry['kind'], question: string, id: number): Promise<void> => {
    const control = new AbortController();
    const { signal } = control;
    running.current = control;
    setSaid(kind === 'comparison' ? 'Asking with and without memory.' : 'Answering.');
    dispatch({ type: 'begin', id, kind, question });
    try {
      if (kind === 'comparison') await compare(question, id, signal);
      else setSaid(await converse(question, id, signal));
      dispatch({ type: 'end', id, state: 'done' });
    } catch (error) {
      dispatch({ type: 'end', id, state: signal.aborted ? 'stopped' : 'failed' });
      setSaid(signal.aborted ? 'Stopped.' : '');
      if (!signal.aborted) fail(error);
    } finally {
      control.abort();
      void refresh();
    }
  };

  const converse = async (question: string, id: number, signal: AbortSignal): Promise<string> => {
    const before = messagesOf(entries.filter((entry) => entry.id !== id));
    const messages = [...before, { role: 'user' as const, content: question }];
    const model = state?.model ?? (await api.models())[0] ?? '';
    let answer = '';
    for await (const event of api.chat(session, model, messages, signal) as AsyncIterable<ChatEvent>) {
      dispatch({ ...event, id });
      if (event.type === 'text') answer += event.text;
    }
    return answer;
  };

  const compare = async (question: string, id: number, signal: AbortSignal): Promise<void> => {
    const side = async (name: 'with' | 'without') =>
      dispatch({ type: 'side', id, side: name, result: await api.ask(session, question, name === 'with', { signal }) });
    await Promise.all([side('with'), side('without')]);
    setSaid('Both answers are there.');
  };

  const send = (): void => {
    const question = draft.trim();
    if (question === '' || isRunning) return;
    setDraft('');
    void ask(comparing ? 'comparison' : 'exchange', question, Date.now());
  };

  return html`
    <${Log} entries=${entries} onRetry=${(entry: Entry) => ask(entry.kind, entry.question, entry.id)}
      onWhy=${(id: number, result: unknown) => dispatch({ type: 'why', id, result } as never)} />
    <p class="visually-hidden" role="status">${said}</p>
    <form class="composer" onSubmit=${(event: Event) => {
      event.preventDefault();
      send();
    }}>
      <label class="visually-hidden" for="message">Message</label>
      <textarea id="message" rows="2" value=${draft} placeholder=${comparing ? 'Ask something it may know' : 'Say something worth remembering'}
        onInput=${(event: InputEvent) => setDraft((event.target as HTMLTextAreaElement).value)}
        onKeyDown=${(event: KeyboardEvent) => {
          if (event.key !== 'Enter' || event.shiftKey || event.isComposing) return;
          event.preventDefault();
          send();
        }}></textarea>
      <div class="composer-row">
        <label class="check"><input type="checkbox" checked=${comparing}
          onChange=${(event: Event) => setComparing((event.target as HTMLInputElement).checked)} />With and without memory</label>
        ${
          entries.length > 0 &&
          html`<button type="button" class="quiet" disabled=${isRunning} onClick=${() => dispatch({ type: 'load', entries: [] })}>
            New chat
          </button>`
        }
        ${
          isRunning
            ? html`<button type="button" class="primary" onClick=${() => running.current?.abort()}>Stop</button>`
            : html`<button type="submit" class="primary" disabled=${draft.trim() === ''}>Send</button>`
        }
      </div>
    </form>`;
}

interface LogProps {
  readonly entries: readonly Entry[];
  readonly onRetry: (entry: Entry) => void;
  readonly onWhy: (id: number, result: unknown) => void;
}

/** What was said. It stays at its end while the reader is there. What is new in it is announced as a whole, not word by word. */
function Log({ entries, onRetry, onWhy }: LogProps): VNode {
  const ref = useRef<HTMLDivElement>(null);
  const atEnd = useRef(true);
  useLayoutEffect(() => {
    if (atEnd.current) ref.current!.scrollTop = ref.current!.scrollHeight;
  }, [entries]);
  return html`<div class="log" ref=${ref} role="log" aria-live="off" aria-label="Conversation" tabindex="0" onScroll=${() => {
    const { scrollTop, scrollHeight, clientHeight } = ref.current!;
    atEnd.current = scrollHeight - scrollTop - clientHeight < NEAR_END;
  }}>
    ${entries.length === 0 && html`<${Welcome} />`}
    ${entries.map((entry) => html`<${EntryView} key=${entry.id} entry=${entry} onRetry=${() => onRetry(entry)} onWhy=${onWhy} />`)}
  </div>`;
}

function Welcome(): VNode {
  const { state, live } = useStudio();
  const known = state?.pairs.filter(({ standing }) => standing).length ?? 0;
  if (known > 0)
    return html`<div class="welcome">
      <p>A new conversation. Its context is empty; what the model knows of earlier ones is in its weights.</p>
    </div>`;
  const budget = live.budget > 0 ? `${live.budget} tokens` : 'its budget';
  return html`<div class="welcome">
    <p>Talk to the model: when the conversation reaches ${budget}, it writes down what it learned as questions and answers,
    trains them into its weights, and starts again with an empty context.</p>
  </div>`;
}
