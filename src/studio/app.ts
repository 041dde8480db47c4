/** The whole studio: head, chat, memory, and the regions in which it says what happened. */
import type { VNode } from 'preact';
import { useCallback, useEffect, useMemo, useState } from 'preact/hooks';
import { createApi, type Step } from './api.ts';
import { Chat, conversationKey } from './chat.ts';
import { type Operation, type Studio, StudioContext } from './context.ts';
import { useKeys } from './keys.ts';
import { Gauge, OperationStrip, type Tab, TabList, TabPanel } from './memory.ts';
import { SessionPicker } from './sessions.ts';
import { ThemeSwitch } from './theme.ts';
import { html, useMedia } from './ui.ts';
import { useSession } from './use-session.ts';

/** The session of a reader who has not chosen one. */
const FIRST_SESSION = 'default';
const NOTICE_MS = 8000;

interface Notice {
  readonly failed: boolean;
  readonly text: string;
}

const sessionOfAddress = () => location.hash.replace(/^#\/?/, '') || null;

export function App(): VNode {
  const { keys, given, dialog } = useKeys();
  const api = useMemo(() => createApi(keys), [keys]);
  const [notice, setNotice] = useState<Notice | null>(null);
  const tell = useCallback((text: string) => setNotice({ failed: false, text }), []);
  const fail = useCallback((error: unknown) => {
    if ((error as Error).name !== 'AbortError') setNotice({ failed: true, text: (error as Error).message });
  }, []);
  useEffect(() => {
    if (!notice || notice.failed) return;
    const timer = setTimeout(() => setNotice(null), NOTICE_MS);
    return () => clearTimeout(timer);
  }, [notice]);

  const [session, setSession] = useState(sessionOfAddress);
  const [sessions, setSessions] = useState<readonly string[]>([]);
  const listSessions = useCallback(async () => {
    const names = await api.sessions();
    setSessions(names);
    setSession((chosen) => chosen ?? names[0] ?? FIRST_SESSION);
  }, [api]);
  useEffect(() => {
    listSessions().catch((error) => {
      setSession((chosen) => chosen ?? FIRST_SESSION);
      fail(error);
    });
    const change = () => setSession((chosen) => sessionOfAddress() ?? chosen);
    addEventListener('hashchange', change);
    return () => removeEventListener('hashchange', change);
  }, [listSessions, fail, given]);
  const choose = useCallback((name: string) => {
    location.hash = `/${name}`;
    setSession(name);
  }, []);
  const [left, setLeft] = useState(0);
  const leave = useCallback(
    (name: string) => {
      sessionStorage.removeItem(conversationKey(name));
      setLeft((n) => n + 1);
      choose(sessions.find((other) => other !== name) ?? FIRST_SESSION);
    },
    [choose, sessions],
  );

  return html`
    ${session !== null && html`<${Workplace} key=${`${session} ${left}`} ...${{ api, session, sessions, given, listSessions, choose, leave, tell, fail }} />`}
    <div class="notices">
      <div role="alert">${notice?.failed && html`<${NoticeView} text=${notice.text} onClose=${() => setNotice(null)} />`}</div>
      <div role="status">${notice && !notice.failed && html`<${NoticeView} text=${notice.text} onClose=${() => setNotice(null)} />`}</div>
    </div>
    ${dialog}`;
}

function NoticeView({ text, onClose }: { readonly text: string; readonly onClose: () => void }): VNode {
  return html`<div class="notice"><p>${text}</p><button type="button" class="quiet" onClick=${onClose}>Dismiss</button></div>`;
}

type WorkplaceProps = Pick<Studio, 'api' | 'session' | 'sessions' | 'choose' | 'leave' | 'tell' | 'fail'> & {
  readonly given: number;
  readonly listSessions: () => Promise<void>;
};

/** One session: chat beside memory, or on a narrow screen one of them at a time. */
function Workplace({ api, session, sessions, given, listSessions, choose, leave, tell, fail }: WorkplaceProps): VNode {
  const { state, live, connected, refresh } = useSession(api, session, fail, given);
  const [operation, setOperation] = useState<Operation | null>(null);
  const wide = useMedia('(min-width: 900px)');
  const [tab, setTab] = useState<Tab>('chat');
  const shown = wide && tab === 'chat' ? 'now' : tab;

  const operate = useCallback(
    async <T>(label: string, run: (step: Step) => Promise<T>): Promise<T | undefined> => {
      const control = new AbortController();
      const stop = () => control.abort();
      const show = (message: string) => setOperation({ label, message, stop });
      show('');
      try {
        return await run({ signal: control.signal, onProgress: show });
      } catch (error) {
        fail(error);
        return undefined;
      } finally {
        setOperation(null);
        void refresh();
        void listSessions().catch(fail);
      }
    },
    [refresh, listSessions, fail],
  );

  const isBegun = state !== null;
  useEffect(() => {
    if (isBegun) void listSessions().catch(fail);
  }, [isBegun, listSessions, fail]);

  const writing = live.write !== null && live.write.stage !== 'done';
  const busy = operation !== null || writing || state?.busy === true;
  const studio: Studio = {
    ...{ api, session, sessions, state, live, busy, operation, operate, tell, fail, choose, leave, refresh },
  };
  return html`<${StudioContext.Provider} value=${studio}>
    <header class="head">
      <h1><svg viewBox="0 0 32 32" aria-hidden="true"><path d="M3 3h7v26H3zM13 3h16v7H13z" /><path d="M13 13h16v16H13z" opacity=".35" /></svg>tmem</h1>
      <${SessionPicker} />
      <p class="model" title="Model">${state?.model}</p>
      <a class="docs" href="/docs">Docs</a>
      <${ThemeSwitch} />
    </header>
    <main class="layout" data-tab=${shown}>
      <section class="chat" id="panel-chat" aria-label="Chat" hidden=${!wide && shown !== 'chat'}>
        <${Chat} />
      </section>
      <section class="memory" aria-label="Memory">
        <div class="memory-top">
          <${Gauge} />
          ${state && !connected && html`<p class="hint" role="status">The live view is not connected; trying again.</p>`}
          ${operation && html`<${OperationStrip} operation=${operation} />`}
        </div>
        <${TabList} tab=${shown} wide=${wide} onChoose=${setTab} />
        ${shown !== 'chat' && html`<${TabPanel} tab=${shown} />`}
      </section>
    </main>
  <//>`;
}
